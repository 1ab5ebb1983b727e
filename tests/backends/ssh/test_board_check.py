import pytest
from typer.testing import CliRunner

from backends.board_check import check_board
from backends.device.errors import UserError
from backends.hosts import Target, identity
from harness.cli.app import app

pytestmark = [pytest.mark.slow, pytest.mark.ssh]


def test_a_board_says_what_it_is_and_which_targets_it_can_be(board):
    ran = CliRunner().invoke(app, ["board", "check", "board"])
    assert ran.exit_code == 0
    here = identity(Target("t", "litert"))
    assert ran.output.startswith(f"board: {here['arch']}, {here['cpu']}, ")
    lines = ran.output.splitlines()
    assert f"litert {here['version']}" in [line.removesuffix("yes").rstrip() for line in lines if line.endswith("yes")]
    (missing,) = [line for line in lines if line.startswith("tflite_runtime")]
    assert "no: the Python of board has tflite-runtime not installed: ssh board 'python3 -m venv" in missing
    assert 'name = "board-litert"\nruntime = "litert"\nhost = "ssh"\naddress = "board"' in ran.output
    assert "board-tflite_runtime" not in ran.output


def test_a_board_that_cannot_be_reached_is_an_error(board):
    with pytest.raises(UserError, match="Permission denied"):
        list(check_board("denied", lambda word: None))

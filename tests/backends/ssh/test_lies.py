"""A board that lies, by the messages that bring files there and back, or by what its device answers."""

import pytest
from helpers import board as boards
from helpers import lying_board
from helpers.faraway import assert_nothing_runs, at_board, use

from backends import ssh_connection
from backends.hosts import availability, replay

pytestmark = [pytest.mark.slow, pytest.mark.ssh]

# What the error of every case has in it.
ERRORS = {
    "a relative home": "board: malformed message: Board.home: String should match pattern",
    "a home that goes up": "board: malformed message: Board.home: String should match pattern",
    "no machine": "board: malformed message: Board.machine",
    "a python of no version": "'three' is no version of Python",
    "nested": "board: malformed message: Invalid JSON: recursion limit exceeded",
    "half a line": "board: malformed message: Invalid JSON",
    "no newline": "board: no answer for 3 s",
    "greetings": "board: expected a message, got 10,000 other lines",
    "silence": "board: no answer for 3 s",
    "a file not offered": "board: asks for files that were not offered, or for one twice",
    "a path for a hash": "board: malformed message: Missing.missing.0: String should match pattern",
    "the same file twice": "board: asks for files that were not offered, or for one twice",
    "not ready": "board: malformed message: Ready.ready",
    "a result too long": "none.npz has 1,125,899,906,842,624 bytes, expected at most",
    "a negative result": "board: malformed message: Size.bytes",
    "an error in colours": "board: \N{REPLACEMENT CHARACTER}[2Jgone",
}
OF_A_CASE = {
    "nested": "malformed event: Invalid JSON: recursion limit exceeded",
    "early end": "the device ended without an answer for each, same",
    "another hash": "each.npz: differs from what the device wrote",
    "fewer outputs": "logits: expected float32 (200, 192), got float32 (200, 2)",
    "no newline": "malformed event: a line of more than 262,144 bytes",
}


def told(variable, errors):
    return [((variable, name), says) for name, says in errors.items()]


@pytest.fixture
def lying(tmp_path, monkeypatch, request):
    (tmp_path / "b").mkdir()
    env = lying_board.python(tmp_path / "env")
    variable, name = request.param
    with boards.running(tmp_path / "b", python=env, environment={variable: name}) as board:
        use(board, monkeypatch)
        yield board


def test_every_lie_is_told():
    assert set(ERRORS) == set(lying_board.LIES)


@pytest.mark.parametrize(("lying", "says"), told("BOARD_LIE", ERRORS), indirect=["lying"])
def test_a_lie_in_a_message_is_an_error_of_the_cases(tmp_path, bundle, monkeypatch, lying, says):
    if "no answer for 3 s" in says:
        monkeypatch.setattr(ssh_connection, "SILENCE_SECONDS", 3.0)
    outcome = replay(at_board("dummy"), bundle.root, tmp_path / "out", ["none"])
    assert not outcome.files
    assert says in outcome.errors["none"]
    assert not list((tmp_path / "out").glob("*")), "nothing is left of a result that was refused"
    assert_nothing_runs(lying)


@pytest.mark.parametrize("lying", [("BOARD_LIE", "a relative home"), ("BOARD_LIE", "silence")], indirect=True)
def test_a_lie_is_a_reason_for_not_being_available(monkeypatch, lying):
    monkeypatch.setattr(ssh_connection, "SILENCE_SECONDS", 3.0)
    assert availability(at_board("dummy")).startswith("board: ")


@pytest.mark.parametrize(("lying", "says"), told("LIE", OF_A_CASE), indirect=["lying"])
def test_a_lie_about_a_case_is_its_error_over_ssh_too(tmp_path, bundle, lying, says):
    outcome = replay(at_board("dummy"), bundle.root, tmp_path / "out")
    assert list(outcome.files) == ["none", "same"]
    assert says in outcome.errors["each"]
    assert outcome.by_device == {"each"}
    assert_nothing_runs(lying)

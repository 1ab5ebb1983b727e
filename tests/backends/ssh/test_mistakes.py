"""What a user can mend on a board, and the message for each."""

import shlex
import subprocess
import sys

import pytest
from helpers import board as boards
from helpers import tiny
from helpers.faraway import assert_same, at_board, bare, use

from backends import ssh_connection
from backends.device.artifact import sha256_file
from backends.hosts import Target, availability, identity, local, replay, ssh

pytestmark = [pytest.mark.slow, pytest.mark.ssh]


# What a user can mend.


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("gone", "Connection refused; `ssh gone true` must work without a question"),
        ("stranger", "Host key verification failed"),
        ("denied", "Permission denied"),
        ("", "host ssh needs an address"),
    ],
)
def test_a_board_out_of_reach_is_every_cases_error_and_no_former_result_counts(tmp_path, bundle, address, message):
    target = at_board(address=address)
    assert message in availability(target)
    there = replay(target, bundle.root, tmp_path / "out")
    assert len(there.errors) == 3
    assert all(message in said for said in there.errors.values())
    first = identity(target)
    assert first == identity(target)
    code = f"from backends.hosts import *; print(identity(Target('t', 'litert', host='ssh', address={address!r})))"
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=local.ROOT)
    assert first["unreachable"] not in other.stdout
    assert "unreachable" in other.stdout


@pytest.mark.parametrize(
    ("packages", "message"),
    [
        ([], "has no numpy: ssh board '"),
        (["numpy"], "has ai-edge-litert not installed: ssh board '"),
        (["numpy", "ai_edge_litert"], "has ai-edge-litert 2.3.0 installed: ssh board '"),
    ],
)
def test_a_board_that_lacks_something_says_what_to_install_where(tmp_path, bundle, monkeypatch, packages, message):
    (tmp_path / "b").mkdir()
    with boards.running(tmp_path / "b", python=bare(tmp_path / "bare", *packages)) as board:
        use(board, monkeypatch)
        target = at_board(version="1.0.0")
        there = replay(target, bundle.root, tmp_path / "out")
        assert len(there.errors) == 3
        (said,) = set(there.errors.values())
        assert message in said
        assert said == availability(target)
        assert "/bin/pip install numpy ai-edge-litert==1.0.0" in said
        (command,) = shlex.split(said.partition(": ")[2])[2:]  # for one more shell, there
        assert str(board.home / "venv") in shlex.split(command)


def test_a_board_without_python_says_so(tmp_path, bundle, monkeypatch):
    (tmp_path / "b").mkdir()
    (tmp_path / "path").mkdir()
    (tmp_path / "path/sh").symlink_to("/bin/sh")
    with boards.running(tmp_path / "b", None, {"PATH": str(tmp_path / "path")}) as board:
        use(board, monkeypatch)
        assert availability(at_board()).startswith("board has no python3: run ssh board sudo apt-get install")


def test_a_greeting_on_standard_output_does_no_harm(tmp_path, bundle, monkeypatch):
    greeting = """printf 'Welcome\\n{"board": 1}\\n[]\\n> '; eval "$SSH_ORIGINAL_COMMAND" """
    (tmp_path / "b").mkdir()
    here = replay(Target("t", "litert"), bundle.root, tmp_path / "here")
    with boards.running(tmp_path / "b", force=greeting) as board:
        use(board, monkeypatch)
        assert_same(replay(at_board(), bundle.root, tmp_path / "out"), here)


def test_a_board_that_cannot_keep_a_file_says_so_and_keeps_no_part_of_it(tmp_path, bundle, monkeypatch):
    (tmp_path / "b").mkdir()
    with boards.running(tmp_path / "b", force='ulimit -f 4; eval "$SSH_ORIGINAL_COMMAND"') as board:
        use(board, monkeypatch)
        there = replay(at_board(), bundle.root, tmp_path / "out")
        (said,) = set(there.errors.values())
        assert said.startswith("board: ")
        assert said.endswith(": File too large")
        assert all(sha256_file(path) == path.name for path in (board.home / "files").iterdir())


def test_a_file_that_arrives_changed_is_refused(tmp_path, board, monkeypatch):
    bundle = tiny.bundle(tmp_path / "new", tiny.onnx_file(tmp_path / "tiny.onnx"), n=17)

    def flip(talk, path):
        data = bytearray(path.read_bytes())
        data[0] ^= 1
        talk.write(data)

    monkeypatch.setattr(ssh_connection.Talk, "send", flip)
    there = replay(at_board("onnxruntime"), bundle.root, tmp_path / "out")
    (said,) = set(there.errors.values())
    assert "received sha256" in said


def test_a_result_that_arrives_changed_is_an_error_of_its_case(tmp_path, board, bundle, monkeypatch):
    fetch = ssh.fetch

    def flip(target, out, name, most):
        fetch(target, out, name, most)
        data = bytearray((out / name).read_bytes())
        data[100] ^= name == "each.npz"
        (out / name).write_bytes(data)

    monkeypatch.setattr(ssh, "fetch", flip)
    there = replay(at_board(), bundle.root, tmp_path / "out")
    assert sorted(there.files) == ["none", "same"]
    assert "differs from what the device wrote" in there.errors["each"]

import json
import shlex
import subprocess
import sys
import time
import venv
from pathlib import Path

import numpy as np
import pytest
from helpers import board as boards
from helpers import tiny

from backends import ssh_connection
from backends.device.artifact import sha256_file
from backends.hosts import Target, availability, identity, local, prepare, replay, ssh

pytestmark = [pytest.mark.slow, pytest.mark.ssh]
SLOW = Target("t", "dummy", host="ssh", address="board", options={"milliseconds": 12})


@pytest.fixture(scope="module")
def board(tmp_path_factory):
    with boards.running(tmp_path_factory.mktemp("board")) as board:
        yield board


@pytest.fixture(autouse=True)
def my_ssh(board, monkeypatch):
    use(board, monkeypatch)


@pytest.fixture
def bundle(tmp_path):
    return tiny.bundle(tmp_path / "my bundle", tiny.tflite_file(tmp_path / "tiny.tflite"), n=200)


def use(board, monkeypatch):
    """From now on these are the user's ssh and its board, and we know nothing of one yet."""
    monkeypatch.setenv("PATH", f"{board.bin}:/usr/local/bin:/usr/bin:/bin")
    monkeypatch.setattr(ssh_connection, "_reached", set())
    ssh._first_description.cache_clear()


def at_board(runtime="litert", **changes):
    return Target("t", runtime, **{"host": "ssh", "address": "board"} | changes)


def arrays(outcome):
    found = {}
    for name, path in outcome.files.items():
        with np.load(path, allow_pickle=False) as opened:
            found[name] = dict(opened)
    return found


def assert_same(found, expected):
    assert not found.errors
    found, expected = arrays(found), arrays(expected)
    assert list(found) == list(expected)
    for name in expected:
        assert set(found[name]) == set(expected[name])
        for key in expected[name]:
            np.testing.assert_array_equal(found[name][key], expected[name][key])


def assert_nothing_runs(board, seconds=5.0):
    until = time.monotonic() + seconds
    while board.devices() and time.monotonic() < until:
        time.sleep(0.05)
    assert board.devices() == []


def test_results_are_those_of_this_machine_and_nothing_is_sent_twice(tmp_path, board, bundle):
    here = replay(Target("t", "litert"), bundle.root, tmp_path / "here")
    wanted = {"warmup": 1, "runs": 20, "seconds": 0}
    there = replay(at_board(), bundle.root, tmp_path / "over there", latency=wanted)
    assert_same(there, here)
    assert there.machine | {"detected": 0} == here.machine | {"detected": 0}
    assert there.latency["n"] == len(np.load(tmp_path / "over there/latency.npy", allow_pickle=False)) == 20
    assert sorted(p.name for p in (tmp_path / "over there").iterdir()) == [
        "each.npz",
        "latency.npy",
        "none.npz",
        "same.npz",
    ]
    assert list((board.home / "runs").iterdir()) == []  # fetched, and gone from the board
    files = {path: path.stat().st_ino for path in (board.home / "files").iterdir()}
    assert all(sha256_file(path) == path.name for path in files)
    again = replay(at_board(), bundle.root, tmp_path / "again")
    assert_same(again, here)
    assert {path: path.stat().st_ino for path in (board.home / "files").iterdir()} == files
    assert_nothing_runs(board)


def test_the_device_side_is_sent_alone(tmp_path, board, bundle):
    replay(at_board(), bundle.root, tmp_path / "out", ["none"])
    (device,) = [tree for tree in (board.home / "trees").iterdir() if (tree / "backends").is_dir()]
    found = {p.relative_to(device).as_posix() for p in device.rglob("*.py")}
    expected = {"backends/__init__.py"} | {
        p.relative_to(local.ROOT).as_posix() for p in (local.ROOT / "backends/device").rglob("*.py")
    }
    assert found == expected


# A connection that breaks.


def test_a_dropped_connection_costs_nothing_but_time(tmp_path, board, bundle):
    here = replay(Target("t", "dummy"), bundle.root, tmp_path / "here")
    events = []

    def drop_once(event):
        events.append(event)
        loaded = sum(e["event"] == "loaded" for e in events)
        if event["event"] == "progress" and event["case"] == "each" and event["done"] > 50 and loaded == 1:
            board.drop()

    there = replay(SLOW, bundle.root, tmp_path / "out", on_event=drop_once)
    assert_same(there, here)
    assert [e["case"] for e in events if e["event"] == "case"] == ["none", "each", "same"]
    assert sum(e["event"] == "loaded" for e in events) == 2
    assert {p.name for p in (tmp_path / "out").iterdir()} == {"none.npz", "each.npz", "same.npz"}
    assert_nothing_runs(board)


def test_a_silent_connection_is_noticed_and_its_device_ended(tmp_path, board, bundle, monkeypatch):
    monkeypatch.setitem(ssh_connection.OPTIONS, "ServerAliveInterval", "1")
    here, frozen = replay(Target("t", "dummy"), bundle.root, tmp_path / "here"), []

    def freeze_once(event):
        if event["event"] == "progress" and event["case"] == "each" and not frozen:
            frozen.extend(board.devices())
            board.freeze()

    there = replay(SLOW, bundle.root, tmp_path / "out", on_event=freeze_once)
    assert_same(there, here)
    assert frozen
    assert_nothing_runs(board)


def test_a_connection_that_breaks_while_a_result_comes_is_made_again(tmp_path, board, bundle, monkeypatch):
    here, broken = replay(Target("t", "dummy"), bundle.root, tmp_path / "here"), []
    receive = ssh_connection.Talk.receive

    def break_once(talk, path, size):
        if not broken:
            broken.append(path)
            board.drop()
            time.sleep(0.2)
        receive(talk, path, 10**9 if len(broken) == 1 and broken.append(path) is None else size)

    monkeypatch.setattr(ssh_connection.Talk, "receive", break_once)
    assert_same(replay(SLOW, bundle.root, tmp_path / "out"), here)
    assert broken


def test_one_that_breaks_again_and_again_is_an_error_of_its_case_and_the_others_run(tmp_path, board, bundle):
    begun = []

    def drop(event):
        if event["event"] == "progress" and event["case"] == "each":
            begun.append(event["done"] == 0)
            board.drop()

    there = replay(SLOW, bundle.root, tmp_path / "out", on_event=drop)
    assert sorted(there.files) == ["none", "same"]
    assert there.errors["each"].startswith("the connection broke 3 times\n")
    assert sum(begun) == 3
    assert not (tmp_path / "out/each.npz").exists()
    assert_nothing_runs(board)


def test_a_board_that_does_not_come_back_is_an_error_of_all_that_is_left(tmp_path, bundle, monkeypatch):
    monkeypatch.setattr(ssh_connection, "PATIENCE_SECONDS", 1.0)
    (tmp_path / "b").mkdir()
    with boards.running(tmp_path / "b") as board:
        use(board, monkeypatch)

        def switch_off(event):
            if event["event"] == "case":
                board.process.kill()
                board.drop()

        there = replay(SLOW, bundle.root, tmp_path / "out", on_event=switch_off)
    assert list(there.files) == ["none"]
    assert sorted(there.errors) == ["each", "same"]
    assert all("Connection refused" in message for message in there.errors.values())


# Faults of the device, seen through ssh.


@pytest.mark.parametrize(
    ("fault", "message"),
    [("segv", "crash: SIGSEGV"), ("native hang", "hang: no event"), ("raise", "crash: exit code 1")],
)
def test_a_crash_or_a_hang_is_its_cases_error(tmp_path, board, bundle, fault, message):
    target = at_board("dummy", options={"fault": fault, "at": 250}, time_limit=4.0)
    there = replay(target, bundle.root, tmp_path / "out")
    assert sorted(there.files) == ["none", "same"]
    assert there.errors["each"].startswith(message)
    assert_nothing_runs(board)


def test_a_key_ends_the_device(tmp_path, board, bundle):
    def stop(event):
        if event["event"] == "loaded":
            assert len(board.devices()) >= 1
            raise KeyboardInterrupt

    target = at_board("dummy", options={"fault": "native hang", "at": 3})
    with pytest.raises(KeyboardInterrupt):
        replay(target, bundle.root, tmp_path / "out", on_event=stop)
    assert_nothing_runs(board)


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


def bare(folder, *packages):
    """An environment with nothing but these packages, which are links to ours."""
    venv.create(folder, with_pip=False, symlinks=True)
    (site,) = folder.glob("lib/python*/site-packages")
    for name in packages:
        for path in Path(np.__file__).parents[1].glob(f"{name}*"):
            (site / path.name).symlink_to(path)
    return folder


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
        talk.into.write(data)

    monkeypatch.setattr(ssh_connection.Talk, "send", flip)
    there = replay(at_board("onnxruntime"), bundle.root, tmp_path / "out")
    (said,) = set(there.errors.values())
    assert "received sha256" in said


def test_a_result_that_arrives_changed_is_an_error_of_its_case(tmp_path, board, bundle, monkeypatch):
    fetch = ssh.fetch

    def flip(target, out, name):
        fetch(target, out, name)
        data = bytearray((out / name).read_bytes())
        data[100] ^= name == "each.npz"
        (out / name).write_bytes(data)

    monkeypatch.setattr(ssh, "fetch", flip)
    there = replay(at_board(), bundle.root, tmp_path / "out")
    assert sorted(there.files) == ["none", "same"]
    assert "differs from what the device wrote" in there.errors["each"]


# What is known without running.


def test_a_board_describes_itself(board):
    found, here = identity(at_board()), identity(Target("t", "litert"))
    assert found["host"] == "ssh"
    for key in ("arch", "cpu", "python", "numpy", "version"):
        assert found[key] == here[key]
    assert json.loads(json.dumps(found)) == found
    assert availability(at_board()) is None
    assert "name another address" in availability(at_board(arch="pdp11"))
    words = []
    prepare(at_board(), words.append)
    assert words == ["asking board"]

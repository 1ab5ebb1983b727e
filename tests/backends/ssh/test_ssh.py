import json

import numpy as np
import pytest
from helpers.faraway import assert_nothing_runs, assert_same, at_board

from backends.device.artifact import sha256_file
from backends.device.errors import UserError
from backends.hosts import Target, availability, begin, identity, local, prepare, replay

pytestmark = [pytest.mark.slow, pytest.mark.ssh]


def test_results_are_those_of_this_machine_and_nothing_is_sent_twice(tmp_path, board, bundle):
    here = replay(Target("t", "litert"), bundle.root, tmp_path / "here")
    wanted = {"warmup": 1, "runs": 20, "seconds": 0}
    there = replay(at_board(), bundle.root, tmp_path / "over there", latency=wanted)
    assert_same(there, here)
    assert there.machine | {"detected": 0} == here.machine | {"detected": 0}
    assert there.latency.n == len(np.load(tmp_path / "over there/latency.npy", allow_pickle=False)) == 20
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
    assert not there.by_device, "the file or the runtime may do so on any board"
    assert_nothing_runs(board)


def test_a_key_ends_the_device(tmp_path, board, bundle):
    def stop(event):
        if event.event == "loaded":
            assert len(board.devices()) >= 1
            raise KeyboardInterrupt

    target = at_board("dummy", options={"fault": "native hang", "at": 3})
    with pytest.raises(KeyboardInterrupt):
        replay(target, bundle.root, tmp_path / "out", on_event=stop)
    assert_nothing_runs(board)


# What is known without running.


def test_a_board_describes_itself(board):
    found, here = identity(at_board()), identity(Target("t", "litert"))
    assert found["host"] == "ssh"
    for key in ("arch", "cpu", "python", "numpy", "version"):
        assert found[key] == here[key]
    assert json.loads(json.dumps(found)) == found
    assert availability(at_board()) is None
    assert "choose another address" in availability(at_board(arch="pdp11"))
    words = []
    prepare(at_board(), words.append)
    assert words == ["asking board"]


# What is sent.


def test_only_files_inside_the_bundle_are_sent(tmp_path, board, bundle):
    (tmp_path / "secret").write_text("of this machine")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/secret").write_text("of this machine")
    (bundle.root / "cases/folder").symlink_to(tmp_path / "folder")
    begin(at_board(), bundle.root, tmp_path / "out").close()  # without the check of the bundle that comes before
    assert {path.name for path in (board.home / "trees").rglob("*")} >= {"bundle.json", "stamps.npy"}
    assert not list(board.home.rglob("secret"))
    (bundle.root / "cases/file").symlink_to(tmp_path / "secret")
    with pytest.raises(UserError, match=f"cases/file: leads out of .* to {tmp_path}/secret; only files inside"):
        begin(at_board(), bundle.root, tmp_path / "out")

"""Targets on a board, and what is asserted of them."""

import time
import venv
from pathlib import Path

import numpy as np

from backends import ssh_connection
from backends.hosts import Target, ssh

SLOW = Target("t", "dummy", host="ssh", address="board", options={"milliseconds": 12})


def use(board, monkeypatch):
    """From now on these are the user's ssh and its board, and we know nothing of one yet."""
    use_ssh(board.bin, monkeypatch)


def use_ssh(folder, monkeypatch):
    """The same, with the ``ssh`` of a folder."""
    monkeypatch.setenv("PATH", f"{folder}:/usr/local/bin:/usr/bin:/bin:/usr/sbin")
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


def bare(folder, *packages):
    """An environment with nothing but these packages, which are links to ours."""
    venv.create(folder, with_pip=False, symlinks=True)
    (site,) = folder.glob("lib/python*/site-packages")
    for name in packages:
        for path in Path(np.__file__).parents[1].glob(f"{name}*"):
            (site / path.name).symlink_to(path)
    return folder

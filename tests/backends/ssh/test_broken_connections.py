"""A connection that breaks: nothing is lost but time."""

import time

import pytest
from helpers import board as boards
from helpers.faraway import SLOW, assert_nothing_runs, assert_same, use

from backends import ssh_connection
from backends.hosts import Target, replay

pytestmark = [pytest.mark.slow, pytest.mark.ssh]


# A connection that breaks.


def test_a_dropped_connection_costs_nothing_but_time(tmp_path, board, bundle):
    here = replay(Target("t", "dummy"), bundle.root, tmp_path / "here")
    events = []

    def drop_once(event):
        events.append(event)
        loaded = sum(e.event == "loaded" for e in events)
        if event.event == "progress" and event.case == "each" and event.done > 50 and loaded == 1:
            board.drop()

    there = replay(SLOW, bundle.root, tmp_path / "out", on_event=drop_once)
    assert_same(there, here)
    assert [e.case for e in events if e.event == "case"] == ["none", "each", "same"]
    assert sum(e.event == "loaded" for e in events) == 2
    assert {p.name for p in (tmp_path / "out").iterdir()} == {"none.npz", "each.npz", "same.npz"}
    assert_nothing_runs(board)


def test_a_silent_connection_is_noticed_and_its_device_ended(tmp_path, board, bundle, monkeypatch):
    monkeypatch.setitem(ssh_connection.OPTIONS, "ServerAliveInterval", "1")
    here, frozen = replay(Target("t", "dummy"), bundle.root, tmp_path / "here"), []

    def freeze_once(event):
        if event.event == "progress" and event.case == "each" and not frozen:
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
        if event.event == "progress" and event.case == "each":
            begun.append(event.done == 0)
            board.drop()

    # the first case: while a result of an earlier one comes, the device would go on
    there = replay(SLOW, bundle.root, tmp_path / "out", ["each", "same"], on_event=drop)
    assert list(there.files) == ["same"]
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
            if event.event == "case":
                board.switch_off()

        there = replay(SLOW, bundle.root, tmp_path / "out", on_event=switch_off)
    assert list(there.files) == ["none"]
    assert sorted(there.errors) == ["each", "same"]
    assert there.by_device == {"each", "same"}
    assert all("Connection refused" in message for message in there.errors.values())

"""A fleet: several boards under one name, real ones of sshd on loopback, one of which fails or lies."""

import json
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pandas as pd
import pytest
from helpers import board as boards
from helpers import lying_device
from helpers.brought import SUITE, write_suite
from helpers.faraway import use_ssh
from rich.console import Console

from backends import ssh_connection
from backends.device.errors import UserError
from backends.hosts import Fleet, Target, ssh
from harness.config import read_suite
from harness.plan.plan import make
from harness.results.run_directory import RunFacts, read_run
from harness.run.fleets import Cases, Queue
from harness.run.graph import graph, latencies
from harness.run.run import run_suite

TARGETS = SUITE.index("[[target]]")
LITERT = 'runtime = "litert"\n'
ANSWERS = ["artifact", "attack", "patch", "defence", "image", "status", "pred"]


def suite(folder: Path, target: str) -> Path:
    folder.mkdir(exist_ok=True)
    path = write_suite(folder)
    few = SUITE[:TARGETS].replace('defence = ["none", "median:3"]\n', "")
    path.write_text(f'{few}[[target]]\nname = "boards"\n{target}')
    return path


def run(folder: Path, target: str) -> tuple[RunFacts, pd.DataFrame, bool]:
    done = run_suite(suite(folder, target), folder, folder / "out", console=Console(quiet=True))
    records = pd.read_parquet(folder / "out/records.parquet")
    return read_run(folder / "out"), records[ANSWERS].reset_index(drop=True), done


def ran(folder: Path) -> list[dict[str, object]]:
    """What the stored replays say of who answered."""
    found = (json.loads(path.read_text()) for path in folder.glob("out/store/replay/*/ran.json"))
    return [one for one in found if "board" in one]


@contextmanager
def fleet(
    folder: Path, monkeypatch: pytest.MonkeyPatch, **settings: dict[str, object]
) -> Iterator[dict[str, boards.Board]]:
    """Boards ``a`` and ``b``, and an ssh that knows them and, in vain, ``gone``."""
    with ExitStack() as stack:
        found = {}
        for name in ("a", "b"):
            (folder / name).mkdir()
            found[name] = stack.enter_context(boards.running(folder / name, **settings.get(name, {})))
        (folder / "bin").mkdir()
        use_ssh(boards.together(folder / "bin", found), monkeypatch)
        yield found


@pytest.mark.slow
@pytest.mark.ssh
def test_a_board_that_is_switched_off_costs_nothing_but_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ssh_connection, "PATIENCE_SECONDS", 1.0)
    _, expected, _ = run(tmp_path / "here", LITERT)
    with fleet(tmp_path, monkeypatch) as known:

        def switch_off() -> None:
            while not known["b"].devices():
                time.sleep(0.02)
            known["b"].switch_off()

        watcher = threading.Thread(target=switch_off, daemon=True)
        watcher.start()
        facts, found, done = run(tmp_path / "there", f'host = "ssh"\naddress = ["a", "b"]\n{LITERT}')
        assert not watcher.is_alive()
    assert done
    pd.testing.assert_frame_equal(found, expected)
    a, b = facts.targets[-1].boards
    answered = Counter(one["board"] for one in ran(tmp_path / "there"))
    records = pd.read_parquet(tmp_path / "there/out/records.parquet")
    of_cells = records.groupby(["artifact", "attack", "patch", "defence"], observed=True)["board"].unique()
    assert Counter(board for (board,) in of_cells) == answered
    assert "board" not in pd.read_parquet(tmp_path / "here/out/records.parquet")
    assert (a.address, b.address) == ("a", "b")
    assert (a.replays, b.replays) == (answered["a"], answered["b"])
    assert not a.aside
    assert "Connection" in b.aside
    assert {one.board for one in facts.latency} == {"a"}
    check = next(check for check in facts.checks if check.name == "boards alike")
    assert "b of boards was set aside: " in check.says
    assert "set aside: " in (tmp_path / "there/out/report.html").read_text()


@pytest.mark.slow
@pytest.mark.ssh
def test_a_board_that_answers_otherwise_fails_a_check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    python = lying_device.python(tmp_path / "env").parents[1]
    lies = {"python": python, "environment": {"LIE": "other logits", "LIED_ABOUT": "none"}}
    with fleet(tmp_path, monkeypatch, b=lies):
        facts, _, _ = run(tmp_path / "there", f'host = "ssh"\naddress = ["gone", "a", "b"]\n{LITERT}')
    gone, *answering = facts.targets[-1].boards
    assert gone.replays == 0
    assert "`ssh gone true` must work" in gone.aside
    assert min(board.replays for board in answering) >= 1
    check = next(check for check in facts.checks if check.name == "boards alike")
    assert check.status == "failed"
    assert "a and b: 32 of 32 differ" in check.says or "b and a: 32 of 32 differ" in check.says
    assert check.where == ({"artifact": "resnet8", "target": "boards"},)
    cells = pd.read_csv(tmp_path / "there/out/cells.csv")
    assert cells["doubts"].str.contains("boards alike").all()


def target_of(folder: Path, address: str) -> Target:
    return read_suite(suite(folder, f'host = "ssh"\naddress = {address}\nruntime = "dummy"')).target[0].target()


def test_a_list_of_one_is_a_plain_address(tmp_path: Path) -> None:
    plain, one = target_of(tmp_path, '"pi@a"'), target_of(tmp_path, '["pi@a"]')
    assert one == plain
    assert type(one) is Target
    assert one.boards == (one,)


def test_each_board_of_a_fleet_is_a_target_of_its_own(tmp_path: Path) -> None:
    found = target_of(tmp_path, '["pi@a", "pi@b"]')
    assert isinstance(found, Fleet)
    assert found.boards == (target_of(tmp_path, '"pi@a"'), target_of(tmp_path, '"pi@b"'))


@pytest.mark.parametrize(
    ("host", "address", "message"),
    [
        ("ssh", "[]", "target.0.address: expected an address, or a list of them, got []"),
        ("ssh", '["pi@a", "pi@a"]', "address 'pi@a': the same board twice"),
        ("ssh", '["pi@a", "ssh://pi@a:22/"]', "address 'ssh://pi@a:22/': the same board twice"),
        ("ssh", '["pi@a", "-oProxyCommand=x"]', "address '-oProxyCommand=x': expected user@machine"),
        ("ssh", '["pi@a", 1]', "target.0.address: expected an address, or a list of them, got ['pi@a', 1]"),
        ("ssh", "1", "target.0.address: expected text or a list, got 1"),
        ("local", '["pi@a", "pi@b"]', "target.0: host local: a list of addresses is for boards, whose host is ssh"),
    ],
)
def test_a_list_that_is_no_fleet_is_a_line(tmp_path: Path, host: str, address: str, message: str) -> None:
    path = suite(tmp_path, f'host = "{host}"\naddress = {address}\nruntime = "dummy"')
    with pytest.raises(UserError) as error:
        read_suite(path)
    head, *faults = str(error.value).splitlines()
    assert head.startswith(str(path))
    assert len(faults) == 1
    assert message in faults[0]


def test_boards_take_every_case_once_and_end_together(tmp_path: Path) -> None:
    steps: Sequence[str] = [f"case {i}" for i in range(20)]
    several = [Cases(steps[:3], tmp_path / "one"), Cases(steps[3:], tmp_path / "two")]  # type: ignore[arg-type]
    found = Fleet("t", "dummy", host="ssh", address="a", others=("b", "c"))
    queue, taken = Queue(several, found.boards), []
    while cases := queue.take():
        taken.append(cases)
    assert [step for cases in taken for step in cases.steps] == steps
    assert all(cases.root == (tmp_path / "one" if "case 0" in cases.steps else tmp_path / "two") for cases in taken)
    assert [len(cases.steps) for cases in taken] == [3, 6, 4, 3, 2, 1, 1]


def test_a_cluster_gives_a_fleet_to_one_worker_that_has_all_its_boards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ssh, "_first_description", lambda address, package: None)  # nobody answers
    path = suite(tmp_path, 'host = "ssh"\naddress = ["a", "b"]\nruntime = "dummy"')
    plan = make(read_suite(path), tmp_path, None)
    needs = [node.needs for node in graph(plan).values() if node.stage == "replay"]
    needs += [node.needs for node in latencies(plan).values()]
    assert len(needs) > 1
    assert all(need == {"board:a": 1.0, "board:b": 1.0} for need in needs)

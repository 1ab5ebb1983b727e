"""A fleet on a cluster: its boards, sshds on loopback, are those of one worker, which is the one that reaches most."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path

import pandas as pd
import pytest
from helpers import board as boards
from helpers.brought import SUITE, write_suite
from helpers.command import patchbench
from helpers.dask import line, started
from helpers.required import absent

from harness.results.run_directory import read_run

pytestmark = [pytest.mark.slow, pytest.mark.ssh]

TARGETS = SUITE.index("[[target]]")
PATH = "/usr/local/bin:/usr/bin:/bin:/usr/sbin"
TARGET = '[[target]]\nname = "{name}"\nruntime = "litert"\nbatch = {batch}\n'
FLEET = 'host = "ssh"\naddress = ["a", "b"]\n'


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, boards.Board]]:
    """The boards ``a`` and ``b``."""
    if not find_spec("distributed"):
        absent("distributed", "it is not installed: pip install 'patchbench[cluster]'")
    with ExitStack() as stack:
        folders = {name: tmp_path_factory.mktemp(name) for name in ("a", "b")}
        yield {name: stack.enter_context(boards.running(folder)) for name, folder in folders.items()}


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A suite of two targets that are the same fleet."""
    return write(tmp_path_factory.mktemp("suite"), FLEET)


@pytest.fixture(scope="module")
def expected(suite: Path) -> pd.DataFrame:
    """The records of a run of the same targets on this machine."""
    here = write(suite.parent / "here", "")
    done = patchbench("run", here, "--data", here.parent, "--out", "alone", cwd=suite.parent)
    assert done.returncode == 0, done.stdout + done.stderr
    return answers(suite, "alone")


def write(folder: Path, host: str) -> Path:
    folder.mkdir(exist_ok=True)
    path = write_suite(folder)
    few = SUITE[:TARGETS].replace('defence = ["none", "median:3"]\n', "").replace("evaluate = 40", "evaluate = 36")
    path.write_text(few + "".join(TARGET.format(name=name, batch=n) + host for name, n in (("one", 1), ("eight", 8))))
    return path


def answers(suite: Path, out: str) -> pd.DataFrame:
    records = pd.read_parquet(suite.parent / out / "records.parquet")
    return records[["artifact", "target", "attack", "patch", "image", "status", "pred"]]


def reaching(folder: Path, known: Mapping[str, boards.Board], *names: str) -> dict[str, str]:
    """An environment whose ssh reaches these boards alone."""
    folder.mkdir()
    boards.together(folder, {name: known[name] for name in names})
    with (folder / "config").open("a") as config:
        for name in known.keys() - set(names):
            config.write(f"Host {name}\n  HostName 127.0.0.1\n  Port {boards.free_port()}\n")
    return {"PATH": f"{folder}:{PATH}"}


def test_two_workers_never_use_a_board_at_once(
    tmp_path: Path, known: dict[str, boards.Board], suite: Path, expected: pd.DataFrame
) -> None:
    """One of them asks all that is asked of the boards."""
    environment = reaching(tmp_path / "bin", known, "a", "b")
    ssh = (tmp_path / "bin/ssh").read_text().splitlines()
    log = r"""echo "$PPID $(tr '\0' ' ' < /proc/$PPID/cmdline) $*" >> """ + f'"{tmp_path}/asked"'
    (tmp_path / "bin/ssh").write_text("\n".join([ssh[0], log, *ssh[1:], ""]))
    words = ("run", suite, "--data", suite.parent, "--out", "two", "--cluster", "local:2")
    done = patchbench(*words, cwd=suite.parent, **environment)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "among 2 workers" in done.stdout
    asked = [one for one in (tmp_path / "asked").read_text().splitlines() if "spawn_main" in one]
    assert len({one.split()[0] for one in asked}) == 2  # both were asked whether they reach them
    assert len({one.split()[0] for one in asked if "backends.device.replay" in one}) == 1
    pd.testing.assert_frame_equal(answers(suite, "two"), expected)
    for target in read_run(suite.parent / "two").targets:
        assert all(board.replays >= 1 and not board.aside for board in target.boards)


def test_a_worker_replays_on_the_boards_that_it_reaches_and_the_one_that_reaches_most_is_asked(
    tmp_path: Path, known: dict[str, boards.Board], suite: Path, expected: pd.DataFrame
) -> None:
    port = boards.free_port()
    scheduler = ["distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", port, "--no-dashboard"]
    worker = ["distributed.cli.dask_worker", f"tcp://127.0.0.1:{port}", "--nthreads", "1", "--no-dashboard"]
    words = ("run", suite, "--data", suite.parent, "--cluster", f"tcp://127.0.0.1:{port}", "--out")
    both = reaching(tmp_path / "both", known, "a", "b")
    with started(scheduler, suite) as process:
        line(process, "Scheduler at")
        with (
            started(worker, suite, **reaching(tmp_path / "none", known)) as none,
            started(worker, suite, **reaching(tmp_path / "b", known, "b")) as one,
        ):
            with started(worker, suite, **both) as two:
                for each in (none, one, two):
                    line(each, "Registered to")
                done = patchbench(*words, "most", cwd=suite.parent, **both)
                assert done.returncode == 0, done.stdout + done.stderr
                assert "among 3 workers" in done.stdout
            done = patchbench(*words, "least", cwd=suite.parent, **both)
            assert done.returncode == 0, done.stdout + done.stderr
            assert "among 2 workers" in done.stdout
    for out in ("most", "least"):
        pd.testing.assert_frame_equal(answers(suite, out), expected)
    for target in read_run(suite.parent / "most").targets:
        assert all(board.replays >= 1 and not board.aside for board in target.boards)
    for target in read_run(suite.parent / "least").targets:
        a, b = target.boards
        assert (a.replays, bool(a.aside), b.aside) == (0, True, "")
        assert b.replays >= 1

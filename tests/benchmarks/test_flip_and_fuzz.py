"""The campaigns that damage files and make them up: what they see."""

import multiprocessing
from pathlib import Path

import pytest
from helpers import ROOT

from backends.device.errors import UserError


def refuse():
    raise UserError("x")


def fail():
    raise KeyError("x")


def grow():
    return len(bytearray(600 << 20))


def leave():
    return list(Path("/opt").iterdir())


def write_outside():
    Path("../canary.txt").write_text("x")


@pytest.mark.parametrize(
    ("case", "outcome"), [(refuse, "refused"), (fail, "traceback"), (grow, "memory"), (leave, "escape"),
                          (write_outside, "escape"), (lambda: Path("x").write_text("x"), "accepted")]
)  # fmt: skip
def test_a_watch_tells(monkeypatch, tmp_path, case, outcome):
    """In a process of its own, because it never stops listening."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks" / "trust"))
    folder = tmp_path / "files"
    folder.mkdir()
    monkeypatch.chdir(folder)
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("fork").Process(target=watched, args=(folder, case, theirs))
    process.start()
    assert ours.recv()[0] == outcome
    process.join()


def watched(folder: Path, case, pipe) -> None:
    from watch import Watch

    watch = Watch([folder], trusted=False)
    watch.learn(lambda: None)
    pipe.send(tuple(watch.run(case)))

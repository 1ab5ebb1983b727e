"""Where a fault is inflicted: a folder of its own, with a run that has come to a stage, or a bundle."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import NamedTuple

from campaign import SUITE, Ended, patchbench
from processes import naming
from same import differences, drafts

STAGES = ("data", "victim", "artifact", "patch", "replay")  # folders of the store, in the order of a run
BEFORE = {"train": "victim", "export": "artifact", "craft": "patch", "replay": "replay"}


class NotHere(Exception):
    """A fault that cannot be inflicted on this machine."""


class Observed(NamedTuple):
    """What came of a fault: how the command ended, the exit codes that will do, and what else is wrong."""

    what: str
    ended: Ended
    codes: tuple[int, ...]
    objection: str = ""


@dataclass(frozen=True)
class Site:
    """An empty folder, a finished run that nothing disturbed, and a source of chance."""

    folder: Path
    whole: Path
    chance: Random

    def run_before(self, stage: str, into: Path | None = None) -> Path:
        """Copy the run directory as it was before a stage: train, export, craft, replay or write."""
        run_dir = into or self.folder / "run"
        shutil.copytree(self.whole, run_dir, dirs_exist_ok=True)
        for path in run_dir.iterdir():
            if path.name not in ("store", ".lock"):
                _remove(path)
        if stage != "write":
            kept = STAGES[: STAGES.index(BEFORE[stage])]
            for path in (run_dir / "store").iterdir():
                if path.name not in (*kept, "unfinished", "checkpoints"):
                    _remove(path)
        return run_dir

    def bundle(self) -> Path:
        """Pack the clean images with the ONNX file of the run, once for all."""
        packed = self.folder.parent / "bundle"
        if not packed.is_dir():
            (description,) = (self.whole / "artifacts").glob("*onnx*.json")
            made = patchbench("bundle", SUITE, "--artifact", description, "--into", packed, folder=self.folder.parent)
            if made.code != 0:
                raise NotHere(f"no bundle was made: {made.line}")
        return Path(shutil.copytree(packed, self.folder / "bundle"))

    def left(self, run_dir: Path) -> str:
        """Say what is left over of a command: drafts, and processes that name this folder."""
        running = naming(self.folder)
        words = [f"running: {' '.join(process.cmdline())[:80]}" for process in running]
        for process in running:
            process.kill()
        return "; ".join([*words, *(f"left over: {path}" for path in drafts(run_dir))])

    def goes_on(self, run_dir: Path) -> str:
        """Run to the end without the fault; say what differs from the run that nothing disturbed."""
        ended = patchbench("run", SUITE, "--out", run_dir, folder=self.folder)
        if ended.code != 0:
            return f"cannot go on: exit code {ended.code}, {ended.line}"
        return "; ".join(differences(self.whole, run_dir))


Fault = Callable[[Site], Iterator[Observed]]


def both(*objections: str) -> str:
    """Join what is wrong."""
    return "; ".join(filter(None, objections))


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()

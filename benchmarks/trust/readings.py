"""What patchbench concludes from files: a reading in this process, and the same by the command line.

`flip` damages the files of a small run, and compares what its readings give with what they gave before.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

import numpy as np
import pandas as pd

import harness.run.run as runs
from backends.device.bundle import Bundle
from backends.device.replay import Request, replay
from harness.console import console
from harness.gate import render
from harness.gate.judge import judge
from harness.gate.rules import DEFAULT
from harness.results.baseline import freeze, patches_of, read
from harness.store import Store
from patches.patch import ARRAYS, Patch

FACTS = (
    "data",
    "victims",
    "artifacts",
    "patches",
    "cases",
    "outputs",
    "again",
    "arithmetic",
    "elsewhere",
    "agreement",
    "errors",
)
MEASURED_ANEW = ("seconds", "loss")  # of a patch that was crafted again


class MadeAgain(Exception):
    """A result was found damaged, and is about to be made again."""


class Reading(NamedTuple):
    """One way to read a folder: `inside` returns what it gives, `written` what the command `words` left in `out`."""

    name: str
    inside: Callable[[Path, Path], object]
    words: Callable[[Path, Path], Sequence[object]] | None = None
    written: Callable[[Path, Path], object] | None = None


def replayed(runtime: str) -> Reading:
    """Replay a bundle, and compare all logits."""

    def inside(folder: Path, out: Path) -> object:
        bundle = Bundle.read(folder)
        replay(bundle, out, Request(runtime, tuple(case.name for case in bundle.cases), {}), lambda *_, **__: None)
        return written(folder, out)

    def written(folder: Path, out: Path) -> object:
        files = sorted(out.glob("*.npz"))
        if not files:
            raise FileNotFoundError(out)
        return {file.name: np.load(file)["logits"].tobytes() for file in files}

    return Reading(
        "replay", inside, lambda folder, out: ("replay", folder, "--runtime", runtime, "--into", out), written
    )


def gated(baseline: Path, run: Path) -> Reading:
    """Judge a run against a baseline, either of which lies in the folder, and compare the verdicts."""

    def inside(folder: Path, out: Path) -> object:
        verdict = judge(read(folder / baseline), read(folder / run), DEFAULT)
        (out / "verdict.json").write_text(render.as_json(verdict))
        return written(folder, out)

    def written(folder: Path, out: Path) -> object:
        return json.loads((out / "verdict.json").read_text())

    def words(folder: Path, out: Path) -> Sequence[object]:
        return "gate", folder / baseline, folder / run, "--json", out / "verdict.json"

    return Reading("gate", inside, words, written)


def frozen() -> Reading:
    """Freeze a run, and compare the baselines."""

    def inside(folder: Path, out: Path) -> object:
        freeze(folder, out / "baseline.json")
        return written(folder, out)

    def written(folder: Path, out: Path) -> object:
        return (out / "baseline.json").read_text()

    return Reading("baseline", inside, lambda folder, out: ("baseline", folder, "-o", out / "baseline.json"), written)


def with_nothing_to_do(suite: Path) -> Reading:
    """Run a suite that was run, and compare the results that it leaves there as they are."""

    def inside(folder: Path, out: Path) -> object:
        with patch.object(runs, "run_stages", side_effect=MadeAgain):
            _run(suite, folder)
        return written(folder, out)

    def written(folder: Path, out: Path) -> object:
        records = pd.read_parquet(folder / "records.parquet").to_csv()
        return records, json.loads((folder / "summary.json").read_text()), _facts(_json(folder / "run.json"))

    return Reading("run", inside, lambda folder, out: ("run", suite, "--out", folder), written)


def from_store(suite: Path) -> Reading:
    """Count a run anew from its store, and compare records and facts; whatever is made again ends it early."""
    counted: list[object] = []

    def capture(run_dir: Path, found: object, run: Any) -> None:
        facts = json.loads(json.dumps(run.plain(), default=str))
        counted[:] = [pd.read_parquet(run_dir / "records.parquet").to_csv(), _facts(facts), facts["latency"]]

    def inside(folder: Path, out: Path) -> object:
        (folder / "run.json").unlink()
        with (
            patch.multiple(runs, write_results=capture, _print_results=lambda *_: True),
            patch.object(Store, "writing", side_effect=MadeAgain),
        ):
            _run(suite, folder)
        return list(counted)

    def words(folder: Path, out: Path) -> Sequence[object]:
        (folder / "run.json").unlink()
        return "run", suite, "--out", folder

    def written(folder: Path, out: Path) -> object:
        return pd.read_parquet(folder / "records.parquet").to_csv(), _facts(_json(folder / "run.json"))

    return Reading("run", inside, words, written)


def unpacked() -> Reading:
    """Take the patches out of a baseline, and compare them."""

    def inside(folder: Path, out: Path) -> object:
        taken = patches_of(folder / "baseline.json")
        return {name: (one.patch.sha256, one.weights) for name, one in taken.items()}

    return Reading("patches", inside)


def pasted(suite: Path, artifact: Path) -> Reading:
    """Read a patch, and compare all of it; by the command line, the bundle that it is packed into."""

    def inside(folder: Path, out: Path) -> object:
        found = asdict(Patch.read(next(folder.glob("*.npz"))))
        return {name: _digest(value) if name in ARRAYS else value for name, value in found.items()}

    def words(folder: Path, out: Path) -> Sequence[object]:
        file = next(folder.glob("*.npz"))
        return "bundle", suite, "--artifact", artifact, "--patch", file, "--into", out / "bundle"

    def written(folder: Path, out: Path) -> object:
        return _json(out / "bundle" / "bundle.json")

    return Reading("bundle", inside, words, written)


def _run(suite: Path, folder: Path) -> None:
    said = io.StringIO()
    try:
        runs.run_suite(suite, None, folder, console=console(1000, said))
    except MadeAgain as made:
        raise MadeAgain(said.getvalue()) from made


def _facts(run: dict[str, Any]) -> dict[str, Any]:
    facts = {name: run[name] for name in FACTS}
    for entry in facts["patches"]:
        entry["checks"] = {name: value for name, value in entry["checks"].items() if name not in MEASURED_ANEW}
    return facts


def _json(file: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(file.read_text())
    return content


def _digest(array: np.ndarray | None) -> str:
    return (
        "" if array is None else hashlib.sha256(f"{array.dtype} {array.shape}".encode() + array.tobytes()).hexdigest()
    )

"""Run a suite, and read the results of a finished run as tables."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pandas as pd

from harness.console import console
from harness.results import record_files, run_directory
from harness.shipped import suite_file
from patches.patch import Patch

Setting = str | int | float | bool | list[str] | list[int] | list[float]


@dataclass(frozen=True, eq=False)
class Run:
    """A finished run. Whatever is read from its directory is verified first: another run's file is a `UserError`."""

    path: Path
    """Its directory."""

    facts: run_directory.RunFacts
    """What was attacked, with what and where, and the checks of the run: the contents of ``run.json``."""

    @cached_property
    def cells(self) -> pd.DataFrame:
        """A row per cell: what identifies it, then counts, rates (fractions) and their 95 % intervals.

        A cell whose `status` is ``error`` has no rates: an error is not a success.
        """
        return pd.DataFrame(run_directory.read_summary(self.path, self.facts).cells)

    @cached_property
    def records(self) -> pd.DataFrame:
        """A row per image and cell: what identifies the cell, then label, status, prediction and margin."""
        return record_files.read_records(self.path, self.facts)

    @cached_property
    def patches(self) -> dict[str, Patch]:
        """The patches and controls by name, as in the column `patch` of `cells`."""
        found = {}
        for entry in self.facts.patches:
            name = str(Path(entry.file).with_suffix(".npz"))
            run_directory.verify(self.path, self.facts, name)
            found[entry.name] = Patch.read(self.path / name)
        return found

    @property
    def report(self) -> Path:
        """The report, one page that opens offline."""
        return self.path / run_directory.REPORT


def load_run(run_dir: str | Path) -> Run:
    """Read a finished run; a directory without one is a `UserError`."""
    path = Path(run_dir)
    return Run(path, run_directory.read_run(path))


def run(
    suite: str | Path,
    *,
    data: str | Path | None = None,
    out: str | Path | None = None,
    settings: Mapping[str, Setting] | None = None,
    limit: int | None = None,
    targets: Sequence[str] = ("*",),
    label: str = "",
    device: str = "cpu",
    store: str = "",
    cluster: str = "",
    quiet: bool = False,
) -> Run:
    """Run a suite end to end: train, export, craft, replay, report. A second run does only what is new.

    Cells that fail are errors in the result, and raise nothing.

    Args:
        suite: The suite's TOML file, or the name of one that ships, such as ``demo``.
        data: The folder that the suite's paths start from; by default ``$PATCHBENCH_DATA``.
        out: The run's directory; by default ``out/SUITE``.
        settings: Keys of the suite to change, such as ``{"attack.gap.options.steps": 50}``.
        limit: The most images to evaluate on.
        targets: Patterns of the targets' names: only these run.
        label: What the run is called in lists of runs.
        device: What patches are crafted on: ``cpu``, ``cuda`` or ``cuda:N``.
        store: The URL of a store that runs share, such as ``s3://bucket/prefix``; by default ``$PATCHBENCH_STORE``.
        cluster: Whose workers do it, as for ``--cluster``, such as ``local:2``.
        quiet: Print nothing, neither progress nor the table of results.
    """
    from harness.config import Overrides, read_suite
    from harness.run.run import run_suite

    file = suite_file(str(suite))
    folder = data or os.environ.get("PATCHBENCH_DATA")
    overrides = Overrides(tuple(f"{key}={json.dumps(value)}" for key, value in (settings or {}).items()), limit)
    run_dir = Path(out) if out else Path("out") / read_suite(file, overrides).name
    given = {"--data": [folder], "--out": [out], "--set": overrides.settings, "--limit": [limit], "--targets": targets,
             "--store": [store or None], "--cluster": [cluster or None]}  # fmt: skip
    run_suite(
        file, Path(folder) if folder else None, run_dir, overrides=overrides, targets=tuple(targets), device=device,
        label=label, command=_command(suite, given), store=store or os.environ.get("PATCHBENCH_STORE", ""),
        cluster=cluster, console=console(quiet=quiet),
    )  # fmt: skip
    return load_run(run_dir)


def _command(suite: str | Path, given: Mapping[str, Sequence[object]]) -> str:
    """Return the command line that does the same."""
    words = ["patchbench", "run", str(suite)]
    for option, values in given.items():
        for value in values:
            if value is not None:
                words += [option, str(value)]
    return shlex.join(words)

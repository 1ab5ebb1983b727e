"""A target beside a board: the same files, patches and images on both, and how far their answers are apart."""

from __future__ import annotations

import shlex
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from rich.console import Console

from backends.device.errors import UserError, did_you_mean
from backends.device.toolchains import ON_BOARDS
from backends.hosts import availability
from harness.config import Suite, TargetTable, read_suite
from harness.config.overrides import NO_OVERRIDES, Overrides
from harness.display import Display
from harness.plan.plan import make
from harness.results.entries import ErrorEntry
from harness.results.gathering import outcomes
from harness.results.measured import AgreementEntry
from harness.results.paired import Paired, targets
from harness.results.record_files import read_outcomes
from harness.results.run_directory import RUN, read_run
from harness.run.run import data_folder, held, run_stages, warn_of_targets, write_run_directory
from harness.run.run_json import Timing
from harness.run.stages import Work
from harness.shipped import about_suite
from harness.store import Store
from harness.tables import validate


class Compared(NamedTuple):
    """What a target and a board answered: their names, how alike, with what success, and what failed."""

    names: tuple[str, ...]
    agreement: tuple[AgreementEntry, ...]
    success: tuple[Paired, ...]
    errors: tuple[ErrorEntry, ...]
    report: Path

    @property
    def equal(self) -> bool:
        """Whether all answers are there and equal, value for value."""
        return bool(self.agreement) and not self.errors and not any(one.values_differ for one in self.agreement)


def compare(
    suite_file: Path,
    data_dir: Path | None,
    target: str,
    address: str,
    *,
    runtime: str = "",
    overrides: Overrides = NO_OVERRIDES,
    out: Path | None = None,
    console: Console,
) -> Compared:
    """Replay a suite's cases on one of its targets and on a board, into a run directory of their own.

    ``runtime`` is the board's where it is neither the chip's own nor the target's. What a run of the suite has in its
    store is not done again.
    """
    begun, started = time.monotonic(), datetime.now(UTC).isoformat(timespec="seconds")
    suite = beside(read_suite(suite_file, overrides), target, address, runtime)
    folder = data_folder(suite, suite_file, data_dir)
    run_dir = out or Path("out") / f"{suite.name}-{target}-board"
    made = Path("out") / suite.name
    with held(made), held(run_dir), about_suite(suite_file):
        display = Display(console)
        store = Store(made / "store", display.warn)
        work = Work(make(suite, folder, store.root), store, display)
        warn_of_targets(work)
        if reason := availability(work.plan.targets[-1]):
            raise UserError(f"{address}: cannot be compared with {target}: {reason}")
        (run_dir / RUN).unlink(missing_ok=True)  # nobody shall take an older comparison for this one
        run_stages(work)
        command = shlex.join(["patchbench", *sys.argv[1:]])
        write_run_directory(work, run_dir, Timing(started, time.monotonic() - begun, command))
        run = read_run(run_dir)
        known = outcomes(read_outcomes(run_dir, run))
    names = tuple(one.name for one in suite.target)
    return Compared(names, run.agreement, tuple(targets(known)), run.errors, run_dir / "report.html")


def beside(suite: Suite, target: str, address: str, runtime: str = "") -> Suite:
    """Return a suite with one of its targets alone, and the board that is to answer as it does.

    Where the target's runtime simulates a chip, the board's is that of the chip itself, as `ON_BOARDS` has it.
    """
    names = [one.name for one in suite.target]
    if target not in names:
        raise UserError(f"{suite.name} has no target {target!r}; {did_you_mean(target, names)}")
    chosen = suite.target[names.index(target)]
    runtime = runtime or ON_BOARDS.get(chosen.runtime, "")
    settings = chosen.model_dump(include={"batch", "threads", "time_limit"}) | {
        "name": f"{target}-board",
        "runtime": runtime or chosen.runtime,
        "host": "ssh",
        "address": address,
        "options": {} if runtime else chosen.options,
    }
    board = validate(settings, TargetTable, f"board {address}: not a target")
    return suite.model_copy(update={"target": [chosen, board]})

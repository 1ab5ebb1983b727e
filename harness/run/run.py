"""Run a suite, and write its results where a user looks for them."""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
from filelock import FileLock, Timeout
from rich.console import Console
from rich.text import Text

from backends.device.defences import many_passes
from backends.device.errors import UserError
from backends.device.reading import DamagedFile
from backends.hosts import availability
from harness import shared_store
from harness.config import Suite, read_suite
from harness.config.overrides import NO_OVERRIDES, Overrides
from harness.display import Display
from harness.extras import require
from harness.plan.cells import Cell
from harness.plan.licences import unaccepted
from harness.plan.plan import Plan, make
from harness.plan.steps import TORCH
from harness.plan.warnings import warnings
from harness.results.baseline import patches_of
from harness.results.gathering import Splits
from harness.results.judged import judged
from harness.results.record_files import IN_ONE_FILE, read_outcomes, write_records, written_outcomes
from harness.results.records import Truth, records
from harness.results.run_directory import (
    CELLS,
    REPORT,
    RUN,
    SUMMARY,
    RunFacts,
    read_run,
    read_summary,
    verify,
    write_cells,
    write_run,
    write_summary,
)
from harness.run import crafting, deployments, replays, shared_results, stages, twin_check
from harness.run.cluster import carry_out
from harness.run.run_json import Timing, commit, describe_run
from harness.run.tasks import batches, expected, known_times, tasks
from harness.run.worker import Job
from harness.shipped import about_suite
from harness.store import Store

DERIVED = (CELLS, SUMMARY, REPORT)  # from the other files of a run


def run_suite(
    suite_file: Path,
    data_dir: Path | None,
    out: Path | None,
    *,
    overrides: Overrides = NO_OVERRIDES,
    targets: tuple[str, ...] = ("*",),
    device: str = "cpu",
    frozen: Path | None = None,
    label: str = "",
    command: str = "",
    quiet: bool = False,
    cluster: str = "",
    store: str = "",
    console: Console,
) -> bool:
    """Run a suite into a run directory, reusing what is stored there; return whether no cell failed.

    ``frozen`` is a baseline whose patches are replayed where the weights are those that they were crafted on, ``label``
    what the run is called in lists of runs, ``command`` what repeats it, by default the command line of this process.
    ``cluster`` is whose workers do it: an address of Dask, ``local:N``, or a kind and its file. ``store`` is the URL of
    a store that this run shares with others.
    """
    begun = time.monotonic()
    started = datetime.now(UTC).isoformat(timespec="seconds")
    suite = read_suite(suite_file, overrides)
    stages.check_device(device)
    deployment = deployments.read(cluster) if cluster else None
    place = shared_store.read(store) if store else None
    folder = data_folder(suite, suite_file, data_dir)
    run_dir = out or Path("out") / suite.name
    with held(run_dir):
        display = Display(console, quiet)
        results = Store(run_dir / "store", display.warn)
        known = patches_of(frozen) if frozen else {}
        frozen_patches = {name: (p.sha256, w) for name, (p, w) in known.items()}
        with about_suite(suite_file):
            plan = make(suite, folder, results.root, targets, frozen_patches)
        for line in warnings(plan):
            display.warn(line)
        work = stages.Work(plan, results, display, device, {name: patch for name, (patch, _) in known.items()})
        if place:
            shared_results.connect(work, place)
        if _is_done(run_dir, plan, display):
            _stamp(run_dir, label)
            console.print("nothing has changed since the last run: nothing to do")
        else:
            shared_results.download(work)
            warn_of_targets(work)
            (run_dir / RUN).unlink(missing_ok=True)  # nobody shall take an older verdict for this run's
            _expect(work)
            with about_suite(suite_file):
                if deployment:
                    job = Job.of(work, suite_file, overrides, targets, frozen)
                    carry_out(work, job, deployment, cluster)
                else:
                    run_stages(work)
            display.say("counting and writing the report ...")
            given = command or shlex.join(["patchbench", *sys.argv[1:]])
            write_run_directory(work, run_dir, Timing(started, time.monotonic() - begun, given, label))
        return _print_results(run_dir, console)


def write_run_directory(work: stages.Work, run_dir: Path, timing: Timing) -> None:
    """Write what a plan's results come to, once they are in the store: records, cells, report and run.json."""
    _write_records(work, run_dir)
    found = written_outcomes(run_dir)
    write_results(run_dir, found, describe_run(work, found, run_dir, timing))


def write_results(run_dir: Path, found: Splits | None = None, run: RunFacts | None = None) -> Path:
    """Write cells, summary, report and, last, run.json; return the report's path.

    What is not given is read from the run directory, whose files are verified first. Outcomes are those of the records.
    """
    from harness.report.page import build

    if run is None:
        run = read_run(run_dir)
        verify(run_dir, run, *(name for name in run.files if name not in DERIVED))
    known = judged(run.model_copy(update={"checks": ()}), found or read_outcomes(run_dir, run))
    run = run.model_copy(update={"checks": known.checks})
    write_cells(run_dir, known.cells)
    write_summary(run_dir, run.suite.name, known.cells, known.over_patches)
    report = build(run_dir, run, known)
    write_run(run_dir, run)
    return report


def data_folder(suite: Suite, suite_file: Path, data_dir: Path | None) -> Path | None:
    """Return the folder that a suite's paths start from: its own, else that of ``--data``, which has to be there."""
    if suite.files and (suite_file.parent / suite.files).is_dir():
        return suite_file.parent / suite.files
    if data_dir and not data_dir.is_dir():
        raise UserError(f"--data {data_dir}: no such folder")
    return data_dir


@contextmanager
def held(run_dir: Path) -> Iterator[None]:
    """Hold a run directory: a second run in it at the same time is a `UserError`."""
    try:
        run_dir.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:
        raise UserError(f"{run_dir}: expected a folder for the run, found a file") from error
    try:
        with FileLock(run_dir / ".lock", timeout=0):
            yield
    except Timeout as error:
        raise UserError(
            f"{run_dir}: another run is using this directory; wait for it, or give another with --out"
        ) from error


def _is_done(run_dir: Path, plan: Plan, display: Display) -> bool:
    """Whether a run directory holds all results of a plan; what is damaged is said, to be written again."""
    if not (run_dir / RUN).is_file():
        return False
    try:
        run = read_run(run_dir, mend="written again")
        if run.plan == plan.key and not run.errors:
            verify(run_dir, run, mend="written again")
            return True
    except DamagedFile as error:
        display.warn(str(error))
    return False


def _stamp(run_dir: Path, label: str) -> None:
    """Say that these are the results of the commit that is checked out, too, and give them another label."""
    run = read_run(run_dir)
    stamped = run.model_copy(update={"commit": commit(), "label": label or run.label})
    if stamped != run:
        write_run(run_dir, stamped)


def warn_of_targets(work: stages.Work) -> None:
    """Tell which targets cannot run as things are, before the work of the others: their cells will fail.

    A licence to be accepted, of one of their packages or of a toolchain that an export needs, is a `UserError`.
    """
    for refusal in unaccepted(work.plan, work.store.has):
        raise UserError(refusal)
    missing = [step for step in work.plan.replays if not work.store.has("replay", step.key)]
    for target in {step.target.name: step.target for step in missing if step.target.name != TORCH}.values():
        if reason := availability(target):
            work.display.warn(f"target {target.name!r} cannot run now and will fail: {reason.splitlines()[0]}")


def _expect(work: stages.Work) -> None:
    """Announce what the store does not hold yet, and how long it takes as earlier runs tell."""
    missing = [task for task in tasks(work.plan) if not work.store.has(task.stage, task.key)]
    counted = [task for task in missing if task.verb not in ("read", "load")]
    work.display.expect(batches(counted), expected(counted, known_times(work.store.root.parent)))


def run_stages(work: stages.Work) -> None:
    """Carry out the plan; what can be refused at once, a network or a file that a user brought, comes first."""
    for artifact in work.plan.artifacts:
        if artifact.brought:
            stages.artifact(work, artifact)
    if work.plan.needs_torch:
        require("torch")
    for victim in work.plan.victims:
        stages.check_victim(work, victim)
    for artifact in work.plan.artifacts:
        stages.artifact(work, artifact)
    twin_check.require_equal(work)
    for patch in work.plan.patches:
        crafting.patch(work, patch)
    replays.replays(work, work.plan.replays)
    replays.latencies(work, work.plan.latencies)


def _write_records(work: stages.Work, run_dir: Path) -> None:
    """Write the records; of a large run one place after the other, so that memory holds the answers of one."""
    plan, truths = work.plan, {}
    for case in {c.replay.case.key: c.replay.case for c in work.plan.cells}.values():
        seen = stages.images(work, case.data, case.split)
        truths[case.data.key, case.split] = Truth(np.array(seen.ids), np.array(seen.labels))
    precisions = {step.key: stages.precision(work, step) for step in {r.artifact for r in plan.replays}}
    has_passes = any(many_passes(cell.replay.case.defence) for cell in plan.cells)
    has_boards = any(len(cell.replay.target.boards) > 1 for cell in plan.cells)

    def table(cells: list[Cell]) -> pd.DataFrame:
        answers = {cell.replay.key: replays.answers(work, cell.replay) for cell in cells}
        return records(cells, truths, answers, precisions, has_passes, has_boards)

    cases = (cell.replay.case for cell in plan.cells)
    in_one_file = sum(len(truths[case.data.key, case.split].ids) for case in cases) <= IN_ONE_FILE
    of_place: dict[tuple[str, str], list[Cell]] = {}
    for cell in plan.cells:
        place = (cell.replay.artifact.name, cell.replay.target.name)
        of_place.setdefault(("", "") if in_one_file else place, []).append(cell)
    write_records(run_dir, map(table, of_place.values()), in_one_file=in_one_file)


def _print_results(run_dir: Path, console: Console) -> bool:
    """Print the table, what failed and the report's path; return whether no cell failed."""
    from harness.report.defences import defended
    from harness.report.labels import labelled
    from harness.report.terminal import defence_table, failures, table

    run = read_run(run_dir)
    summary = read_summary(run_dir, run)
    over_patches = pd.DataFrame(summary.over_patches)
    console.print(table(over_patches, console))
    if behind := defended(run, labelled(over_patches)):
        console.print(defence_table(behind, console))
    for check in run.checks:
        if check.status == "failed":
            console.print(Text.assemble(("check failed:", "red"), f" {check.asks} {check.says}"))
    for failure in failures(run.errors):
        console.print(failure, soft_wrap=True)
    console.print("report:", Text(str(run_dir / "report.html"), "bold"), soft_wrap=True)
    return not any(cell["status"] == "error" for cell in summary.cells)

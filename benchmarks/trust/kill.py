"""Kill runs at random moments of each stage, and let them go on: ``python benchmarks/trust/kill.py``.

A trial is one run directory: some ten kills, each in a run that goes on where the last was killed, then a run to the
end, whose results must be, byte for byte and times apart, those of a run that nobody disturbed.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import NamedTuple

import psutil
import typer
from campaign import (
    SUITE,
    TRACEBACK_SEEN,
    Count,
    Ended,
    Results,
    ResultsFile,
    Running,
    Seed,
    TableFile,
    commit,
    markdown,
    patchbench,
    undisturbed,
    write_table,
)
from processes import alive, descendants, naming
from same import differences

# A stage begins when the store fills a folder of this name; within so many seconds from then it is killed.
STAGES = {"start": 3.0, "train": 4.0, "export": 5.0, "craft": 1.5, "replay": 2.0, "write": 1.0}
FILLS = {"train": "victim", "export": "artifact", "craft": "patch"}
ORDER = ("start", "train", "train", "export", "export", "craft", "replay", "replay", "replay", "write", "write")
SIGNALS = (signal.SIGINT, signal.SIGINT, signal.SIGTERM, signal.SIGKILL)
CODES = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGKILL: -signal.SIGKILL}
SOON = 5.0  # seconds within which everything has ended
LONGEST = 160  # characters of a line in the table
PATIENCE = 60.0  # seconds until a command that was told to end is killed


class Run(Running):
    """A run: what it says, what it fills, and its processes."""

    def __init__(self, folder: Path) -> None:
        super().__init__("run", SUITE, "--out", "run", folder=folder)
        self.folder = folder

    def has_begun(self, stage: str) -> bool:
        """Whether it is in this stage, or past it; before it has a process of its own, Python itself is starting."""
        below = descendants(self.process.pid)
        if stage == "start" or not below:
            return bool(below)
        if stage == "write":
            return "writing the report" in self.said.read_text()
        if stage == "replay":
            return any("backends.device" in " ".join(line) for _, line in below)
        return any((self.folder / "run/store/unfinished").glob(f"{FILLS[stage]}-*"))

    def awaits(self, stage: str, seconds: float) -> bool:
        """Wait for a moment of a stage; False if the command ends before."""
        while not self.has_begun(stage):
            if self.process.poll() is not None:
                return False
            time.sleep(0.01)
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(seconds)
        return self.process.poll() is None and "report: " not in self.said.read_text()

    def remaining(self, known: list[psutil.Process]) -> list[str]:
        """Name what is running `SOON` after its end, of its processes and of any that names its folder; kill it."""
        until = time.monotonic() + SOON
        while (left := [*alive(known), *naming(self.folder)]) and time.monotonic() < until:
            time.sleep(0.05)
        names = []
        for process in left:
            with suppress(psutil.NoSuchProcess):
                names.append(" ".join(process.cmdline()) or process.name())
                process.kill()
        return names


class Kill(NamedTuple):
    """What was done to a run, and what came of it."""

    stage: str
    signal: str
    to: str
    code: int | None
    line: str
    seconds: float
    objection: str


def kill(folder: Path, stage: str, chance: Random) -> Kill | None:
    """Kill a run in a stage; None if it ended before."""
    number = chance.choice(SIGNALS)
    to = chance.choice(("group", "child")) if stage == "replay" else "group"
    run = Run(folder)
    if not run.awaits(stage, chance.uniform(0, STAGES[stage])):
        run.end(PATIENCE)
        return None
    below = [process for process, _ in descendants(run.process.pid)]
    if to == "child" and below:
        with suppress(psutil.NoSuchProcess):
            chance.choice(below).send_signal(number)
    else:
        to = "group"
        os.killpg(run.process.pid, number)
    ended = run.end(PATIENCE)
    left = run.remaining(below)
    objection = _objection(ended, number, to) or (f"left running: {left[0]}" if left else "")
    return Kill(stage, number.name, to, ended.code, ended.line, round(ended.seconds, 2), objection)


def _objection(ended: Ended, number: signal.Signals, to: str) -> str:
    if to == "child":  # of a device, the cells fail, with its last words; of the command itself, the command
        if ended.code == 1 and ended.objection == TRACEBACK_SEEN:
            return ""
        return ended.objection or ("" if ended.code in (0, 1, 2, 128 + number) else f"exit code {ended.code}")
    if number == signal.SIGKILL:
        return "" if ended.code == CODES[number] else f"exit code {ended.code}"
    if ended.code != CODES[number]:
        return ended.objection or f"exit code {ended.code} instead of {CODES[number]}"
    return ended.objection or ("" if ended.seconds <= SOON else f"more than {SOON:g} s")


def carry_out(results: Results, count: int, work: Path) -> None:
    """Kill until there are so many kills."""
    whole = undisturbed(work.parent)
    for trial, chance in results.trials(count):
        missing = count - len(kills(results))
        if missing <= 0:
            return
        folder = work / f"trial-{trial}"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        chosen = sorted(chance.sample(range(len(ORDER)), min(missing, len(ORDER))))
        rows = [kill(folder, ORDER[number], chance) for number in chosen]
        ended = patchbench("run", SUITE, "--out", "run", folder=folder)
        found = list(differences(whole, folder / "run")) if ended.code == 0 else [f"exit {ended.code}"]
        for row in filter(None, rows):
            results.add(trial, **row._asdict())
            print(trial, *row, flush=True)
        results.add(trial, differences=found, commit=commit())
        print(trial, found or "identical", flush=True)
        if not found:
            shutil.rmtree(folder)


def kills(results: Results) -> list[Kill]:
    """Return the kills of all trials."""
    return [Kill(*(row[name] for name in Kill._fields)) for row in results.rows if "signal" in row]


def table(results: Results) -> str:
    """Return what was killed and what came of it, then every objection."""
    found = kills(results)
    rows = []
    for kind in sorted({(one.signal, one.to) for one in found}):
        these = [one for one in found if (one.signal, one.to) == kind]
        good = [one for one in these if not one.objection]
        longest = "" if "child" in kind else f"{max(one.seconds for one in these):.1f} s"  # the rest of the run goes on
        rows.append((*kind, len(these), len(good), longest))
    stages = []
    for stage in STAGES:
        these = [one for one in found if one.stage == stage]
        stages.append((stage, len(these), len([one for one in these if not one.objection])))
    runs = [row["differences"] for row in results.rows if "differences" in row]
    objections = [(number, *row) for row, number in Counter(wrong(results)).most_common()]
    commits = sorted({row["commit"] for row in results.rows if "commit" in row})
    parts = [
        f"{len(found)} kills in {len(runs)} runs of commit {', '.join(commits)}, seed {results.seed}; "
        f"{len([run for run in runs if not run])} of the {len(runs)} ended with the results of an undisturbed run.\n",
        markdown(("signal", "to", "kills", "as expected", "ended within"), rows),
        markdown(("stage", "kills", "as expected"), stages),
    ]
    if objections:
        parts.append(markdown(("times", "stage", "signal", "to", "what is wrong", "its line"), objections))
    return "\n".join(parts)


def wrong(results: Results) -> list[tuple[str, ...]]:
    """List what did not go as expected."""
    found = [(one.stage, one.signal, one.to, one.objection, one.line[:LONGEST]) for one in kills(results)]
    continued = [difference for row in results.rows for difference in row.get("differences", ())]
    return [row for row in found if row[3]] + [("continued", "", "", difference, "") for difference in continued]


def main(
    count: Count = 300,
    seed: Seed = 0,
    results_file: ResultsFile = Path("out/trust/kill.jsonl"),
    table_file: TableFile = None,
) -> None:
    """Kill runs, and compare what they end with; exit code 1 if anything is not as it should be."""
    results = Results(results_file, seed)
    carry_out(results, count, results_file.with_suffix(".runs").resolve())
    write_table(table_file, table(results))
    if wrong(results):
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)

"""Inflict faults, one after the other: ``python benchmarks/trust/faults.py [--only 'full disk*']``.

Each must end with an exit code and one line, leave nothing over, and harm no result. A second round, with a greater
``--count``, inflicts the same with other chance: how full the disk is, when a device is killed.
"""

from __future__ import annotations

import shutil
import sys
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated

import typer
from campaign import SUITE, Results, ResultsFile, Seed, TableFile, commit, markdown, undisturbed, write_table
from inflict import devices, machine, suites
from inflict.site import Fault, NotHere, Observed, Site, both

FAULTS: dict[str, Fault] = {**machine.FAULTS, **devices.FAULTS, **suites.FAULTS}
NAMES = list(FAULTS)
LEFT_OUT = "left out"
LONGEST = 160  # characters of a line in the table


def main(
    count: Annotated[int, typer.Option(help="Faults, one after the other, then again.")] = len(FAULTS),
    only: Annotated[list[str] | None, typer.Option(metavar="PATTERN", help="Only these; repeatable.")] = None,
    seed: Seed = 0,
    results_file: ResultsFile = Path("out/trust/faults.jsonl"),
    table_file: TableFile = None,
) -> None:
    """Inflict faults, and judge what comes of them; exit code 1 if anything is not as it should be."""
    results = Results(results_file, seed)
    work = results_file.with_suffix(".sites").resolve()
    whole = undisturbed(work.parent)
    for trial, chance in results.trials(count):
        name = NAMES[trial % len(NAMES)]
        if only and not any(fnmatchcase(name, pattern) for pattern in only):
            continue
        folder = work / f"fault-{trial}"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        try:
            found = [row(one, folder) for one in FAULTS[name](Site(folder, whole, chance))]
        except NotHere as why:
            found = [{"what": "", "code": None, "line": str(why), "seconds": 0.0, "objection": LEFT_OUT}]
        results.add(trial, fault=name, commit=commit(), found=found)
        for one in found:
            print(name, *one.values(), sep=" | ", flush=True)
        shutil.rmtree(folder, ignore_errors=True)
    write_table(table_file, table(results))
    if any(one["objection"] not in ("", LEFT_OUT) for trial in results.rows for one in trial["found"]):
        raise typer.Exit(1)


def row(one: Observed, folder: Path) -> dict[str, object]:
    """Judge what came of a fault; the objection is empty if all is well."""
    ended = one.ended
    objection = ended.objection
    if not objection and ended.code not in one.codes:
        objection = f"exit code {ended.code} instead of {' or '.join(map(str, one.codes))}"
    return {
        "what": one.what,
        "code": ended.code,
        "line": _without(ended.line, folder),
        "seconds": round(ended.seconds, 1),
        "objection": _without(both(objection, one.objection), folder),
    }


def _without(text: str, folder: Path) -> str:
    """Leave out where this machine keeps things."""
    return text.replace(f"{folder}/", "").replace(str(SUITE), SUITE.name).replace(f"{sys.prefix}/", "")


def table(results: Results) -> str:
    """Return a row for each fault, those with an objection first."""
    rows = []
    for trial in results.rows:
        for one in trial["found"]:
            verdict = one["objection"] or "ok"
            code = "" if one["code"] is None else one["code"]
            fault = f"{trial['fault']} {one['what']}".strip()
            rows.append((fault, code, one["line"][:LONGEST], f"{one['seconds']:.1f}", verdict[:LONGEST]))
    rows.sort(key=lambda cells: (cells[-1] == "ok", cells[-1] == LEFT_OUT))
    good = len([cells for cells in rows if cells[-1] == "ok"])
    left_out = len([cells for cells in rows if cells[-1] == LEFT_OUT])
    commits = ", ".join(sorted({trial["commit"] for trial in results.rows}))
    head = f"{len(rows)} faults of commit {commits}, seed {results.seed}: {good} ok, {left_out} left out.\n\n"
    return head + markdown(("fault", "exit code", "its line", "seconds", "verdict"), rows)


if __name__ == "__main__":
    typer.run(main)

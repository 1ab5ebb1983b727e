"""Inflict random faults on runs on a cluster with a store: ``python benchmarks/trust/cluster.py --count 30``.

A trial is a run on a scheduler and two workers of its own, and one fault at a random moment. It must end with the
results of a run that nothing disturbed; or with a line and an exit code, and then with those results when the same
command goes on, on the cluster or without it. What it left in the store must serve another run.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from random import Random
from typing import NamedTuple

import typer
from campaign import (
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
from inflict import cluster_faults
from inflict.cluster_faults import INTERRUPTED, OnCluster, Scene, s3
from inflict.dask_cluster import THREADS, Cluster
from inflict.site import both
from same import differences, drafts

NAMES = list(cluster_faults.FAULTS)
WHAT = (Path(__file__).with_name("cluster.toml"), "--data", Path(__file__).parents[1] / "baselines/demo")
DONE = "✓ "  # begins the line of a step that is done
COUNTING = "writing the report"  # the cluster's work is over
PATIENCE = 240.0
SOON = 15.0  # seconds until workers have stopped what a run that is interrupted had them do
TRIES = 4  # for a moment before the run's end
SHOWN = 5  # differences of a run
LONGEST = 160  # characters of a line in the table


class Trial(NamedTuple):
    """What was done to a run, and what came of it."""

    fault: str
    after: int
    code: int | None
    line: str
    seconds: float
    then: str
    objection: str


def trial(name: str, folder: Path, store: s3.Proxy, whole: Path, chance: Random) -> Trial | None:
    """Inflict a fault on a run; None if the run ended before."""
    fault = cluster_faults.FAULTS[name]
    after, later = chance.randint(0, fault.latest), chance.uniform(0, 1)
    url = f"s3://{s3.BUCKET}/{folder.name}"
    store.fault = lambda request: None
    known = s3.environ(store.address, read_timeout=10)
    environment = {**known, **THREADS, "PYTHONPATH": _python_path()}
    cluster = Cluster(folder)
    try:

        def words(out: str) -> tuple[object, ...]:
            return ("run", *WHAT, "--out", out, "--store", url)

        def begin(out: str) -> Running:
            (folder / out).mkdir()
            on = ("--cluster", cluster.address)
            return Running(*words("run"), *on, folder=folder / out, environment=environment)

        begun = time.monotonic()
        run = begin("first")
        if not _awaits(run, after, later):
            run.end(0)
            return None
        scene = Scene(folder, cluster, store, chance, run, begin)
        fault.inflict(scene)
        ended = run.end(PATIENCE)
        seconds = time.monotonic() - begun
        wrong = [_objection(ended, fault)]
        if ended.code == INTERRUPTED:
            wrong.append(_still_there(cluster, folder / "first/run"))
        store.fault = lambda request: None
        then = [_goes_on(words("run"), folder / "first", cluster, chance, environment)] if ended.code else []
        if scene.second:
            second = scene.second.end(PATIENCE)
            wrong += [_objection(second, fault), *_differences(whole, folder / "second/run")]
        if fault.is_of_store:
            again = patchbench(*words("again"), folder=folder, environment=environment)
            then.append(("another run", again))
            wrong += _differences(whole, folder / "again")
        wrong += [f"{what}: exit code {one.code}, {one.line}" for what, one in then if one.code != 0]
        wrong += _differences(whole, folder / "first/run")
        done = ", ".join(f"{what} {one.seconds:.0f} s" for what, one in then)
        line = ended.line.replace(f"{WHAT[0]}: ", "") if ended.code else ""
        return Trial(name, after, ended.code, line, round(seconds, 1), done, both(*wrong))
    finally:
        cluster.close()


def _awaits(run: Running, steps: int, seconds: float) -> bool:
    """Wait until so many steps are done, and so many seconds more; False if the cluster's work is over before."""
    while run.said.read_text().count(DONE) < steps and run.process.poll() is None:
        time.sleep(0.05)
    time.sleep(seconds)
    return run.process.poll() is None and COUNTING not in run.said.read_text()


def _goes_on(
    words: tuple[object, ...], folder: Path, cluster: Cluster, chance: Random, environment: Mapping[str, str]
) -> tuple[str, Ended]:
    """Give the same command once more, with the cluster, whatever it was before, or without."""
    cluster.refresh()
    is_on_cluster = chance.random() < 0.5
    on = ("--cluster", cluster.address) if is_on_cluster else ()
    ended = patchbench(*words, *on, folder=folder, environment=environment)
    return ("on the cluster" if is_on_cluster else "without it"), ended


def _still_there(cluster: Cluster, run_dir: Path) -> str:
    """Say what workers still do, and what is half written, soon after a run was interrupted.

    A result is written to a folder; a file there is the command's own, and the next one removes it.
    """

    def found() -> list[object]:
        return [*cluster.devices(), *(draft for draft in drafts(run_dir) if (run_dir / draft).is_dir())]

    until = time.monotonic() + SOON
    while (left := found()) and time.monotonic() < until:
        time.sleep(0.1)
    return f"left: {left[0]}" if left else ""


def _objection(ended: Ended, fault: OnCluster) -> str:
    if ended.objection:
        return ended.objection
    if ended.code not in fault.codes:
        return f"exit code {ended.code} instead of {' or '.join(map(str, fault.codes))}"
    return "" if fault.says in ended.stdout + ended.stderr else f"does not say: {fault.says}"


def _differences(whole: Path, run_dir: Path) -> list[str]:
    found = differences(whole, run_dir)
    return [one for one in found if "store/bundle/" not in one][:SHOWN]  # replays that are fetched need none


def _python_path() -> str:

    return os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH"), str(s3.client())]))


def carry_out(results: Results, count: int, work: Path) -> None:
    """Inflict so many faults, one kind after the other."""
    whole = undisturbed(work, *WHAT, environment=THREADS)
    (server := work / "server").mkdir(parents=True)
    with s3.server(server) as address, s3.proxy(address) as store:
        for number, chance in results.trials(count):
            found = next(filter(None, _tries(number, work, store, whole, chance)))
            results.add(number, commit=commit(), **found._asdict())
            print(number, *found, sep=" | ", flush=True)


def _tries(number: int, work: Path, store: s3.Proxy, whole: Path, chance: Random) -> Iterator[Trial | None]:
    for again in range(TRIES):
        folder = work / f"trial-{number}-{again}"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        yield trial(NAMES[number % len(NAMES)], folder, store, whole, chance)


def table(results: Results) -> str:
    """Return a row for each trial, those with an objection first."""
    trials = [Trial(*(row[name] for name in Trial._fields)) for row in results.rows]
    trials.sort(key=lambda one: (not one.objection, NAMES.index(one.fault)))
    rows = [
        (one.fault, one.after, "" if one.code is None else one.code, one.line[:LONGEST],
         f"{one.seconds:.0f}", one.then, one.objection[:LONGEST] or "ok")
        for one in trials
    ]  # fmt: skip
    good = len([one for one in trials if not one.objection])
    commits = ", ".join(sorted({row["commit"] for row in results.rows}))
    head = f"{len(trials)} faults of commit {commits}, seed {results.seed}: {good} ok.\n\n"
    return head + markdown(("fault", "after step", "exit code", "its line", "seconds", "then", "verdict"), rows)


def main(
    count: Count = 30,
    seed: Seed = 0,
    results_file: ResultsFile = Path("out/trust/cluster.jsonl"),
    table_file: TableFile = None,
) -> None:
    """Inflict faults, and judge what comes of them; exit code 1 if anything is not as it should be."""
    results = Results(results_file, seed)
    carry_out(results, count, results_file.with_suffix(".runs").resolve())
    write_table(table_file, table(results))
    if any(row["objection"] for row in results.rows):
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)

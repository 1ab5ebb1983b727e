"""How far a run scales: ``PYTHONPATH=. python benchmarks/speed/scale.py {steps,speedup,simulate} ...``.

``steps [NUMBER]``: what an empty step costs, in process and through Dask, handed over as `run --cluster` does.
``speedup``: crafting and replays on one worker and on two, one core each; four minutes where nothing else runs.
``simulate SUITE MEASURED``: a suite's plan on up to 1000 workers, with the times that a run measured, or one that was
interrupted, or ``sample.py``; where more workers stop to help, and the critical path.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from threading import Semaphore
from typing import Any, cast

from rich.table import Table
from simulated import critical_path, makespan, split
from times import ALIKE, GIVEN, MEASURED, NOTHING, USUAL, Times, of_run, read, timed

from harness.config import read_suite
from harness.console import console
from harness.plan.plan import make
from harness.run import deployments
from harness.run.cluster import TICK_SECONDS
from harness.run.crew import offer
from harness.run.graph import CORE, Node
from harness.run.waiting import Waiting

HOW = (MEASURED, ALIKE, USUAL, GIVEN, NOTHING)
QUICK = ("check", "load", "read")  # may be taken for nothing
WORKERS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1000)
ENOUGH = 1.05  # of the shortest time: more workers no longer help
SHARED = re.compile(r"✓ share \d+ steps among \d+ workers ([\d.]+) s")
STEP = re.compile(r"^✓ .* ([\d.]+) s(?: · .*)?$", re.MULTILINE)
SUITE = """
schema = 1
name = "scale"
[data]
name = "digits"
calibration = 64
craft = 512
evaluate = 500
sanity = false
[[victim]]
name = "cnn"
model = "plain_cnn"
weights = "DIGITS_V1"
mean = [0.5, 0.5, 0.5]
std = [0.5, 0.5, 0.5]
[[export]]
format = ["onnx", "tflite"]
calibration = ["minmax", "moving_average", "percentile", "entropy"]
[controls]
grey = 0
noise = 1
[latency]
threads = 1
warmup = 1
runs = 5
seconds = 0
[[target]]
name = "litert"
runtime = "litert"
"""
GAP = '[[attack]]\nname = "gap"\ntarget_classes = [3]\npixels = 8\nseeds = {seeds}\noptions = {{ steps = {steps} }}\n'
MADE = SUITE + GAP.format(seeds=[0], steps=1)  # before anything is measured
OTHERS = """
[[target]]
name = "litert-16"
runtime = "litert"
batch = 16
[[target]]
name = "ort"
runtime = "onnxruntime"
[[target]]
name = "ort-16"
runtime = "onnxruntime"
batch = 16
"""
WORK = {
    "crafting": SUITE + GAP.format(seeds=list(range(1, 9)), steps=150),
    "replays": MADE.replace("noise = 1", "noise = 20") + OTHERS,
}


def empty(job: str, name: str) -> None:
    """Do nothing, on a worker."""


def through_dask(number: int, workers: int) -> float:
    """Return the seconds of so many empty steps on so many workers of this machine, which are there already."""
    from distributed import as_completed

    word = f"local:{workers}"
    with deployments.opened(deployments.read(word), word) as client:
        client.wait_for_workers(workers)
        client.run(offer, dict(CORE))
        begun = time.monotonic()
        waiting = Waiting(lambda node: 0.0)
        waiting.add({name: Node(name, "do", name, cast(Any, None)) for name in map(str, range(number))})
        free, done = Semaphore(workers), 0
        finished = as_completed([], loop=client.loop)
        while done < number:
            for name, _ in waiting.take(lambda name, node: free.acquire(blocking=False)):
                future = client.submit(empty, "job", name, key=name, pure=False, priority=0, resources=dict(CORE))
                finished.add(future)
            with finished.thread_condition:
                if not finished.has_ready():
                    finished.thread_condition.wait(TICK_SECONDS)
            ended = finished.next_batch(block=False)
            assert all(future.status == "finished" for future in ended)
            done += len(ended)
            if ended:
                free.release(len(ended))
        return time.monotonic() - begun


def steps(number: int) -> None:
    """Print what empty steps cost."""
    begun = time.monotonic()
    for i in range(number):
        empty("job", str(i))
    table = Table("", "s", "ms a step", title=f"{number} empty steps")
    measured = {"in process": time.monotonic() - begun}
    measured |= {f"{workers} of Dask's workers": through_dask(number, workers) for workers in (1, 2)}
    for name, seconds in measured.items():
        table.add_row(name, f"{seconds:.3f}", f"{1000 * seconds / number:.4f}")
    console().print(table)


def speedup() -> None:
    """Print what a second worker brings; what both kinds of work need is made before."""
    table = Table("", "workers", "s", "of it steps, s", "of each worker's time, %", "speed-up")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        run(folder, MADE, "made", 1)
        for name, suite in WORK.items():
            alone = 0.0
            for workers in (1, 2):
                shutil.copytree(folder / "made", folder / name, dirs_exist_ok=True)
                seconds, work = run(folder, suite, name, workers)
                shutil.rmtree(folder / name)
                alone = alone or seconds
                share = 100 * work / workers / seconds
                row = (f"{workers}", f"{seconds:.1f}", f"{work:.1f}", f"{share:.0f}", f"{alone / seconds:.2f}")
                table.add_row(name, *row)
    console().print(table)


def run(folder: Path, suite: str, out: str, workers: int) -> tuple[float, float]:
    """Run a suite on workers; return the seconds of all that they do but timing, without their start, and of steps."""
    (folder / "suite.toml").write_text(suite)
    command = [sys.executable, "-m", "harness.cli", "run", "suite.toml", "--out", out, "--cluster", f"local:{workers}"]
    environment = os.environ | {"PYTHONPATH": str(Path.cwd()), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stdout + done.stderr)
    before, shared, _ = re.split(SHARED, done.stdout, maxsplit=1)
    return float(shared), sum(map(float, STEP.findall(before)))


def simulate(given: argparse.Namespace) -> None:
    """Print how a plan scales, and draw it."""
    plan = make(read_suite(given.suite), given.data, None)
    rows = read(given.measured) if given.measured.is_file() else of_run(given.measured)
    known = Times(plan, rows, dict(given.seconds))
    several = timed(plan, known)
    if unknown := {verb: count for verb, count in known.unknown.items() if verb not in QUICK}:
        what = ", ".join(f"{count} to {verb}" for verb, count in unknown.items())
        sys.exit(f"{given.measured}: no time is known of {what}: give it with --seconds VERB=SECONDS")
    total, chain, spans = sum(step.seconds for step in several), critical_path(several), {}
    table = [("workers", "minutes", "speed-up", "of each worker, %")]
    for workers in WORKERS:
        spans[workers] = makespan(split(several, workers), workers, given.overhead)
        gain = total / spans[workers]
        table.append((f"{workers}", f"{spans[workers] / 60:.2f}", f"{gain:.1f}", f"{100 * gain / workers:.0f}"))
    enough = next(workers for workers, seconds in spans.items() if seconds <= ENOUGH * min(spans.values()))
    path = [("s", "step")] + [(f"{step.seconds:.1f}", step.what) for step in chain.steps if step.seconds]
    times = [("to", *HOW)] + [(verb, *(f"{found[how] or ''}" for how in HOW)) for verb, found in known.counts.items()]
    text = (
        f"{len(several)} nodes of {given.suite.stem}, {total / 60:.1f} minutes of work with one thread, "
        f"{1000 * given.overhead:g} ms of the scheduler for each.\n\n{markdown(table)}\n"
        f"More than {enough} workers gain less than {ENOUGH - 1:.0%}. The critical path has {chain.seconds / 60:.1f} "
        f"minutes where nothing is split:\n\n{markdown(path)}\n"
        f"Steps, and where their times are from:\n\n{markdown(times)}"
    )
    print(text)
    if given.table:
        given.table.write_text(text)
        draw(spans, total, chain.seconds, given.table.with_suffix(".svg"))


def draw(spans: dict[int, float], total: float, path: float, file: Path) -> None:
    """Draw the minutes on so many workers, and the two that none goes below: work shared out, and the critical path."""
    from harness.report.svg import COLOURS, INK, SOFT, drawing, legend

    workers = list(spans)
    with drawing(6.4, 3.2) as (figure, out):
        axes = figure.subplots()
        axes.loglog(workers, [seconds / 60 for seconds in spans.values()], color=COLOURS[0], marker="o", ms=4,
                    label="simulated")  # fmt: skip
        axes.loglog(
            workers, [total / 60 / n for n in workers], color=SOFT, lw=0.8, ls=(0, (4, 3)), label="work, shared out"
        )
        axes.axhline(path / 60, color=INK, lw=0.8, ls=(0, (1, 2)), label="critical path, nothing split")
        axes.set_xticks(workers, [str(n) for n in workers])
        minutes = [n for n in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000) if path / 240 < n < total / 50]
        axes.set_yticks(minutes, [str(n) for n in minutes])
        axes.minorticks_off()
        axes.set(xlabel="workers", ylabel="minutes", ylim=(path / 240, None))
        legend(figure, axes)
        figure.subplots_adjust(0.13, 0.17, 0.98, 0.84)
    file.write_text(f"{out[0]}\n")


def markdown(rows: list[tuple[str, ...]]) -> str:
    """Return a table, its first row the head."""
    lines = [rows[0], tuple("---" for _ in rows[0]), *rows[1:]]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def pair(word: str) -> tuple[str, float]:
    """Read VERB=SECONDS."""
    verb, _, seconds = word.partition("=")
    return verb, float(seconds)


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("steps").add_argument("number", type=int, nargs="?", default=10_000)
    commands.add_parser("speedup")
    simulated = commands.add_parser("simulate")
    simulated.add_argument("suite", type=Path)
    simulated.add_argument("measured", type=Path, help="a run directory, one beside those that measured, or a table")
    simulated.add_argument("--data", type=Path)
    simulated.add_argument("--overhead", type=float, default=0.011, help="seconds of a step, as `steps` measures them")
    simulated.add_argument(
        "--seconds", type=pair, action="append", default=[], metavar="VERB=SECONDS", help="whatever was measured"
    )
    simulated.add_argument("--table", type=Path, help="Markdown to write, beside it a figure")
    given = parser.parse_args()
    if given.command == "steps":
        steps(given.number)
    elif given.command == "speedup":
        speedup()
    else:
        simulate(given)


if __name__ == "__main__":
    main()

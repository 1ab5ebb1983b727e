"""How far a run scales: ``PYTHONPATH=. python benchmarks/speed/scale.py {steps,speedup,simulate} ...``.

``steps [NUMBER]``: what an empty step costs, in process and through Dask, handed over as `run --cluster` does.
``speedup``: crafting and replays on one worker and on two, one core each.
``simulate SUITE RUN``: a suite's plan on up to 1000 workers, with the times that RUN measured; where more workers stop
to help, and the critical path.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from statistics import median

from rich.table import Table
from simulated import Timed, critical_path, makespan, split

from harness.config import read_suite
from harness.console import console
from harness.plan.plan import Plan, make
from harness.plan.steps import TORCH
from harness.run import deployments
from harness.run.crew import offer
from harness.run.graph import CORE, Node, graph, latencies
from harness.run.tasks import Task, estimate, known_times, tasks

WORKERS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1000)
ENOUGH = 1.05  # of the shortest time: more workers no longer help
SHARED = re.compile(r"✓ share \d+ steps among \d+ workers ([\d.]+) s")
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
calibration = "minmax"
[controls]
grey = 0
noise = 1
[[target]]
name = "litert"
runtime = "litert"
"""
ATTACK = '[[attack]]\nname = "{name}"\ntarget_classes = [3]\npixels = 8\nseeds = {seeds}\n{more}'
REFERENCE = '[[target]]\nname = "reference"\nruntime = "litert"\noptions = { kernels = "reference" }\n'
ORT = '[[target]]\nname = "ort"\nruntime = "onnxruntime"\n'
WORK = {
    "crafting": ATTACK.format(name="gap", seeds=list(range(6)), more="options = { steps = 200 }\n"),
    "replays": ATTACK.format(name="noise", seeds=list(range(20)), more="") + ORT + REFERENCE,
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
        futures = [
            client.submit(empty, "job", str(i), key=f"empty-{i}", pure=False, priority=0, resources=dict(CORE))
            for i in range(number)
        ]
        assert all(future.status == "finished" for future in as_completed(futures, loop=client.loop))
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
    table = Table("", "1 worker, s", "2 workers, s", "speed-up")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        run(folder, SUITE, "made", 1)
        for name, text in WORK.items():
            seconds = []
            for workers in (1, 2):
                shutil.copytree(folder / "made", folder / name, dirs_exist_ok=True)
                seconds.append(run(folder, SUITE.replace("[controls]", f"{text}[controls]"), name, workers))
                shutil.rmtree(folder / name)
            table.add_row(name, *(f"{one:.1f}" for one in seconds), f"{seconds[0] / seconds[1]:.2f}")
    console().print(table)


def run(folder: Path, suite: str, out: str, workers: int) -> float:
    """Run a suite on workers; return the seconds of all that they do but timing, without their start."""
    (folder / "suite.toml").write_text(suite)
    command = [sys.executable, "-m", "harness.cli", "run", "suite.toml", "--out", out, "--cluster", f"local:{workers}"]
    environment = os.environ | {"PYTHONPATH": str(Path.cwd()), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stdout + done.stderr)
    return float(SHARED.findall(done.stdout)[0])


class Times:
    """What steps of a plan take: as a run measured, else as one of its kind, else as given or usual for the verb."""

    def __init__(self, plan: Plan, measured: Path, given: dict[str, float]) -> None:
        self._known, self._given = known_times(measured), given
        self._tasks = {(task.stage, task.key): task for task in tasks(plan)}

    @property
    def unknown(self) -> Counter[str]:
        """Of how many steps nothing is known, by verb."""
        return Counter(task.verb for task in self._tasks.values() if self._seconds(task) is None)

    def step(self, node: Node, after: frozenset[str]) -> Timed:
        """Return a node with the time of its results; a bundle and the check of twins have none of their own."""
        found = [self._seconds(self._tasks[result]) or 0.0 for result in node.results if result in self._tasks]
        splits = node.stage == "replay" and node.of.target.name != TORCH
        return Timed(node.name, f"{node.verb} {node.what}", sum(found), after, node.urgency, splits)

    def _seconds(self, task: Task) -> float | None:
        if (seconds := estimate(task, self._known)) is not None:
            return seconds
        usual = [took.seconds for took in self._known.get(task.stage, []) if took.verb == task.verb and took.seconds]
        return self._given.get(task.verb, median(usual) if usual else None)


def timed(plan: Plan, times: Times) -> list[Timed]:
    """Return the nodes of a plan's graph with their times; latencies come last, as on a cluster."""
    nodes = graph(plan)
    last = nodes.keys() - {before for node in nodes.values() for before in node.after}
    first = [times.step(node, node.after) for node in nodes.values()]
    return first + [times.step(node, frozenset(last)) for node in latencies(plan).values()]


def simulate(suite: Path, measured: Path, data: Path | None, overhead: float, given: dict[str, float]) -> None:
    """Print how a plan scales."""
    plan = make(read_suite(suite), data, None)
    times = Times(plan, measured, given)
    if times.unknown:
        what = ", ".join(f"{count} to {verb}" for verb, count in times.unknown.items())
        sys.exit(f"{measured}: no time is known of {what}: give it with --seconds VERB=SECONDS")
    several = timed(plan, times)
    total, chain, spans = sum(step.seconds for step in several), critical_path(several), {}
    table = Table("workers", "minutes", "speed-up", "of each worker, %", title=f"{suite.stem}: {len(several)} steps")
    for workers in WORKERS:
        spans[workers] = makespan(split(several, workers), workers, overhead)
        gain = total / spans[workers]
        table.add_row(f"{workers}", f"{spans[workers] / 60:.2f}", f"{gain:.1f}", f"{100 * gain / workers:.0f}")
    enough = next(workers for workers, seconds in spans.items() if seconds <= ENOUGH * min(spans.values()))
    out = console()
    out.print(table)
    out.print(f"{total / 60:.1f} minutes of work; more than {enough} workers gain less than {ENOUGH - 1:.0%}")
    out.print(f"critical path, {chain.seconds / 60:.1f} minutes where nothing is split:")
    for step in chain.steps:
        out.print(f"{step.seconds:9.1f} s  {step.what}", highlight=False)


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
    simulated.add_argument("run", type=Path, help="a run directory, or one beside those that measured")
    simulated.add_argument("--data", type=Path)
    simulated.add_argument("--overhead", type=float, default=0.005, help="seconds of a step, as `steps` measures them")
    simulated.add_argument("--seconds", type=pair, action="append", default=[], metavar="VERB=SECONDS")
    given = parser.parse_args()
    if given.command == "steps":
        steps(given.number)
    elif given.command == "speedup":
        speedup()
    else:
        simulate(given.suite, given.run, given.data, given.overhead, dict(given.seconds))


if __name__ == "__main__":
    main()

"""Time what grows with the number of cells: ``PYTHONPATH=. python benchmarks/speed/cells.py [CELLS ...] [--write]``.

For each number, each in a process of its own: the plan of a suite with its graph, what ``--dry-run`` prints of it, and
the judging and the page of a made run of as many cells with ten images each. Seconds are CPU seconds of the process, so
that others on the machine count little, and those by the clock. ``--write`` puts table and figure into the results.
"""

import argparse
import cProfile
import json
import os
import pstats
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from made_records import DRAWS, Shape
from made_records import make as make_run
from matplotlib.ticker import LogLocator
from rich.table import Table

from harness.cli.dry_run import print_dry_run
from harness.config import read_suite
from harness.console import console
from harness.plan.plan import make
from harness.report.svg import COLOURS, INK, drawing
from harness.run.graph import graph
from harness.run.run import write_results

RESULTS = Path(__file__).parents[1] / "results"
SUITE = """
schema = 1
name = "cells"
[data]
name = "digits"
calibration = 64
craft = 64
evaluate = 10
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
[[attack]]
name = "gap"
target_classes = {classes}
seeds = {seeds}
pixels = {pixels}
placement = {places}
[controls]
grey = 0
noise = 1
[[target]]
name = "ort"
runtime = "onnxruntime"
[[target]]
name = "ort-plain"
runtime = "onnxruntime"
options = {{ optimization = "disabled" }}
[[target]]
name = "litert"
runtime = "litert"
[[target]]
name = "litert-reference"
runtime = "litert"
options = {{ kernels = "reference" }}
"""
PAIRS = 17  # files on targets, with the float network
IMAGES = 10
SECONDS = {"plan": 20, "report": 60}  # by the clock, of `CELLS` cells: more is too slow
CELLS, MEGABYTES = 10**5, 5
TICKS = (100, 1000, 10_000, 100_000)


class Took(NamedTuple):
    """How many cells there were, CPU seconds and seconds by the clock; of a report also GB of memory and MB of page."""

    cells: int
    cpu: float
    clock: float
    memory: float
    page: float = 0.0


@contextmanager
def timed(profile: bool) -> Iterator[list[float]]:
    """Yield a list that holds the CPU seconds and the seconds by the clock of the block once it ends."""
    profiler = cProfile.Profile(time.process_time) if profile else None
    took: list[float] = []
    begun, at = time.process_time(), time.monotonic()
    if profiler:
        profiler.enable()
    yield took
    if profiler:
        profiler.disable()
        pstats.Stats(profiler).sort_stats("cumulative").print_stats(40)
    took += [time.process_time() - begun, time.monotonic() - at]


def plan(cells: int, folder: Path, profile: bool) -> Took:
    """Plan a suite, draw its graph, and print its dry run."""
    classes, pixels, places = list(range(10)), [6, 8, 10], ["center", "random", "top-left"]
    if cells < 10_000:
        pixels, places = pixels[:1], places[:1]
    if cells < 1000:
        classes = classes[:1]
    seeds = list(range(max(1, cells // (PAIRS * len(classes) * len(pixels) * len(places)))))
    file = folder / "suite.toml"
    words = {"classes": classes, "seeds": seeds, "pixels": pixels, "places": places}
    file.write_text(SUITE.format(**{name: json.dumps(value) for name, value in words.items()}))
    with timed(profile) as took:
        made = make(read_suite(file), None, folder)
        graph(made)
        print_dry_run(made, folder / "run", console(quiet=True))
    return Took(len(made.cells), *took, memory())


def report(cells: int, folder: Path, profile: bool) -> Took:
    """Judge a made run and write its page."""
    victims, files, targets = (4, 6, 4) if cells > 3000 else (1, 6, 4) if cells > 300 else (1, 1, 1)
    least = Shape(victims, files, targets, series=1, classes=10, seeds=1, images=IMAGES)
    patches = max(1, round(cells / least.places / least.classes) - DRAWS)  # of each class
    seeds = min(10, patches)
    shape = least._replace(seeds=seeds, series=round(patches / seeds))
    root = make_run(folder / "made", shape)
    with timed(profile) as took:
        page = write_results(root)
    return Took(shape.cells, *took, memory(), page.stat().st_size / 1e6)


def memory() -> float:
    """Return the most memory that the process had, in GB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


HALVES = {"plan": plan, "report": report}


def measured(half: str, cells: int) -> Took:
    """Measure one half of one number of cells in a process of its own."""
    command = [sys.executable, __file__, str(cells), "--only", half, "--json"]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return Took(*json.loads(done.stdout))


def table(found: dict[str, list[Took]]) -> list[tuple[str, ...]]:
    """Return the rows of the table, its head first."""
    rows = [("half", "cells", "CPU s", "s by the clock", "ms a cell", "memory, GB", "page, MB")]
    for half, every in found.items():
        for one in every:
            page = f"{one.page:.1f}" if one.page else ""
            figures = (f"{one.cpu:.1f}", f"{one.clock:.1f}", f"{1000 * one.cpu / one.cells:.2f}", f"{one.memory:.1f}")
            rows.append((half, f"{one.cells:,}", *figures, page))
    return rows


def write(found: dict[str, list[Took]]) -> None:
    """Write ``cells.md`` and ``cells.svg`` to the results."""
    head, *body = table(found)
    lines = [head, ("---", *["--:"] * (len(head) - 1)), *body]
    marked = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    load = f"Seconds by the clock: on {os.cpu_count()} cores with a load of {os.getloadavg()[0]:.0f}."
    (RESULTS / "cells.md").write_text(f"{INTRO} {load}\n\n{marked}\n\n![Seconds, memory, page](cells.svg)\n")
    panels = [
        ("plan and dry run, s", [("plan", "clock"), ("plan", "cpu")], SECONDS["plan"]),
        ("judging and report, s", [("report", "clock"), ("report", "cpu")], SECONDS["report"]),
        ("memory, GB", [("plan", "memory"), ("report", "memory")], None),
        ("page, MB", [("report", "page")], MEGABYTES),
    ]
    names = {"clock": "by the clock", "cpu": "CPU", "memory": "", "page": ""}
    with drawing(9.6, 2.9) as (figure, out):
        for axes, (title, lines_of, most) in zip(figure.subplots(1, len(panels)), panels, strict=True):
            for (half, what), colour in zip(lines_of, COLOURS, strict=False):
                cells = [one.cells for one in found[half]]
                label = names[what] or half
                axes.loglog(
                    cells, [getattr(one, what) for one in found[half]], color=colour, marker="o", ms=4, label=label
                )
            if most:
                axes.plot(CELLS, most, "_", color=INK, ms=14, label="limit")
            axes.set_xticks(TICKS, [f"{tick:,}" for tick in TICKS])
            axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axes.yaxis.set_major_formatter("{x:g}")
            axes.minorticks_off()
            axes.set_title(title, loc="left")
            axes.set_xlabel("cells")
            axes.grid()
            axes.legend(frameon=False)
        figure.subplots_adjust(0.04, 0.16, 0.975, 0.9, wspace=0.3)
    (RESULTS / "cells.svg").write_text(f"{out[0]}\n")


INTRO = (
    "What cells take, by `benchmarks/speed/cells.py`, each line in a process of its own. Plan: a suite's plan, its "
    "graph and what `--dry-run` prints of it. Report: of a made run of ten images a cell, rates, intervals, checks, "
    "`cells.csv`, `summary.json` and the page."
)


def main(sizes: list[int], halves: list[str], into_results: bool) -> None:
    """Measure each size, and print a table."""
    found = {half: [measured(half, cells) for cells in sizes] for half in halves}
    head, *body = table(found)
    shown = Table(*head)
    for row in body:
        shown.add_row(*row)
    console().print(shown)
    if into_results:
        write(found)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cells", type=int, nargs="*", default=[100, 1000, 10_000, 30_000, 100_000])
    parser.add_argument("--profile", action="store_true", help="print where the time goes, in this process")
    parser.add_argument("--only", choices=list(HALVES), help="one half alone")
    parser.add_argument("--write", action="store_true", help="write benchmarks/results/cells.md and cells.svg")
    parser.add_argument("--json", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    chosen = [given.only] if given.only else list(HALVES)
    if given.json or given.profile:
        with tempfile.TemporaryDirectory() as scratch:
            for name in chosen:
                print(json.dumps(HALVES[name](given.cells[0], Path(scratch), given.profile)))
    else:
        main(given.cells, chosen, given.write)

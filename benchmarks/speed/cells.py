"""Time what grows with the number of cells: ``PYTHONPATH=. python benchmarks/speed/cells.py [CELLS ...]``.

For each number: the plan of a suite, what ``--dry-run`` prints of it, and the judging and the page of a made run of as
many cells with ten images each. Seconds are the process's own, so that others on the machine do not count.
"""

import argparse
import cProfile
import pstats
import resource
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from made_records import Shape
from made_records import make as make_run
from rich.table import Table

from harness.cli.dry_run import print_dry_run
from harness.config import read_suite
from harness.console import console
from harness.plan.plan import make
from harness.run.graph import graph
from harness.run.run import write_results

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
target_classes = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]
seeds = [{seeds}]
pixels = [6, 8, 10]
placement = ["center", "random", "top-left"]
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
PER_SEED = 10 * 3 * 3 * 17  # classes, sides, places, and files on targets
IMAGES = 10


@contextmanager
def timed(row: list[str], profile: bool) -> Iterator[None]:
    """Add the seconds of a block to a row; with a profile, print where they went."""
    profiler = cProfile.Profile() if profile else None
    begun = time.process_time()
    if profiler:
        profiler.enable()
    yield
    if profiler:
        profiler.disable()
    row.append(f"{time.process_time() - begun:.1f}")
    if profiler:
        pstats.Stats(profiler).sort_stats("cumulative").print_stats(40)


def planned(cells: int, folder: Path, row: list[str], profile: bool) -> None:
    """Plan a suite, draw its graph, and print its dry run."""
    file = folder / "suite.toml"
    file.write_text(SUITE.format(seeds=", ".join(map(str, range(max(1, cells // PER_SEED))))))
    with timed(row, profile):
        plan = make(read_suite(file), None, folder)
    row[0] = f"{len(plan.cells):,}"
    with timed(row, profile):
        graph(plan)
    with timed(row, profile):
        print_dry_run(plan, folder / "run", console(quiet=True))


def reported(cells: int, folder: Path, row: list[str], profile: bool) -> None:
    """Judge a made run and write its page."""
    shape = Shape(victims=4, files=6, targets=4, series=10, classes=10, seeds=10, images=IMAGES)  # 10^5 cells
    if cells < shape.cells // 2:
        shape = shape._replace(victims=1, files=2, series=max(1, cells // 1000))
    root = make_run(folder / "made", shape)
    row[0] = f"{shape.cells:,}"
    with timed(row, profile):
        page = write_results(root)
    row.append(f"{page.stat().st_size / 1e6:.1f}")
    row.append(f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6:.1f}")


def main(sizes: list[int], profile: bool, what: list[Callable[[int, Path, list[str], bool], None]]) -> None:
    """Measure each size, and print a table."""
    table = Table("cells", "plan, s", "graph, s", "dry run, s", "judging and report, s", "report, MB", "memory, GB")
    for cells in sizes:
        row = [f"{cells:,}"]
        with tempfile.TemporaryDirectory() as folder:
            for measure in what:
                if measure is reported:
                    row += [""] * (4 - len(row))
                measure(cells, Path(folder), row, profile)
        table.add_row(*row)
    console().print(table)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cells", type=int, nargs="*", default=[1000, 10_000, 100_000])
    parser.add_argument("--profile", action="store_true", help="print where the time goes")
    parser.add_argument("--only", choices=["plan", "report"], help="one half alone")
    given = parser.parse_args()
    halves = {"plan": planned, "report": reported}
    main(given.cells, given.profile, [halves[given.only]] if given.only else list(halves.values()))

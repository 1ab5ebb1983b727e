"""Judge made runs of many records: ``PYTHONPATH=. python benchmarks/speed/records.py [RECORDS ...] [--folder DIR]``.

For each number, a run and its baseline are written, whose records numpy draws, and judged in a process of its own:
rates, intervals and checks with the report, and the gate against the baseline, a run in which every hundredth answer is
another. CPU seconds are those of all threads, importing included, memory is the most that the process had. With
``--write`` the table and the figure of ``benchmarks/results/judging.md`` are written anew.
"""

import argparse
import json
import math
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from made_records import Shape, make
from matplotlib.axes import Axes

from harness.gate.judge import judge
from harness.gate.rules import DEFAULT
from harness.report.svg import COLOURS, INK, MARKERS, drawing, legend
from harness.results.baseline import of_run
from harness.run.run import write_results

RESULTS = Path(__file__).parents[1] / "results"
CHANGED = 0.01  # of the baseline's answers
IMAGES = 10_000  # the test set of CIFAR-10
SERIES = {"classes": 10, "seeds": 10}  # 100 patches
MOST_US, MOST_GIB = 1.5, 4.0  # wanted at 10^8 records
HEADS = ("records", "cells", "images", "disk, MB", "report, CPU s", "gate, CPU s", "CPU µs a record")
HEADS += ("clock s", "clock µs a record", "memory, GiB", "page, MB")


class Judged(NamedTuple):
    """What judging took, in this process."""

    report: float
    gate: float
    memory: float
    page: float


class Row(NamedTuple):
    """What a run of some size took; seconds, MB on disk and of the page, GiB of memory."""

    shape: Shape
    disk: float
    clock: float
    took: Judged

    @property
    def records(self) -> int:
        """How many were judged."""
        return self.shape.cells * self.shape.images

    @property
    def cpu_us(self) -> float:
        """CPU microseconds a record."""
        return 1e6 * (self.took.report + self.took.gate) / self.records

    @property
    def clock_us(self) -> float:
        """Microseconds a record by the clock."""
        return 1e6 * self.clock / self.records


def shape_of(records: int, images: int) -> Shape:
    """Return a run of about so many records: 100 patches a series, on as many images in as many series and places."""
    victims, files, targets = (1, 2, 2) if records < 10**7 else (1, 2, 4) if records < 5 * 10**7 else (2, 6, 7)
    shape = Shape(victims, files, targets, 1, **SERIES, images=images)
    if records < shape.cells * images // 2:
        return shape._replace(images=max(10, records // shape.cells))
    missing = records / images - shape.cells
    return shape._replace(series=1 + max(0, math.ceil(missing / (shape.places * shape.classes * shape.seeds))))


def judged(root: Path, base: Path) -> Judged:
    """Judge a run in this process, and return what it took."""
    page = write_results(root)
    reported = time.process_time()
    verdict = judge(of_run(base), of_run(root), DEFAULT)
    assert verdict.comparisons, verdict.faults
    gate = time.process_time() - reported
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return Judged(reported, gate, memory, page.stat().st_size / 1e6)


def measured(shape: Shape, folder: Path | None) -> Row:
    """Make a run of this shape, and judge it in a process of its own."""
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        root = make(Path(scratch) / "run", shape)
        base = make(Path(scratch) / "base", shape, CHANGED)
        disk = sum(file.stat().st_size for file in root.rglob("*.parquet")) / 1e6
        begun = time.perf_counter()
        asked = [sys.executable, __file__, "--judge", str(root), str(base)]
        told = subprocess.run(asked, check=True, stdout=subprocess.PIPE).stdout
        return Row(shape, disk, time.perf_counter() - begun, Judged(*json.loads(told)))


def table(rows: Sequence[Row]) -> str:
    """Return the rows as Markdown."""
    lines = [f"| {' | '.join(HEADS)} |", f"|{'---:|' * len(HEADS)}"]
    for row in rows:
        took = row.took
        counts = [f"{n:,}" for n in (row.records, row.shape.cells, row.shape.images)]
        seconds = [f"{row.disk:.0f}", f"{took.report:.1f}", f"{took.gate:.1f}", f"{row.cpu_us:.2f}", f"{row.clock:.1f}"]
        lines.append(f"| {' | '.join([*counts, *seconds, f'{row.clock_us:.2f}', *map('{:.2f}'.format, took[2:])])} |")
    return "\n".join(lines) + "\n"


def figure(rows: Sequence[Row]) -> str:
    """Draw time a record and memory over records."""
    records = [row.records for row in rows]
    with drawing(9.6, 3.2) as (drawn, out):
        time_axes, memory_axes = drawn.subplots(1, 2)
        for name, of, i in (("CPU of all threads", "cpu_us", 0), ("by the clock", "clock_us", 1)):
            values = [getattr(row, of) for row in rows]
            time_axes.loglog(records, values, color=COLOURS[i], marker=MARKERS[i], ms=4, label=name)
        memory_axes.semilogx(records, [row.took.memory for row in rows], color=COLOURS[2], marker="o", ms=4)
        _finish(time_axes, "microseconds a record", MOST_US)
        _finish(memory_axes, "memory, GiB", MOST_GIB)
        legend(drawn, time_axes)
        drawn.subplots_adjust(0.07, 0.15, 0.96, 0.88, wspace=0.2)
    return f"{out[0]}\n"


def _finish(axes: Axes, name: str, most: float) -> None:
    axes.axhline(most, color=INK, lw=0.8, ls=(0, (4, 3)))
    axes.set(xlabel="records", ylabel=name)
    axes.set_ylim(bottom=None if axes.get_yscale() == "log" else 0)
    axes.minorticks_off()
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.yaxis.set_major_formatter("{x:g}")
    axes.grid(axis="y")


def main(sizes: Sequence[int], images: int, folder: Path | None, *, write: bool) -> None:
    """Measure each size, and print a table, or write it with the figure."""
    rows = [measured(shape_of(records, images), folder) for records in sizes]
    print(table(rows))
    if write:
        file = RESULTS / "judging.md"
        file.write_text(re.sub(r"\| records .*?\n(?=\n)", table(rows), file.read_text(), count=1, flags=re.S))
        (RESULTS / "judging.svg").write_text(figure(rows))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("records", type=int, nargs="*", default=[10**5, 10**6, 10**7, 10**8])
    parser.add_argument("--images", type=int, default=IMAGES, help="of each cell, at most")
    parser.add_argument("--folder", type=Path, help="where the runs are written meanwhile")
    parser.add_argument("--write", action="store_true", help="write table and figure to benchmarks/results")
    parser.add_argument("--judge", type=Path, nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.judge:
        print(json.dumps(judged(*given.judge)))
    else:
        main(given.records, given.images, given.folder, write=given.write)

"""Judge made runs of many records: ``PYTHONPATH=. python benchmarks/speed/records.py [RECORDS ...] [--folder DIR]``.

For each number, a run whose records numpy draws is written, some bytes a record on disk, and judged in a process of
its own: rates, intervals and checks with the report, and the gate against a baseline in which every hundredth answer is
another. Seconds are CPU seconds of all threads; memory is the most that the process had.
"""

import argparse
import json
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from made_records import CLASSES, Shape, make
from rich.table import Table

from harness.console import console
from harness.gate.judge import judge
from harness.gate.rules import DEFAULT
from harness.results.baseline import of_run
from harness.run.run import write_results

CHANGED = 0.01  # of the baseline's answers


def shape_of(records: int) -> Shape:
    """Return a run of about so many records: 100 patches on each of 1000 images, in as many series and places."""
    least = Shape(victims=1, files=2, targets=2, series=1, classes=10, seeds=10, images=1000)
    if records <= least.cells * least.images:
        return least._replace(images=max(10, records // least.cells))
    victims, files, targets = (4, 6, 4) if records > 10**7 else (2, 3, 3)
    shape = Shape(victims, files, targets, 1, 10, 10, 1000)
    return shape._replace(series=max(1, records // (shape.places * 100 * shape.images)))


def judged(root: Path) -> dict[str, float]:
    """Judge a run in this process, and return what it took."""
    begun = time.process_time()
    page = write_results(root)
    reported = time.process_time()
    run = of_run(root)
    rng = np.random.default_rng(0)
    preds = run.outcomes.preds.copy()
    for row in preds:
        row[rng.random(len(row), np.float32) < CHANGED] = rng.integers(CLASSES)
    base = replace(run, outcomes=replace(run.outcomes, preds=preds, estimates={}))
    verdict = judge(base, run, DEFAULT)
    assert verdict.comparisons, verdict.faults
    return {
        "report": reported - begun,
        "gate": time.process_time() - reported,
        "memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
        "page": page.stat().st_size / 1e6,
    }


def main(sizes: list[int], folder: Path | None) -> None:
    """Measure each size, and print a table."""
    heads = ("records", "cells", "disk, MB", "report, s", "gate, s", "µs a record", "memory, GiB", "page, MB")
    table = Table(*heads)
    for records in sizes:
        shape = shape_of(records)
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            root = make(Path(scratch) / "run", shape)
            disk = sum(file.stat().st_size for file in root.rglob("*.parquet")) / 1e6
            asked = subprocess.run([sys.executable, __file__, "--judge", root], check=True, capture_output=True)
            took = json.loads(asked.stdout)
            shutil.rmtree(root)
        n = shape.cells * shape.images
        each = 1e6 * (took["report"] + took["gate"]) / n
        figures = (disk, took["report"], took["gate"], each, took["memory"], took["page"])
        table.add_row(f"{n:,}", f"{shape.cells:,}", *(f"{figure:.2f}" for figure in figures))
    console().print(table)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("records", type=int, nargs="*", default=[10**5, 10**6, 10**7])
    parser.add_argument("--folder", type=Path, help="where the runs are written meanwhile")
    parser.add_argument("--judge", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.judge:
        print(json.dumps(judged(given.judge)))
    else:
        main(given.records, given.folder)

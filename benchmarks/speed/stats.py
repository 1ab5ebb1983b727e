"""Time the crossed bootstrap against plain resampling: ``python benchmarks/speed/stats.py [--json FILE]``.

Both draw 10,000 resamples of 30 patches x 1000 images; the plain loop is timed on a hundredth of them.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
from rich.table import Table

from harness.console import console
from harness.results.stats import RESAMPLES, crossed_bootstrap, image_weights

PATCHES = 30
IMAGES = 1000
PART = 100


def plain(hits: np.ndarray, among: np.ndarray, classes: np.ndarray, resamples: int) -> np.ndarray:
    """Resample by copying rows and columns."""
    rng = np.random.default_rng(0)
    groups = [np.flatnonzero(classes == group) for group in np.unique(classes)]
    means = []
    for _ in range(resamples):
        patches = np.concatenate([rng.choice(group, len(group) - 1) for group in groups])
        where = np.ix_(patches, rng.integers(IMAGES, size=IMAGES))
        means.append(((hits & among)[where].sum(1) / among[where].sum(1)).mean())
    return np.array(means)


def main(file: Path | None) -> None:
    """Time both, and compare their results."""
    rng = np.random.default_rng(0)
    chance = 0.3 + rng.normal(0, 0.1, (PATCHES, 1)) + rng.normal(0, 0.2, IMAGES)
    hits = rng.random(chance.shape) < chance
    among = rng.random(chance.shape) < 0.85
    classes = np.arange(PATCHES) // 10
    seconds = []
    for _ in range(3):
        image_weights.cache_clear()
        started = time.perf_counter()
        ours = crossed_bootstrap(hits, among, classes)
        seconds.append(time.perf_counter() - started)
    started = time.perf_counter()
    theirs = plain(hits, among, classes, RESAMPLES // PART)
    loop = PART * (time.perf_counter() - started)
    ratio = loop / min(seconds)
    table = Table("what", "seconds", "deviation of the mean")
    table.add_row(f"crossed bootstrap, {RESAMPLES} resamples", f"{min(seconds):.2f}", f"{ours.std():.5f}")
    table.add_row(f"plain resampling, {RESAMPLES} resamples", f"{loop:.1f}", f"{theirs.std():.5f}")
    console().print(table, f"{PATCHES} patches x {IMAGES} images: {ratio:.0f} times as fast", sep="\n")
    if file:
        file.write_text(json.dumps({"schema": 1, "ratios": {"bootstrap by plain resampling": ratio}}, indent=1) + "\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the ratio")
    main(parser.parse_args().json)

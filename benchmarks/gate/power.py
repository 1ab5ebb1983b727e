"""Measure what the gate misses and what it imagines, on synthetic runs: ``python benchmarks/gate/power.py``.

Runs the gate's own code on thousands of runs drawn from the model of ``variance.py`` with the values that it measured
(``benchmarks/results/gate-variance.json``), and writes ``gate-power.md``, ``.svg`` and ``.json`` beside them.
A gate has 20 cells, each 3 patches (3 classes, one seed) x 1000 images; unless stated, one cell of the 20 changes.
"""

import argparse
import json
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
from draw import draw
from scipy.stats import norm

from harness.gate.compare import compare
from harness.gate.pairs import Pair
from harness.gate.rules import DEFAULT
from harness.results.columns import CELL_COLUMNS
from harness.results.frozen import Facts, Frozen
from harness.results.outcomes import Outcomes, clean_rows
from harness.results.stats import difference, mean_rate

RESULTS = Path(__file__).parents[1] / "results"
IMAGES = 1000
CELLS = 20
CLASSES = 3
CLEAN = 0.915  # accuracy
CHURN = 0.02  # of the images flip either way on top of a rise: a harder case than any that was measured
RISES = [0.02, 0.03, 0.04, 0.05, 0.06, 0.08]


@dataclass(frozen=True)
class World:
    """The model's values: mean rate, spread of patches, share of images, and how often mere noise flips a hit."""

    rate: float
    spread: float
    share: float
    noise: float

    def thresholds(self, rng: np.random.Generator, patches: int) -> np.ndarray:
        """Draw a threshold per patch; the mean rate over patches is `rate`."""
        middle = norm.ppf(self.rate) * np.sqrt(1 + self.spread**2)
        return middle + self.spread * rng.standard_normal(patches)

    def latents(self, rng: np.random.Generator, image: np.ndarray, patches: int) -> np.ndarray:
        """Draw the numbers ``(patches, images)`` that thresholds are compared with; ``image`` is the images' part."""
        return np.sqrt(self.share) * image + np.sqrt(1 - self.share) * rng.standard_normal((patches, len(image)))


@dataclass(frozen=True)
class Result:
    """Everything that was measured, as in ``gate-power.json``: shares by name."""

    runs: int
    world: World
    loud_noise: float
    churn: float
    false_alarms: dict[str, float]
    rises: list[float]
    found: dict[str, list[float]]
    fresh_patches_5_points: dict[str, float]
    false_alarms_fresh_9_patches: float
    coverage: dict[str, float]


def repeated(rng: np.random.Generator, latent: np.ndarray, size: float) -> np.ndarray:
    """Return latent numbers as a second measurement has them: with noise of some size, and of the same variance."""
    return (latent + size * rng.standard_normal(latent.shape)) / np.sqrt(1 + size**2)


@cache
def jitter(world: World) -> float:
    """Find the size of the noise on latents that flips `World.noise` of the hits, by bisection."""
    rng = np.random.default_rng(0)
    base = rng.standard_normal(400_000)
    extra = rng.standard_normal(400_000)
    edge = norm.ppf(world.rate)

    def flips(size: float) -> float:
        second = (base + size * extra) / np.sqrt(1 + size**2)
        return float(((base < edge) != (second < edge)).mean())

    low, high = 0.0, 2.0
    for _ in range(30):
        middle = (low + high) / 2
        if flips(middle) < world.noise:
            low = middle
        else:
            high = middle
    return high


@cache
def cell_table(cells: int, seeds: int) -> pd.DataFrame:
    """Return the cells of a synthetic run: for each place the clean one, then its patches."""
    constant = {"victim": "v", "split": "evaluate", "target": "t", "patch_px": 8, "seed": 0}
    row = dict.fromkeys(CELL_COLUMNS, "") | constant
    rows = []
    for cell in range(cells):
        here = row | {"artifact": f"a{cell}"}
        rows.append(here | {"attack": "none", "target_class": -1})
        for target_class in range(CLASSES):
            rows += [here | {"attack": "gap", "target_class": target_class, "seed": seed} for seed in range(seeds)]
    return pd.DataFrame(rows, columns=list(CELL_COLUMNS))


def frozen(cells: pd.DataFrame, hits: np.ndarray, right: np.ndarray, labels: np.ndarray) -> Frozen:
    """Return a run with given hits ``(places, patches, images)`` and correct clean answers ``(places, images)``."""
    goal = cells["target_class"].to_numpy(int).reshape(len(hits), -1)[:, 1:, None]
    clean = np.where(right, labels, labels % 10 + 10)[:, None]
    patched = np.where(hits, goal, labels)
    preds = np.concatenate([clean, patched], axis=1).reshape(len(cells), -1).astype(np.int32)
    images = np.array([f"i{i}" for i in range(len(labels))])
    facts = Facts(suite="", ids_sha256={}, failed_checks=())
    return Frozen(Path("run"), facts, Outcomes(cells, images, labels, preds, clean_rows(cells)))


@cache
def pairs_of(cells: int, seeds: int, anew: bool) -> list[Pair]:
    """Return what `harness.gate.pairs.pairs` finds for two comparable runs of such cells."""
    groups = cell_table(cells, seeds).groupby(["artifact", "attack"], sort=False)
    return [Pair(g.iloc[0], tuple((i, i) for i in g.index), anew, (), ()) for _, g in groups]


@dataclass(frozen=True)
class Gate:
    """A synthetic gate, as a function of its seed: does it call a run worse whose success rose on ``changed`` cells?

    ``churn`` is the share of images that flip in either direction on top of the rise, ``size`` is `jitter`'s. ``anew``:
    the second run has other patches.
    """

    world: World
    rise: float
    size: float
    changed: int = 1
    seeds: int = 1
    anew: bool = False
    cells: int = CELLS
    churn: float = 0.0
    margin: float = 0.02

    def __call__(self, seed: int) -> bool:
        """Run the gate once."""
        rng = np.random.default_rng(seed)
        labels = rng.integers(0, 10, IMAGES)
        before, after, right = [], [], []
        for cell in range(self.cells):
            first, second = self._hits(rng, cell < self.changed)
            before.append(first)
            after.append(second)
            right.append(rng.random(IMAGES) < CLEAN)
        clean = np.array(right)
        flips = self.world.noise / 2 / np.where(clean, CLEAN, 1 - CLEAN)
        flipped = clean ^ (rng.random(clean.shape) < flips)
        table = cell_table(self.cells, self.seeds)
        a = frozen(table, np.array(before), clean, labels)
        b = frozen(table, np.array(after), flipped, labels)
        margins = [rule.model_copy(update={"margin": self.margin}) for rule in DEFAULT.compare]
        rules = DEFAULT.model_copy(update={"compare": margins})
        pairs = pairs_of(self.cells, self.seeds, self.anew)
        return any(change.worse for rule in rules.compare for change in compare(a, b, rule, rules.alpha(rule), pairs))

    def _hits(self, rng: np.random.Generator, changes: bool) -> tuple[np.ndarray, np.ndarray]:
        """Draw which images the patches of one cell hit, in either run: bool ``(patches, images)``."""
        patches = CLASSES * self.seeds
        image = rng.standard_normal(IMAGES)
        latent = self.world.latents(rng, image, patches)
        edge = self.world.thresholds(rng, patches)[:, None]
        second = repeated(rng, latent, self.size)
        second_edge = edge
        if self.anew:
            second = self.world.latents(rng, image, patches)
            second_edge = self.world.thresholds(rng, patches)[:, None]
        rise = self.rise if changes else 0.0
        hits = latent < edge
        second_hits = second < norm.ppf(np.clip(norm.cdf(second_edge) + rise, 1e-6, 1 - 1e-6))
        if self.churn and changes:
            flips = self.churn / np.where(hits, hits.mean(), 1 - hits.mean())
            second_hits = np.where(rng.random(hits.shape) < flips, ~hits, second_hits)
        return hits, second_hits


@dataclass(frozen=True)
class Coverage:
    """Does an interval contain the truth, as a function of its seed?"""

    world: World
    seeds: int  # per class; 0: one patch in all
    what: str  # rate, or change (of frozen patches)

    def __call__(self, seed: int) -> bool:
        """Draw one run and its interval."""
        rng = np.random.default_rng(seed)
        patches = max(1, CLASSES * self.seeds)
        classes = np.repeat(np.arange(CLASSES), self.seeds) if self.seeds else np.zeros(1, int)
        labels = rng.integers(0, 10, IMAGES)
        latent = self.world.latents(rng, rng.standard_normal(IMAGES), patches)
        edge = self.world.thresholds(rng, patches)
        among = (rng.random(IMAGES) < CLEAN) & (labels != classes[:, None])
        hits = latent < edge[:, None]
        if self.what == "change":
            second = repeated(rng, latent, jitter(self.world))
            higher = norm.ppf(norm.cdf(edge) + 0.05)
            change = difference((second < higher[:, None]) - hits.astype(float), among, classes)
            return change.low <= 0.05 <= change.high
        rate = mean_rate(hits, among, classes)
        truth = float(norm.cdf(edge).mean()) if rate.over == "images" else self.world.rate
        return rate.low <= truth <= rate.high


def worlds() -> tuple[World, World]:
    """Return the measured world (means over INT8 files), and one with ten times its noise."""
    measured = json.loads((RESULTS / "gate-variance.json").read_text())
    int8 = [place for name, place in measured["places"].items() if "fp32" not in name and "torch" not in name]
    rate, spread, share = (float(np.mean([place[value] for place in int8])) for value in ("rate", "spread", "share"))
    noise = max(sum(kernels.values()) for kernels in measured["kernels"].values())
    world = World(rate, spread, share, noise)
    return world, replace(world, noise=min(0.1, 10 * noise))


def measure(runs: int, pool: ProcessPoolExecutor) -> Result:
    """Draw all runs."""
    world, loud = worlds()

    def share_of(task: Callable[[int], bool], times: int) -> float:
        return float(np.mean(list(pool.map(task, range(times), chunksize=25))))

    def gate(which: World, rise: float) -> Gate:
        return Gate(which, rise, jitter(which))

    alarms = {}
    for name, which in (("measured noise", world), ("ten times that", loud)):
        for margin in (0.02, 0.0):
            quiet = replace(gate(which, 0.0), changed=0, margin=margin)
            alarms[f"{name}, margin {100 * margin:.0f} points"] = share_of(quiet, runs)
    found = {}
    harder = ("and 2 % flip either way", world, CHURN)
    for name, which, churn in (("measured noise", world, 0.0), ("ten times that", loud, 0.0), harder):
        found[name] = [share_of(replace(gate(which, rise), churn=churn), runs // 4) for rise in RISES]
    fresh = {}
    for seeds in (1, 3, 5, 7, 10, 30):
        anew = replace(gate(world, 0.05), cells=1, seeds=seeds, anew=True)
        fresh[str(CLASSES * seeds)] = share_of(anew, max(200, runs // 8))
    anew = replace(gate(world, 0.0), changed=0, cells=5, seeds=3, anew=True, margin=0.0)
    fresh_alarms = share_of(anew, runs // 2)
    coverage = {}
    for what, seeds_per_class in (("rate", (0, 1, 2, 3, 5, 10)), ("change", (0, 1, 3))):
        for seeds in seeds_per_class:
            coverage[f"{what}, {max(1, CLASSES * seeds)} patches"] = share_of(Coverage(world, seeds, what), runs)
    return Result(runs, world, loud.noise, CHURN, alarms, RISES, found, fresh, fresh_alarms, coverage)


def main() -> None:
    """Draw everything and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=2000, help="synthetic gates per number")
    parser.add_argument("--workers", type=int, default=2, help="processes")
    parser.add_argument("--into", type=Path, default=RESULTS, metavar="DIR", help="where the results are written")
    given = parser.parse_args()
    with ProcessPoolExecutor(given.workers) as pool:
        result = measure(given.runs, pool)
    (given.into / "gate-power.json").write_text(json.dumps({"schema": 1} | asdict(result), indent=1) + "\n")
    draw(result, given.into)


if __name__ == "__main__":
    main()

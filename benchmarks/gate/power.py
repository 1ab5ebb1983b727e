"""What the gate misses and what it imagines, on thousands of synthetic runs: ``python benchmarks/gate/power.py``.

Runs the gate's own code on runs drawn from the model of ``variance.py`` with the values that it measured
(``benchmarks/results/gate-variance.json``), and writes ``gate-power.md``, ``.svg`` and ``.json`` beside them.
A gate has 20 cells, each 3 patches (3 classes, one seed) x 1000 images; unless said, one cell of the 20 changes.
"""

import argparse
import json
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import norm

from harness.gate.compare import compare
from harness.gate.pairs import Pair
from harness.gate.rules import DEFAULT
from harness.results.baseline import Frozen
from harness.results.columns import CELL_COLUMNS
from harness.results.outcomes import Outcomes, clean_rows
from harness.results.stats import difference, mean_rate

RESULTS = Path(__file__).parents[1] / "results"
IMAGES, CELLS, CLASSES, CLEAN = 1000, 20, 3, 0.915
CHURN = 0.02  # of the images flip either way beside a rise, for a harder case than any that was measured


@dataclass(frozen=True)
class World:
    """The model's values: mean rate, spread of patches, share of images, and how often mere noise flips a hit."""

    rate: float
    spread: float
    share: float
    noise: float

    def thresholds(self, rng: np.random.Generator, patches: int) -> np.ndarray:
        """A patch's latent number; over patches the rate's mean is `rate`."""
        middle = norm.ppf(self.rate) * np.sqrt(1 + self.spread**2)
        return middle + self.spread * rng.standard_normal(patches)

    def latents(self, rng: np.random.Generator, image: np.ndarray, patches: int) -> np.ndarray:
        """The latent numbers ``(patches, images)`` that thresholds are held against; ``image`` is the images' part."""
        return np.sqrt(self.share) * image + np.sqrt(1 - self.share) * rng.standard_normal((patches, len(image)))


@cache
def jitter(world: World) -> float:
    """The size of the noise on latents that flips `World.noise` of the hits, found by drawing."""
    rng = np.random.default_rng(0)
    base, extra = rng.standard_normal(400_000), rng.standard_normal(400_000)
    edge = norm.ppf(world.rate)

    def flips(size: float) -> float:
        again = (base + size * extra) / np.sqrt(1 + size**2)
        return float(((base < edge) != (again < edge)).mean())

    low, high = 0.0, 2.0
    for _ in range(30):
        low, high = ((low + high) / 2, high) if flips((low + high) / 2) < world.noise else (low, (low + high) / 2)
    return high


@cache
def table(cells: int, seeds: int) -> pd.DataFrame:
    """The cells of a synthetic run: each place its clean one, then its patches."""
    row = dict.fromkeys(CELL_COLUMNS, "") | {
        "victim": "v",
        "split": "evaluate",
        "target": "t",
        "patch_px": 8,
        "seed": 0,
    }
    rows = []
    for cell in range(cells):
        here = row | {"artifact": f"a{cell}"}
        rows.append(here | {"attack": "none", "target_class": -1})
        rows += [here | {"attack": "gap", "target_class": c, "seed": s} for c in range(CLASSES) for s in range(seeds)]
    return pd.DataFrame(rows, columns=list(CELL_COLUMNS))


def frozen(cells: pd.DataFrame, hits: np.ndarray, right: np.ndarray, labels: np.ndarray) -> Frozen:
    """A run whose patches, ``(places, patches, images)``, hit these images, and whose clean answers are right there."""
    goal = cells["target_class"].to_numpy(int).reshape(len(hits), -1)[:, 1:, None]
    clean = np.where(right, labels, labels % 10 + 10)[:, None]
    patched = np.where(hits, goal, labels)
    preds = np.concatenate([clean, patched], axis=1).reshape(len(cells), -1).astype(np.int32)
    images = np.array([f"i{i}" for i in range(len(labels))])
    return Frozen(Path("run"), {"targets": []}, Outcomes(cells, images, labels, preds, clean_rows(cells)))


@cache
def couples(cells: int, seeds: int, anew: bool) -> list[Pair]:
    """What `harness.gate.pairs.pairs` finds for two runs of such cells, where nothing forbids comparing."""
    groups = table(cells, seeds).groupby(["artifact", "attack"], sort=False)
    return [Pair(g.iloc[0], tuple((i, i) for i in g.index), anew, (), ()) for _, g in groups]


def one_gate(
    world: World, rise: float, *, changed: int = 1, seeds: int = 1, anew: bool = False, cells: int = CELLS,
    churn: float = 0.0, margin: float = 0.02, seed: int = 0, size: float = 0.0,
) -> bool:  # fmt: skip
    """Whether one synthetic gate calls a run worse whose success rose on ``changed`` of its cells.

    ``churn`` is what flips either way beside the rise, the share of images in each direction; ``size`` is `jitter`'s.
    """
    rng = np.random.default_rng(seed)
    known = table(cells, seeds)
    patches = CLASSES * seeds
    labels = rng.integers(0, 10, IMAGES)
    before, after, right = [], [], []
    for cell in range(cells):
        image = rng.standard_normal(IMAGES)
        latent, edge = world.latents(rng, image, patches), world.thresholds(rng, patches)[:, None]
        again = (latent + size * rng.standard_normal(latent.shape)) / np.sqrt(1 + size**2)
        up, new = rise if cell < changed else 0.0, edge
        if anew:
            again, new = world.latents(rng, image, patches), world.thresholds(rng, patches)[:, None]
        moved = norm.ppf(np.clip(norm.cdf(new) + up, 1e-6, 1 - 1e-6))
        hit, now = latent < edge, again < moved
        if churn and cell < changed:
            now = np.where(rng.random(now.shape) < churn / np.where(hit, hit.mean(), 1 - hit.mean()), ~hit, now)
        before.append(hit)
        after.append(now)
        right.append(rng.random(IMAGES) < CLEAN)
    clean = np.array(right)
    flipped = clean ^ (rng.random(clean.shape) < world.noise / 2 / np.where(clean, CLEAN, 1 - CLEAN))
    a, b = (frozen(known, np.array(h), r, labels) for h, r in ((before, clean), (after, flipped)))
    rules = DEFAULT.model_copy(update={"compare": [r.model_copy(update={"margin": margin}) for r in DEFAULT.compare]})
    found = couples(cells, seeds, anew)
    return any(c.worse for rule in rules.compare for c in compare(a, b, rule, rules.alpha(rule), found))


def share_of(task: Callable[[int], bool], runs: int, pool: ProcessPoolExecutor) -> float:
    """How often a task with a seed is true."""
    return float(np.mean(list(pool.map(task, range(runs), chunksize=25))))


@dataclass(frozen=True)
class Gate:
    """`one_gate` as a function of its seed alone, for other processes."""

    world: World
    rise: float
    options: dict[str, object]

    def __call__(self, seed: int) -> bool:
        """Whether that gate answers worse."""
        return one_gate(self.world, self.rise, seed=seed, **self.options)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Cover:
    """Whether an interval holds the truth, as a function of its seed."""

    world: World
    seeds: int  # a class; 0: one patch in all
    what: str  # rate, or change (of frozen patches)

    def __call__(self, seed: int) -> bool:
        """Whether it does."""
        rng = np.random.default_rng(seed)
        patches, world = max(1, CLASSES * self.seeds), self.world
        classes = np.repeat(np.arange(CLASSES), self.seeds) if self.seeds else np.zeros(1, int)
        labels, latent = rng.integers(0, 10, IMAGES), world.latents(rng, rng.standard_normal(IMAGES), patches)
        edge = world.thresholds(rng, patches)
        among = (rng.random(IMAGES) < CLEAN) & (labels != classes[:, None])
        hits = latent < edge[:, None]
        if self.what == "change":
            size = jitter(world)
            again = (latent + size * rng.standard_normal(latent.shape)) / np.sqrt(1 + size**2)
            higher = norm.ppf(norm.cdf(edge) + 0.05)
            found = difference((again < higher[:, None]) - hits.astype(float), among, classes)
            return found.low <= 0.05 <= found.high
        one = mean_rate(hits, among, classes)
        truth = float(norm.cdf(edge).mean()) if one.over == "images" else world.rate
        return one.low <= truth <= one.high


def worlds() -> tuple[World, World]:
    """The measured world (means over INT8 files), and one with ten times its noise."""
    measured = json.loads((RESULTS / "gate-variance.json").read_text())
    integer = [v for k, v in measured["places"].items() if "fp32" not in k and "torch" not in k]
    noise = max(sum(v.values()) for v in measured["kernels"].values())
    world = World(*(float(np.mean([v[k] for v in integer])) for k in ("rate", "spread", "share")), noise)
    return world, replace(world, noise=min(0.1, 10 * noise))


def main(runs: int, workers: int) -> None:
    """Draws everything and writes the results."""
    world, loud = worlds()
    with ProcessPoolExecutor(workers) as pool:

        def gates(which: World, rise: float, times: int = runs, **options: object) -> float:
            return share_of(Gate(which, rise, options | {"size": jitter(which)}), times, pool)

        alarms = {
            f"{name}, margin {100 * margin:.0f} points": gates(which, 0.0, changed=0, margin=margin)
            for name, which in (("measured noise", world), ("ten times that", loud))
            for margin in (0.02, 0.0)
        }
        rises = [0.02, 0.03, 0.04, 0.05, 0.06, 0.08]
        found = {
            name: [gates(which, rise, times=runs // 4, churn=extra) for rise in rises]
            for name, which, extra in (
                ("measured noise", world, 0.0),
                ("ten times that", loud, 0.0),
                ("and 2 % flip either way", world, CHURN),
            )
        }
        seeds = [1, 3, 5, 7, 10, 30]
        fresh = {str(CLASSES * n): gates(world, 0.05, max(200, runs // 8), cells=1, seeds=n, anew=True) for n in seeds}
        false_fresh = gates(world, 0.0, runs // 2, changed=0, cells=5, seeds=3, anew=True, margin=0.0)
        cover = {
            f"{what}, {max(1, CLASSES * n)} patches": share_of(Cover(world, n, what), runs, pool)
            for what, some in (("rate", (0, 1, 2, 3, 5, 10)), ("change", (0, 1, 3)))
            for n in some
        }
    result = {
        "schema": 1, "runs": runs, "world": world.__dict__, "loud_noise": loud.noise, "churn": CHURN,
        "false_alarms": alarms, "rises": rises, "found": found, "fresh_patches_5_points": fresh,
        "false_alarms_fresh_9_patches": false_fresh, "coverage": cover,
    }  # fmt: skip
    (RESULTS / "gate-power.json").write_text(json.dumps(result, indent=1) + "\n")
    from draw import draw

    draw(result, RESULTS)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=2000)
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args()
    main(arguments.runs, arguments.workers)

"""How patches and images vary in a real run, for the simulation beside this file.

``python benchmarks/gate/variance.py RUN`` writes ``benchmarks/results/gate-variance.json``. A patch hits an image where
a latent number is below its class's: ``sqrt(share) * image + sqrt(1 - share) * own < middle + spread * patch``, all
standard normal (a probit model with crossed effects, so rates stay between 0 and 1). ``spread`` comes from the patches
of one class, ``share`` from how often two patches hit the same image (the tetrachoric correlation), both on each file.
"""

import json
import sys
from itertools import combinations
from pathlib import Path

import numpy as np
from scipy.optimize import brentq
from scipy.stats import multivariate_normal, norm

from harness.results.baseline import of_run
from harness.results.outcomes import Outcomes

RESULT = Path(__file__).parents[1] / "results" / "gate-variance.json"


def tetrachoric(both: float, one: float, other: float) -> float:
    """The correlation of two normals that are below their thresholds together so often."""
    a, b = norm.ppf(one), norm.ppf(other)

    def miss(r: float) -> float:
        return float(multivariate_normal.cdf([a, b], cov=[[1, r], [r, 1]])) - both

    return brentq(miss, -0.99, 0.99) if miss(-0.99) < 0 < miss(0.99) else float("nan")


def of_place(known: Outcomes, rows: list[int]) -> dict[str, float]:
    """Rate, spread of patches and share of images on one artifact and target; ``rows`` are its patched cells."""
    classes = known.cells["target_class"].to_numpy(int)[rows]
    hits = np.array([known.hits(row, "targeted") for row in rows])
    among = np.array([known.among(row, "targeted") for row in rows])
    rates = (hits & among).sum(1) / among.sum(1)
    latent = norm.ppf(np.clip(rates, 1e-3, 1 - 1e-3))
    variance = np.mean([latent[classes == c].var(ddof=1) for c in np.unique(classes)])
    shares = []
    for i, j in combinations(range(len(rows)), 2):
        here = among[i] & among[j]
        a, b = hits[i][here], hits[j][here]
        shares.append(tetrachoric(float((a & b).mean()), float(a.mean()), float(b.mean())))
    return {"rate": float(rates.mean()), "spread": float(np.sqrt(variance)), "share": float(np.nanmean(shares))}


def discordant(known: Outcomes, pairs: list[tuple[int, int]]) -> dict[str, float]:
    """The share of images that count on both of two places and are hit on one alone: ``up`` on the second."""
    up, down = [], []
    for i, j in pairs:
        here = known.among(i, "targeted") & known.among(j, "targeted")
        a, b = known.hits(i, "targeted")[here], known.hits(j, "targeted")[here]
        up.append((b & ~a).mean())
        down.append((a & ~b).mean())
    return {"up": float(np.mean(up)), "down": float(np.mean(down))}


def main(run_dir: Path) -> None:
    """Measures every place, and what two kernels and two calibrations of the same file disagree on."""
    known = of_run(run_dir).outcomes
    made = known.cells[known.cells["attack"] == "gap"]
    places = {}
    for (artifact, target), rows in made.groupby(["artifact", "target"], sort=False):
        places[f"{artifact} on {target}"] = of_place(known, list(rows.index))

    def between(a: tuple[str, str], b: tuple[str, str]) -> dict[str, float]:
        keys = ["target_class", "seed"]
        one, other = (made[(made["artifact"] == f) & (made["target"] == t)].reset_index() for f, t in (a, b))
        both = one.merge(other, on=keys)
        return discordant(known, list(zip(both["index_x"], both["index_y"], strict=True)))

    files = sorted(made.loc[made["calibration"] != "", "artifact"].unique())
    targets = sorted(made.loc[made["calibration"] != "", "target"].unique())
    result = {
        "schema": 1,
        "of": {"patches": int(made["patch"].nunique()), "images": len(known.images), "suite": run_dir.name},
        "places": places,
        "kernels": {f: between((f, targets[0]), (f, targets[1])) for f in files},
        "calibrations": {t: between((files[1], t), (files[0], t)) for t in targets},
    }
    RESULT.write_text(json.dumps(result, indent=1) + "\n")
    print(RESULT.read_text())


if __name__ == "__main__":
    main(Path(sys.argv[1]))

"""Measure how patches and images vary in a real run, for the simulation in ``power.py``.

``python benchmarks/gate/variance.py RUN`` writes ``benchmarks/results/gate-variance.json``. A patch hits an image where
a latent number is below its class's: ``sqrt(share) * image + sqrt(1 - share) * own < middle + spread * patch``, all
standard normal (a probit model with crossed effects, so rates stay between 0 and 1). ``spread`` comes from the patches
of one class, ``share`` from how often two patches hit the same image (the tetrachoric correlation), both on each file.
"""

import argparse
import json
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.optimize import brentq
from scipy.stats import multivariate_normal, norm

from harness.results.baseline import of_run
from harness.results.outcomes import Outcomes

RESULT = Path(__file__).parents[1] / "results" / "gate-variance.json"


def tetrachoric(both: float, one: float, other: float) -> float:
    """Return the correlation of two normals that are below their thresholds together with probability ``both``."""
    thresholds = norm.ppf([one, other])

    def excess(r: float) -> float:
        return float(multivariate_normal.cdf(thresholds, cov=[[1, r], [r, 1]])) - both

    return brentq(excess, -0.99, 0.99) if excess(-0.99) < 0 < excess(0.99) else float("nan")


def of_place(outcomes: Outcomes, rows: list[int]) -> dict[str, float]:
    """Return rate, spread of patches and share of images on one artifact and target; ``rows`` are its patched cells."""
    classes = outcomes.cells["target_class"].to_numpy(int)[rows]
    hits = np.array([outcomes.hits(row, "targeted") for row in rows])
    among = np.array([outcomes.among(row, "targeted") for row in rows])
    rates = (hits & among).sum(1) / among.sum(1)
    latent = norm.ppf(np.clip(rates, 1e-3, 1 - 1e-3))
    variance = np.mean([latent[classes == target_class].var(ddof=1) for target_class in np.unique(classes)])
    shares = []
    for i, j in combinations(range(len(rows)), 2):
        here = among[i] & among[j]
        a = hits[i][here]
        b = hits[j][here]
        shares.append(tetrachoric(float((a & b).mean()), float(a.mean()), float(b.mean())))
    return {"rate": float(rates.mean()), "spread": float(np.sqrt(variance)), "share": float(np.nanmean(shares))}


def discordant(outcomes: Outcomes, one: pd.DataFrame, other: pd.DataFrame) -> dict[str, float]:
    """Return the share of images hit at one of two places alone, of those that count at both: ``up`` at the second."""
    pairs = one.reset_index().merge(other.reset_index(), on=["target_class", "seed"])
    up, down = [], []
    for i, j in zip(pairs["index_x"], pairs["index_y"], strict=True):
        here = outcomes.among(i, "targeted") & outcomes.among(j, "targeted")
        a = outcomes.hits(i, "targeted")[here]
        b = outcomes.hits(j, "targeted")[here]
        up.append((b & ~a).mean())
        down.append((a & ~b).mean())
    return {"up": float(np.mean(up)), "down": float(np.mean(down))}


def main(run_dir: Path) -> None:
    """Measure every place, and what two kernels and two calibrations of the same file disagree on."""
    outcomes = of_run(run_dir).outcomes
    patched = outcomes.cells[outcomes.cells["attack"] == "gap"]
    files = sorted(patched.loc[patched["calibration"] != "", "artifact"].unique())
    targets = sorted(patched.loc[patched["calibration"] != "", "target"].unique())

    def cells(file: str, target: str) -> pd.DataFrame:
        return patched[(patched["artifact"] == file) & (patched["target"] == target)]

    places = {}
    for (file, target), rows in patched.groupby(["artifact", "target"], sort=False):
        places[f"{file} on {target}"] = of_place(outcomes, list(rows.index))
    kernels = {file: discordant(outcomes, cells(file, targets[0]), cells(file, targets[1])) for file in files}
    calibrations = {name: discordant(outcomes, cells(files[1], name), cells(files[0], name)) for name in targets}
    result = {
        "schema": 1,
        "of": {"patches": int(patched["patch"].nunique()), "images": len(outcomes.images), "suite": run_dir.name},
        "places": places,
        "kernels": kernels,
        "calibrations": calibrations,
    }
    RESULT.write_text(json.dumps(result, indent=1) + "\n")
    print(RESULT.read_text())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run_dir", metavar="RUN", type=Path)
    main(parser.parse_args().run_dir)

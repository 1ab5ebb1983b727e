"""Intervals over patches: for an attack on an artifact on a target, what other patches and images would give."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from harness.results.outcomes import OVER_PATCHES, Kind, Outcomes, outcomes
from harness.results.stats import Estimate, mean_rate

RATES: dict[str, Kind] = {
    "clean_accuracy": "clean",
    "targeted_success": "targeted",
    "untargeted_success": "untargeted",
}


def over_patches(records: pd.DataFrame) -> pd.DataFrame:
    """A row for each value of `OVER_PATCHES`: ``_low`` and ``_high`` of each of `RATES`, and ``interval_over``.

    ``interval_over`` is "images" where nothing says how patches vary (one patch, or one of each class), else "patches
    and images"; that of ``clean_accuracy``, which no patch has a part in, is always over images.
    """
    rows: list[dict[str, Any]] = []
    for split in records["split"].unique():
        known = outcomes(records, str(split))
        for place, members in known.cells.groupby(list(OVER_PATCHES), sort=False, dropna=False, observed=True):
            row = dict(zip(OVER_PATCHES, place, strict=True))
            cells = [i for i in members.index if known.whole(i)]
            for rate, kind in RATES.items():
                if kind != "clean" and row["attack"] == "none":
                    cells = []
                found = estimate(known, cells[:1] if kind == "clean" else cells, kind)
                row |= {f"{rate}_low": found.low, f"{rate}_high": found.high}
            row["interval_over"] = found.over
            rows.append(row)
    ends = [f"{rate}_{end}" for rate in RATES for end in ("low", "high")]
    out = pd.DataFrame(rows, columns=[*OVER_PATCHES, *ends, "interval_over"])
    return out.astype({c: records[c].dtype for c in OVER_PATCHES if pd.api.types.is_numeric_dtype(records[c])})


def estimate(known: Outcomes, cells: list[int], kind: Kind) -> Estimate:
    """The mean of a rate over cells, given as rows of the outcomes."""
    hits, among = (_matrix(part, cells, known, kind) for part in (Outcomes.hits, Outcomes.among))
    return mean_rate(hits, among, known.goals[cells])


def _matrix(part: Any, cells: list[int], known: Outcomes, kind: Kind) -> NDArray[np.bool_]:
    return np.array([part(known, row, kind) for row in cells], bool).reshape(len(cells), len(known.images))

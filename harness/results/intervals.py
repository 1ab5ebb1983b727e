"""Intervals over patches: what other patches of an attack, and other images, would give on a target."""

from __future__ import annotations

import pandas as pd

from harness.results.columns import OVER_PATCHES, RATES
from harness.results.outcomes import Outcomes, outcomes
from harness.results.stats import Estimate, mean_rate
from harness.results.success import Kind


def over_patches(records: pd.DataFrame) -> pd.DataFrame:
    """Return one row per value of `OVER_PATCHES`: ``_low`` and ``_high`` of each of `RATES`, and ``interval_over``.

    ``interval_over`` is "images" where nothing shows how patches vary (one patch, or one of each class), else "patches
    and images"; that of ``clean_accuracy``, in which patches have no part, is always over images.
    """
    rows: list[dict[str, object]] = []
    for split in records["split"].unique():
        known = outcomes(records, str(split))
        for place, members in known.cells.groupby(list(OVER_PATCHES), sort=False, dropna=False, observed=True):
            row: dict[str, object] = dict(zip(OVER_PATCHES, place, strict=True))
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
    """Return the mean of a rate over cells, given as rows of the outcomes."""
    return mean_rate(known.hits_each(cells, kind), known.among_each(cells, kind), known.goals[cells])

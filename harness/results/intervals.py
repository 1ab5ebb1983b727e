"""Intervals over patches: what other patches of an attack, and other images, would give on a target."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from harness.results.columns import CELL_NUMBERS, OVER_PATCHES, RATES
from harness.results.gathering import Splits, by_split
from harness.results.outcomes import Outcomes
from harness.results.stats import Estimate, mean_rate
from harness.results.success import Kind


def over_patches(records: pd.DataFrame | Splits) -> pd.DataFrame:
    """Return one row per value of `OVER_PATCHES`: ``_low`` and ``_high`` of each of `RATES`, and ``interval_over``.

    ``interval_over`` is "images" where nothing shows how patches vary (one patch, or one of each class), else "patches
    and images"; that of ``clean_accuracy``, in which patches have no part, is always over images.
    """
    rows: list[dict[str, object]] = []
    for known in by_split(records).values():
        places = known.cells.groupby(list(OVER_PATCHES), sort=False, dropna=False, observed=True)
        for place, members in places["seed"]:
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
    return out.astype({column: kind for column, kind in CELL_NUMBERS.items() if column in OVER_PATCHES})


def estimate(known: Outcomes, cells: Sequence[int], kind: Kind) -> Estimate:
    """Return the mean of a rate over cells, given as rows of the outcomes, which keep it."""
    key = (kind, *cells)
    if key not in known.estimates:
        known.estimates[key] = mean_rate(
            known.hits_each(cells, kind), known.among_each(cells, kind), known.goals[list(cells)]
        )
    return known.estimates[key]

"""From records to rates: a row per cell, each rate with its own ``n``, and never an error counted as a success."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from harness.schema import CELL_COLUMNS, RECORD_COLUMNS, UserError

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

CONTROLS = ("none", "grey", "noise")
RATES = ("clean_accuracy", "targeted_success", "untargeted_success", "targeted_excess_over_noise", "equal_to_float")
# What a cell shares with: the clean one it is judged by, the float network's on the same images, its noise draws.
CLEAN = ("victim", "artifact", "target", "defence", "split")
CASE = ("victim", "surrogate", "attack", "target_class", "seed", "patch_px", "shape", "placement", "defence", "split")
NOISE = (*CLEAN, "patch_px", "shape", "placement")
# What a target said of itself: unknown for a replay that died, so not part of a row's identity.
MACHINE = ("arch", "cpu", "kernels")
OVER_PATCHES = tuple(c for c in CELL_COLUMNS if c not in ("target_class", "seed", "patch", *MACHINE))


def cells(records: pd.DataFrame) -> pd.DataFrame:
    """A row per cell: its `CELL_COLUMNS`, then counts and rates (fractions; NaN where there is nothing to divide by).

    - ``status``, ``n_error``, ``error``: a cell is ``error`` when any of its images has no prediction, or the cell and
      its clean one (attack ``none``, same victim, artifact, target, defence and split) are not over the same images;
      ``n_error`` counts those images, ``error`` says what the first was. Such a cell has no rates and every other n is
      0: a crash is neither a successful attack nor a robust network.
    - ``clean_accuracy`` over ``n_clean``: all images without a patch; a patched cell repeats its clean cell's.
    - ``targeted_success`` over ``n_targeted``: images that *this* target classifies correctly without the patch and
      that are not of the target class, so that neither the network's own mistakes nor its right answers count as hits.
    - ``untargeted_success`` over ``n_untargeted``: those it classifies correctly without the patch; misclassified with.
    - ``targeted_excess_over_noise``: targeted success minus its mean over the noise draws of the same artifact, target,
      size, shape, placement and target class; NaN when there are none or one of them failed.
    - ``equal_to_float`` over ``n_float``: all images; same prediction as the victim in torch on the same patch.
    """
    if missing := {*CELL_COLUMNS, *RECORD_COLUMNS} - set(records.columns):
        raise UserError(f"records: expected columns {', '.join(sorted(missing))}, got {', '.join(records.columns)}")
    cell = _group(records, CELL_COLUMNS)
    out = records[list(CELL_COLUMNS)].iloc[np.unique(cell, return_index=True)[1]].reset_index(drop=True)
    out = out.astype(dict.fromkeys(out.columns[out.dtypes == "category"], str))
    count = len(out)
    images, names = pd.factorize(records["image"])
    code = pd.Index(cell * len(names) + images)
    if not code.is_unique:
        at = int(np.flatnonzero(code.duplicated())[0])
        where = " / ".join(str(records[c].iloc[at]) for c in ("artifact", "target", "patch"))
        raise UserError(f"records: image {records['image'].iloc[at]!r} twice in the cell {where}")
    ok = (records["status"] == "ok").to_numpy(bool)
    pred, label = records["pred"].to_numpy(np.int64), records["label"].to_numpy(np.int64)

    def total(chosen: Bools) -> Ints:
        return np.bincount(cell[chosen], minlength=count).astype(np.int64)

    def elsewhere(others: Ints) -> Ints:
        """Row of the same image in another cell, given for each cell; -1 where there is none."""
        return np.asarray(code.get_indexer(pd.Index(others[cell] * len(names) + images)), np.int64)

    unpatched = (out["attack"] == "none").to_numpy(bool)
    if out[unpatched].duplicated(list(CLEAN)).any():
        raise UserError(f"records: two cells without a patch that share {', '.join(CLEAN)}")
    clean_cell = _partner(out, CLEAN, unpatched)
    clean_row = elsewhere(clean_cell)
    judged = ok & (clean_row >= 0) & ok[clean_row]
    size = total(np.ones(len(cell), bool))
    absent = np.where(clean_cell >= 0, size[clean_cell], 0) - total(clean_row >= 0)
    n_error = total(~judged) + absent
    good = n_error == 0
    right = judged & (pred[clean_row] == label)
    goal = out["target_class"].to_numpy(np.int64)[cell]
    aimed = right & (goal >= 0) & (goal != label)

    out["status"] = np.where(good, "ok", "error")
    out["n_error"] = n_error
    out["error"] = _explain(records["status"], cell, ok, total(ok & ~judged), absent)
    out["n_clean"] = np.where(good, size, 0)
    out["clean_accuracy"] = _rate(total(right), out["n_clean"])
    patched = right & ~unpatched[cell]
    for name, among, hit in (("targeted", aimed, pred == goal), ("untargeted", patched, pred != label)):
        out[f"n_{name}"] = np.where(good, total(among), 0)
        out[f"{name}_success"] = _rate(total(among & hit), out[f"n_{name}"])
    out["targeted_excess_over_noise"] = out["targeted_success"] - _noise(out)
    float_row = elsewhere(_partner(out, (*CASE, "patch"), (out["format"] == "torch").to_numpy(bool) & good))
    out["n_float"] = np.where(good, total(float_row >= 0), 0)
    out["equal_to_float"] = _rate(total((float_row >= 0) & (pred == pred[float_row])), out["n_float"])
    return out


def summarise(cells: pd.DataFrame) -> pd.DataFrame:
    """Cells over their seeds and target classes: a row per artifact, target and attack (with its surrogate, size, ...).

    ``n_patches`` patches went into the means of `RATES` and into ``targeted_success_min``, ``_max`` and the same of
    ``untargeted_success``; ``n_failed`` cells are in error and left out (``error`` is the first one's message, the
    status ``error`` if none remains). ``n_targeted``, ``n_untargeted`` and ``n_float`` are sums over cells, ``n_clean``
    is one cell's. ``grey`` and ``noise`` are those controls' mean targeted success at the same size and place.
    """
    ok = cells["status"] == "ok"
    table = cells.assign(failed=~ok, ran=cells["patch"].where(ok), message=cells["error"].where(~ok))
    sums = {c: (c, "sum") for c in ("n_error", "n_targeted", "n_untargeted", "n_float")}
    ends = {
        f"{rate}_success_{end}": (f"{rate}_success", end)
        for rate in ("targeted", "untargeted")
        for end in ("min", "max")
    }
    out = (
        table.groupby(list(OVER_PATCHES), sort=False, dropna=False, observed=True)
        .agg(
            n_patches=("ran", "nunique"),
            n_failed=("failed", "sum"),
            n_cells=("failed", "size"),
            error=("message", "first"),
            n_clean=("n_clean", "max"),
            **{rate: (rate, "mean") for rate in RATES} | ends | sums | {c: (c, "max") for c in MACHINE},
        )
        .reset_index()
    )
    out["status"] = np.where(out["n_failed"] < out["n_cells"], "ok", "error")
    for control in ("grey", "noise"):
        rates = out[out["attack"] == control].groupby(list(NOISE))["targeted_success"].mean()
        out[control] = rates.reindex(pd.MultiIndex.from_frame(out[list(NOISE)])).to_numpy()
    return out


def _group(table: pd.DataFrame, columns: Iterable[str]) -> Ints:
    """Number of each row's group, in order of appearance."""
    grouped = table.groupby(list(columns), sort=False, dropna=False, observed=True)
    return np.asarray(grouped.ngroup(), np.int64)


def _partner(cells: pd.DataFrame, columns: Iterable[str], eligible: Bools) -> Ints:
    """For each cell the first eligible one that has the same columns; -1 where there is none."""
    group = _group(cells, columns)
    first = np.full(len(cells), -1, np.int64)
    rows = np.flatnonzero(eligible)[::-1]
    first[group[rows]] = rows
    return first[group]


def _rate(hits: Ints, n: pd.Series) -> Floats:
    rate = np.full(len(n), np.nan)
    np.divide(hits, n, out=rate, where=n.to_numpy() > 0)
    return rate


def _noise(cells: pd.DataFrame) -> Floats:
    """Mean targeted success of each cell's noise draws; NaN if any draw has none."""
    group = _group(cells, (*NOISE, "target_class"))
    draws = (cells["attack"] == "noise").to_numpy(bool)
    success = cells["targeted_success"].to_numpy(float)
    n = np.bincount(group[draws], minlength=len(cells))
    sums = np.bincount(group[draws], weights=success[draws], minlength=len(cells))
    mean = np.full(len(cells), np.nan)
    np.divide(sums, n, out=mean, where=n > 0)
    return mean[group]


def _explain(status: pd.Series, cell: Ints, ok: Bools, unjudged: Ints, absent: Ints) -> list[str]:
    """What went wrong first in each cell; empty where nothing did."""
    failed, first = np.unique(cell[~ok], return_index=True)
    own = dict(zip(failed.tolist(), status[~ok].iloc[first].tolist(), strict=True))
    other = np.where(unjudged > 0, "no clean prediction", np.where(absent > 0, "images missing", "")).tolist()
    return [own.get(i, text) for i, text in enumerate(other)]

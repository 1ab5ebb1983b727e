"""From records to rates: a row per cell, each rate with its own ``n``, and never an error counted as a success."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from backends.device.errors import UserError
from harness.results.columns import CELL_COLUMNS, RECORD_COLUMNS
from harness.results.intervals import over_patches
from harness.results.outcomes import CLEAN, MACHINE, OVER_PATCHES
from harness.results.stats import paired_interval, wilson
from patches.patch import CONTROLS

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

RATES = (
    "clean_accuracy",
    "targeted_success",
    "untargeted_success",
    "targeted_success_in_common",
    "targeted_excess_over_noise",
    "equal_to_float",
)
# What a cell shares with: the float network's on the same images, its noise draws.
CASE = ("victim", "surrogate", "attack", "target_class", "seed", "patch_px", "shape", "placement", "defence", "split")
NOISE = (*CLEAN, "patch_px", "shape", "placement")
STANDING_IN = tuple(name for name in CONTROLS if name != "none")


def is_lab(table: pd.DataFrame) -> pd.Series:
    """Which rows are the float network in torch; a simulated one is neither the lab nor a device."""
    return (table["format"] == "torch") & (table["precision"] == "fp32")


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
    - ``targeted_success_in_common`` over ``n_in_common``: images that every place of this victim classifies correctly,
      so that targets are compared on the same ones. Places are the float network and what really runs; a simulation is
      none, and has this over those of the images that it gets right itself.
    - ``targeted_excess_over_noise``: targeted success minus its mean over the noise draws of the same artifact, target,
      size, shape, placement and target class; NaN when there are none or one of them failed.
    - ``equal_to_float`` over ``n_float``: all images; same prediction as the victim in torch on the same patch.

    After each rate its 95 % interval, ``_low`` and ``_high``: Wilson's; for the excess, whose images are the same, that
    of `harness.results.stats.paired_interval`. They say what other images would give with this very patch.
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
    _add_rate(out, "clean_accuracy", total(right), "n_clean", np.where(good, size, 0))
    patched = right & ~unpatched[cell]
    for name, among, hit in (("targeted", aimed, pred == goal), ("untargeted", patched, pred != label)):
        _add_rate(out, f"{name}_success", total(among & hit), f"n_{name}", np.where(good, total(among), 0))
    common = aimed & _right_everywhere(out, cell, images, right, good)
    hits_in_common = total(common & (pred == goal))
    _add_rate(out, "targeted_success_in_common", hits_in_common, "n_in_common", np.where(good, total(common), 0))
    _add_excess(out, cell, images, aimed, pred == goal)
    float_row = elsewhere(_partner(out, (*CASE, "patch"), is_lab(out).to_numpy(bool) & good))
    equal = total((float_row >= 0) & (pred == pred[float_row]))
    _add_rate(out, "equal_to_float", equal, "n_float", np.where(good, total(float_row >= 0), 0))
    return out


def summarise(cells: pd.DataFrame, records: pd.DataFrame) -> pd.DataFrame:
    """Cells over their seeds and target classes: a row per artifact, target and attack (with its surrogate, size, ...).

    ``n_patches`` patches went into the means of `RATES` and into ``targeted_success_min``, ``_max`` and the same of
    ``untargeted_success``; ``n_failed`` cells are in error and left out (``error`` is the first one's message, the
    status ``error`` if none remains). ``n_targeted``, ``n_untargeted``, ``n_in_common`` and ``n_float`` are sums over
    cells, ``n_clean`` is one cell's. ``grey``, ``noise``, ``sticker`` and ``other_class`` are those controls' mean
    targeted success at the same size and place, for the same target classes; the last is of the row's own attack. Each
    of `harness.results.intervals.RATES` has its 95 % interval, ``_low`` and ``_high``, by
    `harness.results.stats.mean_rate`; what was drawn at random, and so what they generalise to, is in
    ``interval_over``. ``doubts`` are those of the cells, where they have any.
    """
    ok = cells["status"] == "ok"
    table = cells.assign(failed=~ok, ran=cells["patch"].where(ok), message=cells["error"].where(~ok))
    shared = _own_control(cells)
    for control in STANDING_IN:
        keys = shared if control != "other_class" else _of_other_class(cells, shared)
        own, drawn = pd.MultiIndex.from_frame(keys), (cells["attack"] == control).to_numpy(bool)
        rates = cells.loc[drawn, "targeted_success"].groupby(own[drawn]).mean()
        table[control] = np.where(ok, rates.reindex(own).to_numpy(), np.nan)
    sums = {c: (c, "sum") for c in ("n_error", "n_targeted", "n_untargeted", "n_in_common", "n_float")}
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
            **({"doubts": ("doubts", _union)} if "doubts" in table else {}),
            **{rate: (rate, "mean") for rate in (*RATES, *STANDING_IN)} | ends | sums,
            **{c: (c, "max") for c in MACHINE},
        )
        .reset_index()
    )
    out["status"] = np.where(out["n_failed"] < out["n_cells"], "ok", "error")
    return out.merge(over_patches(records), how="left", on=list(OVER_PATCHES), validate="one_to_one")


def _union(lists: pd.Series) -> str:
    """The names of several lists of names, each once."""
    return ", ".join(dict.fromkeys(name for names in lists for name in names.split(", ") if name))


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


def _add_rate(out: pd.DataFrame, name: str, hits: Ints, count: str, n: Ints) -> None:
    """Adds a count and the rate over it with Wilson's interval."""
    out[count] = n
    rate = np.full(len(n), np.nan)
    np.divide(hits, n, out=rate, where=n > 0)
    out[name] = rate
    out[f"{name}_low"], out[f"{name}_high"] = wilson(hits, n)


def _right_everywhere(out: pd.DataFrame, cell: Ints, images: Ints, right: Bools, good: Bools) -> Bools:
    """For each row whether every clean cell of its victim and split that ran, and is no simulation, is right."""
    group = _group(out, ("victim", "split"))
    at = group[cell] * (images.max(initial=0) + 1) + images
    simulated = (out["format"] == "torch") & ~is_lab(out)
    judging = ((out["attack"] == "none") & ~simulated).to_numpy(bool) & good
    count = np.bincount(at[judging[cell] & right], minlength=int(at.max(initial=0)) + 1)
    return np.asarray(count[at] == np.bincount(group[judging], minlength=len(out))[group][cell])


def _own_control(cells: pd.DataFrame) -> pd.DataFrame:
    """What a cell shares with its controls, and they with it: also whose place it is, where an attack chose that."""
    of = pd.Series([str(name).partition("@")[2] for name in cells["patch"]], cells.index, dtype=object)
    chosen = cells["placement"].astype(str).str.startswith("best") & (of == "")
    keys = cells[[*NOISE, "target_class"]].astype(object).fillna("")
    return keys.assign(place_of=of.where(~chosen, cells["patch"].astype(str)))


def _of_other_class(cells: pd.DataFrame, shared: pd.DataFrame) -> pd.DataFrame:
    """What a cell shares with the patches of other classes that stand in for it: its attack's own, on its surrogate.

    A patch says whose it is by the cells that it has for its own class; its place, where it chose one, is its own too.
    """
    made = cells[~cells["attack"].isin(CONTROLS)]
    attack_of = dict(zip(made["patch"], made["attack"], strict=True))
    by = cells["attack"].where(cells["attack"] != "other_class", cells["patch"].map(attack_of))
    return shared.drop(columns="place_of").assign(by=by.fillna(""), surrogate=cells["surrogate"].astype(object))


def _add_excess(out: pd.DataFrame, cell: Ints, images: Ints, aimed: Bools, hit: Bools) -> None:
    """Adds the excess over each cell's noise draws, image by image; NaN if there are none or one of them has none."""
    own = _own_control(out)
    group = _group(own, own.columns)
    draws = (out["attack"] == "noise").to_numpy(bool)
    count = np.bincount(group[draws], minlength=len(out))[group]
    failed = np.bincount(group[draws & out["targeted_success"].isna()], minlength=len(out))[group] > 0
    at = group[cell] * (images.max(initial=0) + 1) + images
    noisy = np.bincount(at[draws[cell] & hit], minlength=int(at.max(initial=0)) + 1)[at]
    step = (hit - noisy / np.maximum(count, 1)[cell])[aimed]
    total, squares = (np.bincount(cell[aimed], weights=step**power, minlength=len(out)) for power in (1, 2))
    n = np.where((count > 0) & ~failed, out["n_targeted"], 0)
    excess = np.full(len(out), np.nan)
    np.divide(total, n, out=excess, where=n > 0)
    out["targeted_excess_over_noise"] = excess
    low, high = paired_interval(total, squares, n)
    out["targeted_excess_over_noise_low"], out["targeted_excess_over_noise_high"] = low, high


def _explain(status: pd.Series, cell: Ints, ok: Bools, unjudged: Ints, absent: Ints) -> list[str]:
    """What went wrong first in each cell; empty where nothing did."""
    failed, first = np.unique(cell[~ok], return_index=True)
    own = dict(zip(failed.tolist(), status[~ok].iloc[first].tolist(), strict=True))
    other = np.where(unjudged > 0, "no clean prediction", np.where(absent > 0, "images missing", "")).tolist()
    return [own.get(i, text) for i, text in enumerate(other)]

"""Rates of cells from records: each with its own ``n``, and an error never counts as a success."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from backends.device.errors import UserError
from harness.results.columns import (
    CELL_COLUMNS,
    CLEAN,
    FLOAT,
    MACHINE,
    NOISE,
    OF_MANY_PASSES,
    OVER_PATCHES,
    RATES,
    RECORD_COLUMNS,
)
from harness.results.intervals import over_patches
from harness.results.stats import paired_interval, wilson
from harness.results.success import Kind, counts, hits, is_right
from patches.patch import CONTROLS

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

ALL_RATES = (*RATES, "targeted_success_in_common", "targeted_excess_over_noise", "equal_to_float")
OF_DEFENCES = ("certified_accuracy", "certified_accuracy_low", "certified_accuracy_high", "passes")
STANDING_IN = tuple(name for name in CONTROLS if name != "none")


def is_lab(table: pd.DataFrame) -> pd.Series:
    """Return which rows are the float network in torch; a simulated one is neither the lab nor a device."""
    return (table["format"] == "torch") & (table["precision"] == "fp32")


def cells(records: pd.DataFrame) -> pd.DataFrame:
    """Return one row per cell: its `CELL_COLUMNS`, then counts and rates (fractions; NaN where ``n`` is 0).

    - ``status``, ``n_error``, ``error``: a cell is ``error`` when any of its images has no prediction, or the cell and
      its clean one (attack ``none``, same victim, artifact, target, defence and split) are not over the same images;
      ``n_error`` counts those images, ``error`` is the first one's. Such a cell has no rates, and every other n is 0: a
      crash is neither a successful attack nor a robust network.
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
    - ``certified_accuracy`` over ``n_certified``, ``passes``: only in a run with a defence that runs the network many
      times. All images of a clean cell that has verdicts: classified correctly, with a certificate. ``passes`` is the
      mean number of passes for an answer.

    After each rate its 95 % interval, ``_low`` and ``_high``: Wilson's; for the excess, whose images are the same, that
    of `harness.results.stats.paired_interval`. They generalise over images, for this very patch.
    """
    if missing := {*CELL_COLUMNS, *RECORD_COLUMNS} - set(records.columns):
        raise UserError(f"records: expected columns {', '.join(sorted(missing))}, got {', '.join(records.columns)}")
    cell = _group(records, CELL_COLUMNS)
    out = records[list(CELL_COLUMNS)].iloc[np.unique(cell, return_index=True)[1]].reset_index(drop=True)
    out = out.astype(dict.fromkeys(out.columns[out.dtypes == "category"], str))
    rows = _index(records, cell, len(out))
    unpatched = (out["attack"] == "none").to_numpy(bool)
    if out[unpatched].duplicated(list(CLEAN)).any():
        raise UserError(f"records: two cells without a patch that share {', '.join(CLEAN)}")
    clean_cell = _partner(out, CLEAN, unpatched)
    clean_row = rows.elsewhere(clean_cell)
    ok = (records["status"] == "ok").to_numpy(bool)
    judged = ok & (clean_row >= 0) & ok[clean_row]
    size = rows.total(np.ones(len(cell), bool))
    absent = np.where(clean_cell >= 0, size[clean_cell], 0) - rows.total(clean_row >= 0)
    n_error = rows.total(~judged) + absent
    good = n_error == 0
    out["status"] = np.where(good, "ok", "error")
    out["n_error"] = n_error
    out["error"] = _explain(records["status"], cell, ok, rows.total(ok & ~judged), absent)
    _add_rates(out, records, rows, clean_row, judged, good)
    return out


class _Rows(NamedTuple):
    """The rows of the records by cell and image; ``code`` is unique for each pair of them."""

    cell: Ints
    image: Ints
    code: pd.Index
    n_cells: int
    n_images: int

    def total(self, chosen: Bools) -> Ints:
        """Return how many rows of each cell are chosen."""
        return np.bincount(self.cell[chosen], minlength=self.n_cells).astype(np.int64)

    def elsewhere(self, others: Ints) -> Ints:
        """Return the row of the same image in another cell, given for each cell; -1 where there is none."""
        return np.asarray(self.code.get_indexer(pd.Index(others[self.cell] * self.n_images + self.image)), np.int64)


def _index(records: pd.DataFrame, cell: Ints, n_cells: int) -> _Rows:
    image, names = pd.factorize(records["image"])
    code = pd.Index(cell * len(names) + image)
    if not code.is_unique:
        at = int(np.flatnonzero(code.duplicated())[0])
        where = " / ".join(str(records[c].iloc[at]) for c in ("artifact", "target", "patch"))
        raise UserError(f"records: image {records['image'].iloc[at]!r} twice in the cell {where}")
    return _Rows(cell, np.asarray(image, np.int64), code, n_cells, len(names))


def _add_rates(
    out: pd.DataFrame, records: pd.DataFrame, rows: _Rows, clean_row: Ints, judged: Bools, good: Bools
) -> None:
    """Add every rate with its count; ``judged`` rows have an answer, and one without the patch in ``clean_row``."""
    pred, label = records["pred"].to_numpy(np.int64), records["label"].to_numpy(np.int64)
    goal = out["target_class"].to_numpy(np.int64)[rows.cell]
    right = judged & is_right(pred[clean_row], label)
    _add_rate(
        out, "clean_accuracy", rows.total(right), "n_clean", np.where(good, rows.total(np.ones(len(pred), bool)), 0)
    )
    patched = judged & (out["attack"] != "none").to_numpy(bool)[rows.cell]
    aimed = judged & counts("targeted", pred[clean_row], label, goal)
    among_of: dict[Kind, Bools] = {"targeted": judged, "untargeted": patched}
    for kind, answered in among_of.items():
        among = answered & counts(kind, pred[clean_row], label, goal)
        hit = among & hits(kind, pred, label, goal)
        _add_rate(out, f"{kind}_success", rows.total(hit), f"n_{kind}", np.where(good, rows.total(among), 0))
    reached = hits("targeted", pred, label, goal)
    common = aimed & _right_everywhere(out, rows, right, good)
    n_common = np.where(good, rows.total(common), 0)
    _add_rate(out, "targeted_success_in_common", rows.total(common & reached), "n_in_common", n_common)
    _add_excess(out, rows, aimed, reached)
    float_row = rows.elsewhere(_partner(out, (*FLOAT, "patch"), is_lab(out).to_numpy(bool) & good))
    equal = rows.total((float_row >= 0) & (pred == pred[float_row]))
    _add_rate(out, "equal_to_float", equal, "n_float", np.where(good, rows.total(float_row >= 0), 0))
    if set(OF_MANY_PASSES) <= set(records):
        _add_certified(out, records, rows, right, good)


def _add_certified(out: pd.DataFrame, records: pd.DataFrame, rows: _Rows, right: Bools, good: Bools) -> None:
    """Add the share of clean images that are right and certified, where a defence has verdicts; and passes an image."""
    judged = (records["verdict"] != "").to_numpy(bool) & (out["attack"] == "none").to_numpy(bool)[rows.cell]
    certified = judged & right & (records["certified"] == 1).to_numpy(bool)
    n = np.where(good, rows.total(judged), 0)
    _add_rate(out, "certified_accuracy", rows.total(certified), "n_certified", n)
    total = np.bincount(rows.cell, weights=records["passes"].to_numpy(np.float64), minlength=len(out))
    out["passes"] = total / np.bincount(rows.cell, minlength=len(out))


def summarise(cells: pd.DataFrame, records: pd.DataFrame) -> pd.DataFrame:
    """Average cells over seeds and target classes: one row per artifact, target and attack (surrogate, size, place).

    ``n_patches`` patches went into the means of `ALL_RATES` and into ``targeted_success_min``, ``_max`` and the same of
    ``untargeted_success``; ``n_failed`` cells are in error and left out (``error`` is the first one's message, the
    status ``error`` if none remains). ``n_targeted``, ``n_untargeted``, ``n_in_common`` and ``n_float`` are sums over
    cells, ``n_clean`` is one cell's. ``grey``, ``noise``, ``sticker`` and ``other_class`` are those controls' mean
    targeted success at the same size and place, for the same target classes; the last is of the row's own attack. Each
    of `harness.results.columns.RATES` has its 95 % interval, ``_low`` and ``_high``, by
    `harness.results.stats.mean_rate`; what was drawn at random, and so what they generalise to, is in
    ``interval_over``. ``doubts`` are those of the cells, where they have any.
    """
    ok = cells["status"] == "ok"
    table = cells.assign(failed=~ok, ran=cells["patch"].where(ok), message=cells["error"].where(~ok))
    shared = own_control(cells)
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
            **{rate: (rate, "mean") for rate in (*ALL_RATES, *STANDING_IN)} | ends | sums,
            **{name: (name, "mean") for name in OF_DEFENCES if name in table},
            **{c: (c, "max") for c in MACHINE},
        )
        .reset_index()
    )
    out["status"] = np.where(out["n_failed"] < out["n_cells"], "ok", "error")
    return out.merge(over_patches(records), how="left", on=list(OVER_PATCHES), validate="one_to_one")


def _union(lists: pd.Series) -> str:
    """Return the names of several lists of names, each once."""
    return ", ".join(dict.fromkeys(name for names in lists for name in names.split(", ") if name))


def _group(table: pd.DataFrame, columns: Iterable[str]) -> Ints:
    """Return the number of each row's group, in order of appearance."""
    grouped = table.groupby(list(columns), sort=False, dropna=False, observed=True)
    return np.asarray(grouped.ngroup(), np.int64)


def _partner(cells: pd.DataFrame, columns: Iterable[str], eligible: Bools) -> Ints:
    """Return for each cell the first eligible one with the same columns; -1 where there is none."""
    group = _group(cells, columns)
    first = np.full(len(cells), -1, np.int64)
    rows = np.flatnonzero(eligible)[::-1]
    first[group[rows]] = rows
    return first[group]


def _add_rate(out: pd.DataFrame, name: str, hits: Ints, count: str, n: Ints) -> None:
    """Add a count, and the rate over it with Wilson's interval."""
    out[count] = n
    rate = np.full(len(n), np.nan)
    np.divide(hits, n, out=rate, where=n > 0)
    out[name] = rate
    out[f"{name}_low"], out[f"{name}_high"] = wilson(hits, n)


def _right_everywhere(out: pd.DataFrame, rows: _Rows, right: Bools, good: Bools) -> Bools:
    """Return for each row whether every clean cell of its victim and split that ran, and is no simulation, is right."""
    group = _group(out, ("victim", "split"))
    at = group[rows.cell] * rows.n_images + rows.image
    simulated = (out["format"] == "torch") & ~is_lab(out)
    judging = ((out["attack"] == "none") & ~simulated).to_numpy(bool) & good
    count = np.bincount(at[judging[rows.cell] & right], minlength=int(at.max(initial=0)) + 1)
    return np.asarray(count[at] == np.bincount(group[judging], minlength=len(out))[group][rows.cell])


def own_control(cells: pd.DataFrame) -> pd.DataFrame:
    """Return what a cell and its controls share; where an attack chose its place, that includes whose place it is."""
    of = pd.Series([str(name).partition("@")[2] for name in cells["patch"]], cells.index, dtype=object)
    chosen = cells["placement"].astype(str).str.startswith("best") & (of == "")
    keys = cells[[*NOISE, "target_class"]].astype(object).fillna("")
    return keys.assign(place_of=of.where(~chosen, cells["patch"].astype(str)))


def _of_other_class(cells: pd.DataFrame, shared: pd.DataFrame) -> pd.DataFrame:
    """Return what a cell shares with the patches of other classes that control it: attack and surrogate.

    A patch's attack is that of its cells for its own class; where it chose its place, it keeps that one.
    """
    made = cells[~cells["attack"].isin(CONTROLS)]
    attack_of = dict(zip(made["patch"], made["attack"], strict=True))
    by = cells["attack"].where(cells["attack"] != "other_class", cells["patch"].map(attack_of))
    return shared.drop(columns="place_of").assign(by=by.fillna(""), surrogate=cells["surrogate"].astype(object))


def _add_excess(out: pd.DataFrame, rows: _Rows, aimed: Bools, hit: Bools) -> None:
    """Add the excess over each cell's noise draws, image by image; NaN if there are none or one of them has none."""
    cell = rows.cell
    own = own_control(out)
    group = _group(own, own.columns)
    draws = (out["attack"] == "noise").to_numpy(bool)
    count = np.bincount(group[draws], minlength=len(out))[group]
    failed = np.bincount(group[draws & out["targeted_success"].isna()], minlength=len(out))[group] > 0
    at = group[cell] * rows.n_images + rows.image
    noisy = np.bincount(at[draws[cell] & hit], minlength=int(at.max(initial=0)) + 1)[at]
    step = (hit - noisy / np.maximum(count, 1)[cell])[aimed]
    total, squares = (np.bincount(cell[aimed], weights=step**power, minlength=len(out)) for power in (1, 2))
    n = np.where((count > 0) & ~failed, out["n_targeted"], 0)
    excess = np.full(len(out), np.nan)
    np.divide(total, n, out=excess, where=n > 0)
    low, high = paired_interval(total, squares, n)
    out["targeted_excess_over_noise"] = excess
    out["targeted_excess_over_noise_low"] = low
    out["targeted_excess_over_noise_high"] = high


def _explain(status: pd.Series, cell: Ints, ok: Bools, unjudged: Ints, absent: Ints) -> list[str]:
    """Return the first error of each cell; empty where there is none."""
    failed, first = np.unique(cell[~ok], return_index=True)
    own = dict(zip(failed.tolist(), status[~ok].iloc[first].tolist(), strict=True))
    other = np.where(unjudged > 0, "no clean prediction", np.where(absent > 0, "images missing", "")).tolist()
    return [own.get(i, text) for i, text in enumerate(other)]

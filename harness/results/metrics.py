"""Rates of cells from records: each with its own ``n``, and an error never counts as a success."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from backends.device.errors import UserError
from harness.results.columns import (
    CLEAN,
    FLOAT,
    MACHINE,
    OVER_PATCHES,
    RATES,
)
from harness.results.draws import NoiseDraws, own_control
from harness.results.gathering import Splits, by_split, outcomes
from harness.results.intervals import over_patches
from harness.results.outcomes import ABSENT, Outcomes, Passes
from harness.results.stats import paired_interval, wilson
from harness.results.success import counts, hits, is_right
from patches.patch import CONTROLS

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

ALL_RATES = (*RATES, "targeted_success_in_common", "targeted_excess_over_noise", "equal_to_float")
OF_DEFENCES = ("certified_accuracy", "certified_accuracy_low", "certified_accuracy_high", "passes")
# What is counted of each cell: images that a rate is over, and its hits.
COUNTED = tuple(end + kind for kind in ("clean", "targeted", "untargeted", "in_common", "float") for end in ("n_", ""))
NUMBERS_AT_ONCE = 2_000_000
STANDING_IN = tuple(name for name in CONTROLS if name != "none")


def is_lab(table: pd.DataFrame) -> pd.Series:
    """Return which rows are the float network in torch; a simulated one is neither the lab nor a device."""
    return (table["format"] == "torch") & (table["precision"] == "fp32")


def cells(records: pd.DataFrame | Splits) -> pd.DataFrame:
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
    splits = by_split(records).values()
    if len(splits) < 2:
        return _rates(next(iter(splits), outcomes({})))
    order = np.argsort(np.concatenate([known.order for known in splits]))
    return pd.concat([_rates(known) for known in splits]).iloc[order].reset_index(drop=True)


class _Judged(NamedTuple):
    """Some cells' answers: ``preds``, those of their ``clean`` cells, and which are ``judged``, having both."""

    cells: Ints
    preds: NDArray[np.signedinteger[Any]]
    clean: NDArray[np.signedinteger[Any]]
    judged: Bools


def _pieces(known: Outcomes, chosen: Ints) -> Iterator[_Judged]:
    """Yield cells a few at a time, so that what is computed of their images takes little memory."""
    at_once = max(1, NUMBERS_AT_ONCE // max(1, len(known.images)))
    for start in range(0, len(chosen), at_once):
        rows = chosen[start : start + at_once]
        preds = known.preds[rows]
        clean = np.where((known.clean[rows] >= 0)[:, None], known.preds[known.clean[rows]], ABSENT)
        yield _Judged(rows, preds, clean, (preds >= 0) & (clean >= 0))


def _rates(known: Outcomes) -> pd.DataFrame:
    """Return `cells` of one split."""
    out = known.cells.copy()
    unpatched = (out["attack"] == "none").to_numpy(bool)
    if out[unpatched].duplicated(list(CLEAN)).any():
        raise UserError(f"records: two cells without a patch that share {', '.join(CLEAN)}")
    n_error, unjudged, absent = (np.zeros(len(out), np.int64) for _ in range(3))
    for piece in _pieces(known, np.arange(len(out))):
        there, answered = piece.preds != ABSENT, piece.preds >= 0
        absent[piece.cells] = ((piece.clean != ABSENT) & ~there).sum(axis=1)
        n_error[piece.cells] = (there & ~piece.judged).sum(axis=1) + absent[piece.cells]
        unjudged[piece.cells] = (answered & ~piece.judged).sum(axis=1)
    good = n_error == 0
    out["status"] = np.where(good, "ok", "error")
    out["n_error"] = n_error
    other = np.where(unjudged > 0, "no clean prediction", np.where(absent > 0, "images missing", "")).tolist()
    out["error"] = [known.errors.get(row, text) for row, text in enumerate(other)]
    _add_rates(out, known, good)
    return out


def _add_rates(out: pd.DataFrame, known: Outcomes, good: Bools) -> None:
    """Add every rate with its count; cells that are not ``good`` have none."""
    counted = {name: np.zeros(len(out), np.int64) for name in COUNTED}
    sums = {name: np.zeros(len(out)) for name in ("excess", "squares")}
    everywhere, victim = _right_everywhere(out, known, good)
    labs = _partner(out, (*FLOAT, "patch"), is_lab(out).to_numpy(bool) & good)
    own = own_control(out)
    draws = NoiseDraws(known, _group(own, own.columns))
    patched = (out["attack"] != "none").to_numpy(bool)
    for piece in _pieces(known, np.flatnonzero(good)):
        rows, goal = piece.cells, known.goals[piece.cells, None]
        aimed = piece.judged & counts("targeted", piece.clean, known.labels, goal)
        misleading = piece.judged & patched[rows, None] & counts("untargeted", piece.clean, known.labels, goal)
        reached = hits("targeted", piece.preds, known.labels, goal)
        common = aimed & everywhere[victim[rows]]
        lab = np.where((labs[rows] >= 0)[:, None], known.preds[labs[rows]], ABSENT)
        there = (piece.preds != ABSENT) & (lab != ABSENT)
        found = {
            "n_clean": piece.preds != ABSENT,
            "clean": piece.judged & is_right(piece.clean, known.labels),
            "n_targeted": aimed,
            "targeted": aimed & reached,
            "n_untargeted": misleading,
            "untargeted": misleading & hits("untargeted", piece.preds, known.labels, goal),
            "n_in_common": common,
            "in_common": common & reached,
            "n_float": there,
            "float": there & (piece.preds == lab),
        }
        for name, which in found.items():
            counted[name][rows] = which.sum(axis=1)
        step = np.where(aimed, reached - draws.reached(rows), 0.0)
        sums["excess"][rows], sums["squares"][rows] = step.sum(axis=1), (step**2).sum(axis=1)
    for name, kind in {
        "clean_accuracy": "clean",
        "targeted_success": "targeted",
        "untargeted_success": "untargeted",
        "targeted_success_in_common": "in_common",
    }.items():
        _add_rate(out, name, counted[kind], f"n_{kind}", counted[f"n_{kind}"])
    _add_excess(out, draws, sums["excess"], sums["squares"])
    _add_rate(out, "equal_to_float", counted["float"], "n_float", counted["n_float"])
    if known.passes:
        _add_certified(out, known, known.passes, good)


def _add_certified(out: pd.DataFrame, known: Outcomes, passes: Passes, good: Bools) -> None:
    """Add the share of clean images that are right and certified, where a defence has verdicts; and passes an image."""
    n, certified = (np.zeros(len(out), np.int64) for _ in range(2))
    for piece in _pieces(known, np.flatnonzero(good & (out["attack"] == "none").to_numpy(bool))):
        of_cells = passes.certified[piece.cells]
        n[piece.cells] = (of_cells != ABSENT).sum(axis=1)
        right = piece.judged & is_right(piece.preds, known.labels)
        certified[piece.cells] = (right & (of_cells == 1)).sum(axis=1)
    _add_rate(out, "certified_accuracy", certified, "n_certified", n)
    out["passes"] = passes.mean


def summarise(cells: pd.DataFrame, records: pd.DataFrame | Splits) -> pd.DataFrame:
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


def _right_everywhere(out: pd.DataFrame, known: Outcomes, good: Bools) -> tuple[Bools, Ints]:
    """Return on which images every clean cell of a victim that ran, and is no simulation, is right; and whose cells.

    The first is ``(victims, images)``, the second the victim of each cell.
    """
    victim = _group(out, ("victim",))
    everywhere = np.ones((int(victim.max(initial=-1)) + 1, len(known.images)), bool)
    simulated = (out["format"] == "torch") & ~is_lab(out)
    for row in np.flatnonzero((out["attack"] == "none").to_numpy(bool) & ~simulated.to_numpy(bool) & good):
        everywhere[victim[row]] &= is_right(known.preds[row], known.labels)
    return everywhere, victim


def _of_other_class(cells: pd.DataFrame, shared: pd.DataFrame) -> pd.DataFrame:
    """Return what a cell shares with the patches of other classes that control it: attack and surrogate.

    A patch's attack is that of its cells for its own class; where it chose its place, it keeps that one.
    """
    made = cells[~cells["attack"].isin(CONTROLS)]
    attack_of = dict(zip(made["patch"], made["attack"], strict=True))
    by = cells["attack"].where(cells["attack"] != "other_class", cells["patch"].map(attack_of))
    return shared.drop(columns="place_of").assign(by=by.fillna(""), surrogate=cells["surrogate"].astype(object))


def _add_excess(out: pd.DataFrame, draws: NoiseDraws, total: NDArray[np.float64], squares: NDArray[np.float64]) -> None:
    """Add the excess over each cell's noise draws, image by image; NaN if there are none or one of them has none."""
    n = np.where(draws.all_have(out["targeted_success"].notna().to_numpy(bool)), out["n_targeted"], 0)
    excess = np.full(len(out), np.nan)
    np.divide(total, n, out=excess, where=n > 0)
    low, high = paired_interval(total, squares, n)
    out["targeted_excess_over_noise"] = excess
    out["targeted_excess_over_noise_low"] = low
    out["targeted_excess_over_noise_high"] = high

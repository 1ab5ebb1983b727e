"""The report's headline: the answer to its one question, from the intervals of what survives on each target."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Mapping, Sequence
from typing import Any

import pandas as pd

from backends.fidelity import FIDELITIES
from harness.report.beside import beside, side_by_side
from harness.report.factors import depends_on
from harness.report.on_device import on_device
from harness.report.wording import (
    NO,
    YES,
    Answer,
    Headline,
    Tile,
    aim,
    beyond_noise,
    noise_tile,
    numbers,
    on_average,
    percent,
    span,
    spread,
    with_interval,
    within,
)
from harness.results.checks import WORTHWHILE
from harness.results.entries import Check
from harness.results.outcomes import Outcomes
from harness.results.survival import Reach, Survival, on_integers, partly_integer, survivals, without_lab
from patches.patch import CONTROLS


def headline(
    known: Outcomes, cells: pd.DataFrame, per_image: Collection[str] = (), checks: Sequence[Check] = ()
) -> Headline:
    """Compare each patch's success in the lab with its success on every integer target.

    ``cells`` are those of the outcomes, labelled. Targeted patches are compared by their success beyond noise where
    noise was measured; untargeted ones, if there are no targeted ones, by their success. Where no patch ran in a lab,
    success on the device is all there is to tell. Patches named in ``per_image`` are another threat than one patch for
    all images, and partly integer files are no integer files: both are reported separately. So are targets of another
    fidelity, each with a sentence of its own. What defences are worth is their own section's to tell: only where every
    patch meets one, the headline is of them. Each failed check is a warning.
    """
    found, alone = survivals(known), without_lab(known)
    attacked = on_integers(cells) & ~cells["attack"].isin(CONTROLS)
    undefended = cells["defence"] == ""
    if (attacked & undefended).any():
        cells, attacked = cells[undefended], attacked[undefended]
        found = [one for one in found if not one.device.defence]
        alone = [one for one in alone if not one.defence]
    held = [one for one in ("", *FIDELITIES) if (cells.loc[attacked, "fidelity"] == one).any()]
    of_target = dict(zip(cells["target"], cells["fidelity"], strict=True))
    heads = [
        _by_precision(
            [one for one in found if of_target[one.device.target] == fidelity],
            [one for one in alone if of_target[one.target] == fidelity],
            cells[~on_integers(cells) | (cells["fidelity"] == fidelity)],
            per_image,
        )
        for fidelity in held
    ]
    head = side_by_side(held, heads) if heads else _by_precision(found, alone, cells, per_image)
    failed = tuple(f"Self-check failed: {check.asks} {check.says}" for check in checks if check.status == "failed")
    return head._replace(warnings=failed)


def _by_precision(
    found: Sequence[Survival], alone: Sequence[Reach], cells: pd.DataFrame, per_image: Collection[str]
) -> Headline:
    partly = set(cells.loc[partly_integer(cells), "artifact"])
    is_partly = cells["artifact"].isin(partly)
    attacked = on_integers(cells) & ~cells["attack"].isin(CONTROLS)
    if (attacked & is_partly).any() and (attacked & ~is_partly).any():
        head, other = (
            _by_threat(
                [one for one in found if (one.device.artifact in partly) == separate],
                [one for one in alone if (one.artifact in partly) == separate],
                cells[~on_integers(cells) | (is_partly == separate)],
                per_image,
            )
            for separate in (False, True)
        )
        return beside(head, other, "Partly integer files", "partly integer")
    return _by_threat(found, alone, cells, per_image)


def _by_threat(
    found: Sequence[Survival], alone: Sequence[Reach], cells: pd.DataFrame, per_image: Collection[str]
) -> Headline:
    own = cells["patch"].isin(list(per_image)) & ~cells["attack"].isin(CONTROLS)
    if not own.any() or not (~own & ~cells["attack"].isin(CONTROLS)).any():
        return _headline(found, alone, cells)
    for_each = set(per_image)
    head, each = (
        _headline(
            [one for one in found if for_each.isdisjoint(one.device.patches) != separate],
            [one for one in alone if for_each.isdisjoint(one.patches) != separate],
            cells[own | cells["attack"].isin(CONTROLS)] if separate else cells[~own],
        )
        for separate in (False, True)
    )
    return beside(head, each, "Per-image patches", "per image")


def _headline(found: Sequence[Survival], alone: Sequence[Reach], cells: pd.DataFrame) -> Headline:
    attacked = cells[~cells["attack"].isin(CONTROLS)]
    if attacked.empty:
        return Headline("nothing", "No patch was replayed: this run measured clean accuracy only.")
    if missing := _missing(attacked):
        return Headline("nothing", f"No answer: {missing}.")
    compared = [one for one in found if one.n]
    compared = [one for one in compared if one.device.kind == "targeted"] or compared
    beside = [one for one in alone if one.n]
    beside = [one for one in beside if one.kind == "targeted"] or beside
    places = _Places(cells)
    is_device = cells.loc[on_integers(cells), "fidelity"].isin(["", "device"]).all()
    names = [places.name(one, with_series=True) for one in beside]
    apart = on_device(beside, names, "device" if is_device else "target") if beside else None
    controls = tuple(_control_tiles(cells[on_integers(cells)]))
    if compared:
        head = _compared(compared, places)
        details = [head.details, f"Of patches that ran in no lab: {apart.sentence}" if apart else ""]
        shown = controls if compared[0].device.kind == "targeted" else ()
    elif apart:
        head, details = apart, [apart.details]
        shown = controls if beside[0].kind == "targeted" else ()
    else:
        return Headline("nothing", "No answer: no place classifies an image correctly on which a patch could succeed.")
    details += _left_out(attacked)
    return head._replace(details=" ".join(filter(None, details)), tiles=(*head.tiles, *shown))


def _compared(compared: Sequence[Survival], places: _Places) -> Headline:
    """Answer from the patches that ran in the lab too."""
    working = [one for one in compared if one.lab.gain.low > WORTHWHILE and not pd.isna(one.share.value)]
    if not working:
        return Headline("can't say", _not_in_lab(compared), tiles=(_lab_tile(compared), *_noise_tiles(compared)))
    verdict, sentence = _answer(working, places)
    tiles = (_lab_tile(working), *_kept_tiles(working, places), *_noise_tiles(working))
    return Headline(verdict, sentence, details=" ".join(_details(working, compared, places)), tiles=tiles)


def _missing(attacked: pd.DataFrame) -> str:
    """Return why no cell can be compared; empty if some can."""
    ok = attacked[attacked["status"] == "ok"]
    if on_integers(ok).any():
        return ""
    if not on_integers(attacked).any():
        return "no target computes in integers"
    where = "" if ok.empty else " on an integer target"
    return f"no patched cell{where} ran without an error"


def _left_out(attacked: pd.DataFrame) -> list[str]:
    """Return what is said of cells that failed, and of those that a failed check casts doubt on."""
    out = []
    integer = ~attacked["precision"].isin(["fp32", ""])
    if failed := int(((attacked["status"] == "error") & integer).sum()):
        out.append(f"{failed} patched cells on integer targets failed and are excluded.")
    integers = attacked[on_integers(attacked)]
    if "doubts" in integers and (doubted := int((integers["doubts"] != "").sum())):
        out.append(f"A failed self-check affects {doubted} of the {len(integers)} cells compared; see †.")
    return out


def _not_in_lab(compared: Sequence[Survival]) -> str:
    best = max((one.lab for one in compared), key=lambda lab: lab.gain.value)
    limit = percent(WORTHWHILE, 0)
    reached = f"there it {aim(best)} {with_interval(best.success)} of the images"
    if beyond_noise(best):
        reached += f", {with_interval(best.gain)} beyond noise"
    if best.gain.value <= WORTHWHILE:
        return f"Can’t say: the patch does not work in the lab either; {reached}."
    more = f"more patches or images would tell whether it is above {limit}"
    return f"Can’t say: whether the patch works in the lab is open; {reached}, and {more}."


def _answer(working: Sequence[Survival], places: _Places) -> tuple[Answer, str]:
    """Return the answer that the intervals of all places allow."""
    shares = [one.share for one in working]
    lows, highs = [share.low for share in shares], [share.high for share in shares]
    noise = all(beyond_noise(one.lab) and beyond_noise(one.device) for one in working)
    what = "success beyond noise" if noise else "success"
    rates = spread([max(0.0, share.value) for share in shares], 0)
    kept = f"{rates} of its {what} {within(shares)}"
    everywhere = f"on every {places.kind} target that ran" if len(shares) > 1 else f"on the {places.kind} target"
    if min(lows) >= YES:
        return "yes", f"Yes: {everywhere}, the patch keeps {kept}."
    if max(highs) <= NO:
        return "no", f"No: {everywhere}, the patch keeps {kept}."
    apart = f"on {places.kind} targets, " if places.kind != "integer" else ""
    if max(lows) > min(highs):
        factor, each = depends_on([places.row(one.device) for one in working], shares)
        kept = f"of its {what}, the patch keeps {each or rates} {within(shares)}"
        return "depends", f"It depends on {factor}: {apart}{kept}."
    if min(lows) > NO and max(highs) < YES:
        return "in part", f"In part: {everywhere}, the patch keeps {kept}."
    if min(lows) > NO:
        return "in part", f"At least in part: {everywhere}, the patch keeps {kept}."
    if max(highs) < YES:
        return "in part", f"At most in part: {everywhere}, the patch keeps {kept}."
    return "can't say", f"Can’t say: {apart}the patch keeps {kept}; more patches or images would tell."


def _details(working: Sequence[Survival], compared: Sequence[Survival], places: _Places) -> list[str]:
    labs = [one.lab for one in working]
    reached = f"{aim(labs[0])} {spread([lab.success.value for lab in labs])} of the images{on_average(labs)}"
    out = [f"In the lab (the float network in PyTorch), the patch {reached}."]
    for word, one in _extremes(working):
        change = f"from {percent(one.lab.success.value)} to {percent(one.device.success.value)}"
        name = places.name(one.device, with_series=True)
        subject = word.title() or "It"
        out.append(f"{subject} survives on {name}{_alike(one, working)}: {change}.")
    if left_out := len(compared) - len(working):
        out.append(
            f"{left_out} of {len(compared)} comparisons are left out: their patches are not shown to work there."
        )
    return out


class _Places:
    """The labels of places, from labelled cells, and of which ``kind`` their files are."""

    def __init__(self, cells: pd.DataFrame) -> None:
        quantized = cells[on_integers(cells)]
        self.kind = "partly integer" if partly_integer(quantized).all() else "integer"
        self._attacked = cells[~cells["attack"].isin(CONTROLS)]
        patches = zip(*(self._attacked[name] for name in ("artifact", "target", "patch", "defence")), strict=True)
        self._row_of = {patch: row for row, patch in enumerate(patches)}
        self._several = self._attacked["series_label"].nunique() > 1

    def row(self, one: Reach) -> Mapping[Hashable, Any]:
        row = self._row_of[one.artifact, one.target, one.patches[0], one.defence]
        return self._attacked.iloc[row].to_dict()

    def name(self, one: Reach, *, with_series: bool = False) -> str:
        row = self.row(one)
        where = f"{row['victim']}, {row['artifact_label']} on {row['target']}"
        return f"{where} ({row['series_label']})" if with_series and self._several else where


def _lab_tile(compared: Sequence[Survival]) -> Tile:
    labs = [one.lab for one in compared]
    over = f"{labs[0].kind} success{on_average(labs)}, float network in PyTorch"
    rates = [lab.success for lab in labs]
    interval = span(min(rate.low for rate in rates), max(rate.high for rate in rates))
    return Tile(
        "in the lab", spread([rate.value for rate in rates]), f"{interval}, n {numbers([lab.n for lab in labs])}", over
    )


def _kept_tiles(working: Sequence[Survival], places: _Places) -> list[Tile]:
    out = []
    for word, one in _extremes(working):
        lab, device = percent(one.lab.success.value), percent(one.device.success.value)
        where = f"{lab} in the lab, {device} on {places.name(one.device)}{_alike(one, working)}"
        interval = f"{span(max(0.0, one.share.low), one.share.high)}, n {one.n} in pairs"
        out.append(Tile(f"survives {word}".strip(), percent(max(0.0, one.share.value), 0), interval, where))
    return out


def _noise_tiles(compared: Sequence[Survival]) -> list[Tile]:
    devices = [one.device for one in compared if beyond_noise(one.device)]
    return [noise_tile(devices)] if devices else []


def _control_tiles(integer: pd.DataFrame) -> list[Tile]:
    out = []
    for control, name in (("sticker", "picture of the class"), ("other_class", "other class’s patch")):
        drawn = integer[integer["attack"] == control]
        rates = drawn.groupby(["victim", "artifact", "target"])["targeted_success"].mean()
        if rates.notna().any():
            out.append(Tile(f"{name}, same targets", spread([rates.min(), rates.max()]), "", "same size and place"))
    return out


def _extremes(working: Sequence[Survival]) -> list[tuple[str, Survival]]:
    """Return the places that keep least and most of a patch, each with the word for it; no word for the only one."""
    by_share = sorted(working, key=lambda one: one.share.value)
    if len(by_share) == 1:
        return [("", by_share[0])]
    return [("least", by_share[0]), ("most", by_share[-1])]


def _alike(one: Survival, working: Sequence[Survival]) -> str:
    """Say how many other places keep a share that lies within this one's interval."""
    others = sum(one.share.low <= other.share.value <= one.share.high for other in working if other is not one)
    return f" and {others} more within its interval" if others else ""

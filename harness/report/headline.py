"""The report's headline: the answer to its one question, from the intervals of what survives on each target."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Literal, NamedTuple

import pandas as pd

from harness.results.entries import Check
from harness.results.outcomes import Outcomes
from harness.results.stats import Difference, Estimate
from harness.results.survival import Survival, on_integers, survivals
from patches.patch import CONTROLS

QUESTION = "Does the patch that works in the lab work on the device?"
# These define the words of the sentence; the page states them below it.
WORKS_IN_LAB = 0.05  # success beyond noise that a patch needs in the lab for its loss on a device to mean anything
YES = 0.8  # "yes" from this surviving share of success on
NO = 0.2  # "no" up to this share

Answer = Literal["yes", "no", "in part", "depends", "can't say", "nothing"]


class Tile(NamedTuple):
    """One figure below the sentence, with its interval and what it is over."""

    name: str
    value: str
    interval: str
    where: str


class Headline(NamedTuple):
    """The answer, its sentence, what casts doubt on it, details in prose, and figures."""

    verdict: Answer
    sentence: str
    warnings: tuple[str, ...] = ()
    details: str = ""
    tiles: tuple[Tile, ...] = ()


def percent(rate: float, digits: int = 1) -> str:
    """Format a fraction in percent with its sign; NaN is an en dash."""
    return "–" if pd.isna(rate) else f"{100 * rate:.{digits}f}\u00a0%"


def span(low: float, high: float) -> str:
    """Format an interval of fractions in percent without the sign: ``12.3–15.0``."""
    return "–" if pd.isna(low) else f"{100 * low:.1f}–{100 * high:.1f}"


def headline(
    known: Outcomes, cells: pd.DataFrame, per_image: Collection[str] = (), checks: Sequence[Check] = ()
) -> Headline:
    """Compare each patch's success in the lab with its success on every integer target.

    ``cells`` are those of the outcomes, labelled. Only patches that ran on both sides count. Targeted patches are
    compared by their success beyond noise where noise was measured; untargeted ones, if there are no targeted ones, by
    their success. Patches named in ``per_image`` are another threat than one patch for all images, and are reported
    separately. Each failed check is a warning.
    """
    own = cells["patch"].isin(list(per_image)) & ~cells["attack"].isin(CONTROLS)
    found = survivals(known)
    universal = [one for one in found if not set(one.patches) & set(per_image)]
    separate = [one for one in found if set(one.patches) & set(per_image)]
    warnings = tuple(f"Self-check failed: {check.asks} {check.says}" for check in checks if check.status == "failed")
    if not own.any() or not (~own & ~cells["attack"].isin(CONTROLS)).any():
        return _headline(found, cells)._replace(warnings=warnings)
    head, each = _headline(universal, cells[~own]), _headline(separate, cells[own | cells["attack"].isin(CONTROLS)])
    details = f"{head.details} Per-image patches, separately: {each.sentence} {each.details}".strip()
    tiles = tuple(tile._replace(name=f"per image, {tile.name}") for tile in each.tiles)
    return head._replace(details=details, tiles=head.tiles + tiles, warnings=warnings)


def _headline(found: Sequence[Survival], cells: pd.DataFrame) -> Headline:
    attacked = cells[~cells["attack"].isin(CONTROLS)]
    if attacked.empty:
        return Headline("nothing", "No patch was replayed: this run measured clean accuracy only.")
    if missing := _missing(attacked):
        return Headline("nothing", f"No answer: {missing}.")
    targeted = [one for one in found if one.kind == "targeted" and one.n]
    compared = targeted or [one for one in found if one.n]
    if not compared:
        return Headline("nothing", "No answer: no patch ran both in the lab and on an integer target.")
    places = _Places(cells)
    working = [one for one in compared if one.gain.low > WORKS_IN_LAB]
    if not working:
        return Headline("can't say", _not_in_lab(compared), tiles=(_lab_tile(compared), *_noise_tiles(compared)))
    verdict, sentence = _answer(working)
    controls = _control_tiles(cells[on_integers(cells)]) if targeted else ()
    tiles = (_lab_tile(working), *_kept_tiles(working, places), *_noise_tiles(working), *controls)
    return Headline(verdict, sentence, details=" ".join(_details(working, compared, attacked, places)), tiles=tiles)


def _missing(attacked: pd.DataFrame) -> str:
    """Return why no cell can be compared; empty if some can."""
    ok = attacked[attacked["status"] == "ok"]
    if on_integers(ok).any():
        return ""
    if not on_integers(attacked).any():
        return "no target computes in integers"
    where = "" if ok.empty else " on an integer target"
    return f"no patched cell{where} ran without an error"


def _not_in_lab(compared: Sequence[Survival]) -> str:
    best = max(compared, key=lambda one: one.gain.value)
    limit = percent(WORKS_IN_LAB, 0)
    reached = f"there it {_aim(best)} {_with_interval(best.lab)} of the images"
    if _beyond_noise(best):
        reached += f", {_with_interval(best.gain)} beyond noise"
    if best.gain.value <= WORKS_IN_LAB:
        return f"Can’t say: the patch does not work in the lab either; {reached}."
    more = f"more patches or images would tell whether it is above {limit}"
    return f"Can’t say: whether the patch works in the lab is open; {reached}, and {more}."


def _answer(working: Sequence[Survival]) -> tuple[Answer, str]:
    """Return the answer that the intervals of all places allow."""
    shares = [one.share for one in working]
    lows, highs = [share.low for share in shares], [share.high for share in shares]
    what = "success beyond noise" if all(map(_beyond_noise, working)) else "success"
    kept = f"{_range([max(0.0, share.value) for share in shares], 0)} of its {what} {_within(lows, highs)}"
    everywhere = "on every integer target that ran" if len(shares) > 1 else "on the integer target"
    if min(lows) >= YES:
        return "yes", f"Yes: {everywhere}, the patch keeps {kept}."
    if max(highs) <= NO:
        return "no", f"No: {everywhere}, the patch keeps {kept}."
    if max(lows) > min(highs):
        return "depends", f"It depends on the artifact and the target: the patch keeps {kept}."
    if min(lows) > NO and max(highs) < YES:
        return "in part", f"In part: {everywhere}, the patch keeps {kept}."
    if min(lows) > NO:
        return "in part", f"At least in part: {everywhere}, the patch keeps {kept}."
    if max(highs) < YES:
        return "in part", f"At most in part: {everywhere}, the patch keeps {kept}."
    return "can't say", f"Can’t say: the patch keeps {kept}; more patches or images would tell."


def _details(
    working: Sequence[Survival], compared: Sequence[Survival], attacked: pd.DataFrame, places: _Places
) -> list[str]:
    lab = _range([one.lab.value for one in working])
    out = [f"In the lab (the float network in PyTorch), a patch {_aim(working[0])} {lab} of the images."]
    least, most = _least_and_most(working)
    for word, one in (("Least", least), ("Most", most))[: 1 if least is most else 2]:
        change = f"from {percent(one.lab.value)} to {percent(one.device.value)}"
        out.append(f"{word} survives on {places.name(one, with_series=True)}: {change}.")
    if left_out := len(compared) - len(working):
        out.append(
            f"{left_out} of {len(compared)} comparisons are left out: their patches are not shown to work there."
        )
    integer = ~attacked["precision"].isin(["fp32", ""])
    if failed := int(((attacked["status"] == "error") & integer).sum()):
        out.append(f"{failed} patched cells on integer targets failed and are excluded.")
    integers = attacked[on_integers(attacked)]
    if "doubts" in integers and (doubted := int((integers["doubts"] != "").sum())):
        out.append(f"A failed self-check affects {doubted} of the {len(integers)} cells compared; see †.")
    return out


class _Places:
    """The labels of places, from labelled cells."""

    def __init__(self, cells: pd.DataFrame) -> None:
        keys = ("victim", "artifact", "target", "attack", "patch", "defence", "placement")
        self._by_patch = {
            (row["artifact"], row["target"], row["patch"], row["defence"]): row
            for row in cells[[*keys, "artifact_label", "series_label"]].to_dict("records")
            if row["attack"] not in CONTROLS
        }
        self._several = len({row["series_label"] for row in self._by_patch.values()}) > 1

    def name(self, one: Survival, *, with_series: bool = False) -> str:
        row = self._by_patch[one.artifact, one.target, one.patches[0], one.defence]
        where = f"{row['victim']}, {row['artifact_label']} on {row['target']}"
        return f"{where} ({row['series_label']})" if with_series and self._several else where


def _lab_tile(compared: Sequence[Survival]) -> Tile:
    best = max(compared, key=lambda one: one.lab.value)
    patches = len(best.patches)
    over = f"{best.kind} success, mean over {patches} patch{'' if patches == 1 else 'es'}, float network in PyTorch"
    lows, highs = [one.lab.low for one in compared], [one.lab.high for one in compared]
    value = _range([one.lab.value for one in compared])
    return Tile("in the lab", value, f"{span(min(lows), max(highs))}, n {_counts(compared)}", over)


def _kept_tiles(working: Sequence[Survival], places: _Places) -> list[Tile]:
    least, most = _least_and_most(working)
    out = []
    for name, one in (("survives least", least), ("survives most", most))[: 1 if least is most else 2]:
        change = f"{percent(one.lab.value)} in the lab, {percent(one.device.value)} on {places.name(one)}"
        interval = f"{span(max(0.0, one.share.low), one.share.high)}, n {one.n}"
        out.append(
            Tile(name if least is not most else "survives", percent(max(0.0, one.share.value), 0), interval, change)
        )
    return out


def _noise_tiles(compared: Sequence[Survival]) -> list[Tile]:
    noise = [one.noise for one in compared if _beyond_noise(one)]
    where = "same size and place, not optimised"
    return [Tile("noise, integer targets", _range(noise), f"n {_counts(compared)}", where)] if noise else []


def _control_tiles(integer: pd.DataFrame) -> list[Tile]:
    out = []
    for control, name in (("sticker", "picture of the class"), ("other_class", "other class’s patch")):
        drawn = integer[integer["attack"] == control]
        rates = drawn.groupby(["victim", "artifact", "target"])["targeted_success"].mean()
        if rates.notna().any():
            out.append(Tile(f"{name}, integer targets", _range([rates.min(), rates.max()]), "", "same size and place"))
    return out


def _least_and_most(working: Sequence[Survival]) -> tuple[Survival, Survival]:
    by_share = sorted(working, key=lambda one: one.share.value)
    return by_share[0], by_share[-1]


def _beyond_noise(one: Survival) -> bool:
    return not pd.isna(one.noise)


def _aim(one: Survival) -> str:
    return "reaches its target class on" if one.kind == "targeted" else "misleads the network on"


def _with_interval(rate: Estimate | Difference) -> str:
    return f"{percent(rate.value)} ({span(rate.low, rate.high)})"


def _within(lows: Sequence[float], highs: Sequence[float]) -> str:
    ends = f"{100 * max(0.0, min(lows)):.0f}–{100 * max(highs):.0f}\u00a0%"
    return f"(95\u00a0% interval {ends})" if len(lows) == 1 else f"(95\u00a0% intervals within {ends})"


def _counts(compared: Sequence[Survival]) -> str:
    counts = sorted({one.n for one in compared})
    return str(counts[0]) if len(counts) == 1 else f"{counts[0]}–{counts[-1]}"


def _range(rates: Sequence[float], digits: int = 1) -> str:
    least, most = percent(min(rates), digits), percent(max(rates), digits)
    return most if least == most else f"{least.split()[0]} to {most}"

"""The answer to the page's one question, computed from the cells."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

import pandas as pd

from harness.report.labels import SERIES
from harness.results.metrics import CASE, is_lab
from patches.patch import CONTROLS

QUESTION = "Does the patch that works in the lab work on the device?"
# What the words mean; the page says so below the sentence.
WORKS_IN_LAB = 0.05  # success beyond noise that a patch must have in the lab for its loss on a device to say anything
YES, NO = 0.8, 0.2  # share of it that survives: yes from, no up to
SPREAD = 0.1  # shares nearer to each other than this are one answer


class Headline(NamedTuple):
    """One sentence, its details and its figures: (what, value, note) each."""

    verdict: str  # yes, no, depends, nothing
    sentence: str
    details: str
    tiles: list[tuple[str, str, str]]


def percent(rate: float, digits: int = 1) -> str:
    """A fraction in percent, with its sign; an en dash where there is none."""
    return "–" if pd.isna(rate) else f"{100 * rate:.{digits}f}\u00a0%"


def span(low: float, high: float) -> str:
    """An interval of fractions in percent, without the sign: ``12.3–15.0``."""
    return "–" if pd.isna(low) else f"{100 * low:.1f}–{100 * high:.1f}"


def headline(cells: pd.DataFrame, each: Collection[str] = ()) -> Headline:
    """Compares each patch's success in torch with that on every integer target, patch by patch.

    ``cells`` are labelled ones. Only patches that ran on both sides count. Targeted ones are compared by their excess
    over noise (where there was noise), untargeted ones, if there are no targeted ones, by their success. Those named in
    ``each``, made for each image, are another threat than one patch for all: beside such ones they are told of apart.
    """
    attacked, own = ~cells["attack"].isin(CONTROLS), cells["patch"].isin(list(each))
    if not (attacked & own).any() or not (attacked & ~own).any():
        return _headline(cells)
    for_all, for_each = _headline(cells[~(attacked & own)]), _headline(cells[~(attacked & ~own)])
    details = f"{for_all.details} Patches made for each image, apart: {for_each.sentence} {for_each.details}".strip()
    return for_all._replace(
        details=details,
        tiles=[*for_all.tiles, *((f"for each image, {name}", value, where) for name, value, where in for_each.tiles)],
    )


def _headline(cells: pd.DataFrame) -> Headline:
    made = cells[~cells["attack"].isin(CONTROLS)]
    ok = made[made["status"] == "ok"]
    if made.empty:
        return Headline("nothing", "No patch was replayed: this run measured the networks alone.", "", [])
    targeted = bool((ok["target_class"] >= 0).any())
    rate = "targeted_success" if targeted else "untargeted_success"
    ok = ok[ok[rate].notna()]
    device = ok[_on_integers(ok)]
    if ok.empty or device.empty:
        where = "" if ok.empty else " on an integer target"
        what = f"no patched cell{where} ran without an error" if _on_integers(made).any() else "no target has integers"
        return Headline("nothing", f"No answer: {what}.", "", [])
    pairs = device.merge(ok[is_lab(ok)], on=[*CASE, "patch"], suffixes=("", "_lab"))
    if pairs.empty:
        return Headline("nothing", "No answer: no patch ran both in the lab and on an integer target.", "", [])
    places = ["victim", "artifact", "artifact_label", "target", "series_label", *SERIES]
    beyond = ["targeted_excess_over_noise", "targeted_excess_over_noise_lab"]
    if not targeted or pairs[beyond].isna().any(axis=None):
        beyond = [rate, f"{rate}_lab"]
    columns = {"device": rate, "lab": f"{rate}_lab", "kept": beyond[0], "base": beyond[1]}
    by_place = pairs.groupby(places, sort=False, dropna=False)
    means = by_place.agg(patches=("patch", "nunique"), **{k: (v, "mean") for k, v in columns.items()}).reset_index()
    works = means[means["base"] >= WORKS_IN_LAB]
    aim = "reaches its class on" if targeted else "misleads the network on"
    if works.empty:
        lab = _span(means["lab"].min(), means["lab"].max())
        text = f"Nothing to carry over: already in the lab the patch does no better than noise ({aim} {lab})."
        return Headline("nothing", text, "", _tiles(means, targeted, cells))
    works = works.assign(share=(works["kept"] / works["base"]).clip(lower=0))
    least, most = works.iloc[int(works["share"].argmin())], works.iloc[int(works["share"].argmax())]
    share = _span(least["share"], most["share"], 0)
    what = "success beyond noise" if beyond[0] != rate else "success"
    if least["share"] >= YES:
        verdict, sentence = "yes", f"Yes: on every integer target that ran the patch keeps {share} of its {what}."
    elif most["share"] <= NO:
        verdict, sentence = "no", f"No: on the integer targets the patch keeps {share} of its {what}."
    elif most["share"] - least["share"] < SPREAD:
        verdict, sentence = "depends", f"In part: on the integer targets the patch keeps {share} of its {what}."
    else:
        verdict, sentence = "depends", f"It depends on artifact and target: {share} of the patch’s {what} survives."
    lab = _span(works["lab"].min(), works["lab"].max())
    details = f"In the lab, the float network in PyTorch, a patch {aim} {lab} of the images."
    for word, row in (("Least", least), ("Most", most))[: 1 + (least.name != most.name)]:
        where = f"{row['victim']}, {row['artifact_label']} on {row['target']}"
        where += f" ({row['series_label']})" * bool(works["series_label"].nunique() > 1)
        details += f" {word} survives on {where}: {percent(row['lab'])} become {percent(row['device'])}."
    if failed := int(((made["status"] == "error") & ~made["precision"].isin(["fp32", ""])).sum()):
        details += f" {failed} patched cells on integer targets failed and are left out."
    if "doubts" in pairs and (doubted := int((pairs["doubts"] != "").sum())):
        details += f" A self-check failed that touches {doubted} of the {len(pairs)} cells compared: see †."
    return Headline(verdict, sentence, details, _tiles(works, targeted, cells))


def _on_integers(cells: pd.DataFrame) -> pd.Series:
    return ~cells["precision"].isin(["fp32", ""]) & (cells["format"] != "torch")


def _span(low: float, high: float, digits: int = 1) -> str:
    least, most = percent(low, digits), percent(high, digits)
    return most if least == most else f"{least.split()[0]} to {most}"


def _tiles(means: pd.DataFrame, targeted: bool, cells: pd.DataFrame) -> list[tuple[str, str, str]]:
    kind = "targeted" if targeted else "untargeted"
    patches = int(means["patches"].max())
    note = f"{kind} success, mean over {patches} patch{'es' * (patches != 1)}"
    best, worst = means.iloc[int(means["device"].argmax())], means.iloc[int(means["device"].argmin())]
    tiles = [("in the lab", _span(means["lab"].min(), means["lab"].max()), f"{note}, float network in PyTorch")]
    for word, row in (("integer runtimes, most", best), ("integer runtimes, least", worst)):
        tiles.append((word, percent(row["device"]), f"{row['victim']}, {row['artifact_label']} on {row['target']}"))
    noise = means["device"] - means["kept"]
    if (noise > 0).any():
        tiles.append(
            ("noise, integer runtimes", _span(noise.min(), noise.max()), "the same size and place, not optimised")
        )
    integer = cells[_on_integers(cells) & targeted]
    for control, where in (("sticker", "a picture of the class"), ("other_class", "a patch of another class")):
        drawn = integer[integer["attack"] == control]
        rates = drawn.groupby(["victim", "artifact", "target"])["targeted_success"].mean()
        if rates.notna().any():
            tiles.append((f"{where}, integer runtimes", _span(rates.min(), rates.max()), "the same size and place"))
    return tiles

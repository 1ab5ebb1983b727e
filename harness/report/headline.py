"""The report's headline: the answer to its one question, computed from the cells."""

from __future__ import annotations

from collections.abc import Collection
from typing import Literal, NamedTuple

import pandas as pd

from harness.report.labels import SERIES
from harness.results.columns import FLOAT
from harness.results.metrics import is_lab
from patches.patch import CONTROLS

QUESTION = "Does the patch that works in the lab work on the device?"
# These define the words of the sentence; the page states them below it.
WORKS_IN_LAB = 0.05  # success beyond noise that a patch needs in the lab for its loss on a device to mean anything
YES = 0.8  # "yes" from this surviving share of success on
NO = 0.2  # "no" up to this share
SPREAD = 0.1  # shares that differ by less than this are one answer
PLACE = ("victim", "artifact", "artifact_label", "target", "series_label", *SERIES)

Answer = Literal["yes", "no", "depends", "nothing"]


class Tile(NamedTuple):
    """One figure below the sentence."""

    name: str
    value: str
    where: str


class Headline(NamedTuple):
    """The answer, its sentence, details in prose, and figures."""

    verdict: Answer
    sentence: str
    details: str = ""
    tiles: tuple[Tile, ...] = ()


class _Compared(NamedTuple):
    """Patches that ran both in the lab and on integer targets.

    ``pairs`` has a row for each patch and place; ``means`` a row for each place with ``patches``, ``lab`` and
    ``device`` (success), and ``base`` and ``kept`` (the same beyond noise, where noise was measured).
    """

    pairs: pd.DataFrame
    means: pd.DataFrame
    targeted: bool
    beyond_noise: bool


def percent(rate: float, digits: int = 1) -> str:
    """Format a fraction in percent with its sign; NaN is an en dash."""
    return "–" if pd.isna(rate) else f"{100 * rate:.{digits}f}\u00a0%"


def span(low: float, high: float) -> str:
    """Format an interval of fractions in percent without the sign: ``12.3–15.0``."""
    return "–" if pd.isna(low) else f"{100 * low:.1f}–{100 * high:.1f}"


def headline(cells: pd.DataFrame, per_image: Collection[str] = ()) -> Headline:
    """Compare each patch's success in PyTorch with its success on every integer target.

    ``cells`` are labelled. Only patches that ran on both sides count. Targeted patches are compared by their success
    beyond noise where noise was measured; untargeted ones, if there are no targeted ones, by their success. Patches
    named in ``per_image`` are another threat than one patch for all images, and are reported separately.
    """
    attacked = ~cells["attack"].isin(CONTROLS)
    own = cells["patch"].isin(list(per_image))
    if not (attacked & own).any() or not (attacked & ~own).any():
        return _headline(cells)
    universal = _headline(cells[~(attacked & own)])
    each = _headline(cells[~(attacked & ~own)])
    details = f"{universal.details} Per-image patches, separately: {each.sentence} {each.details}".strip()
    tiles = tuple(tile._replace(name=f"per image, {tile.name}") for tile in each.tiles)
    return universal._replace(details=details, tiles=universal.tiles + tiles)


def _headline(cells: pd.DataFrame) -> Headline:
    attacked = cells[~cells["attack"].isin(CONTROLS)]
    if attacked.empty:
        return Headline("nothing", "No patch was replayed: this run measured clean accuracy only.")
    if missing := _missing(attacked):
        return Headline("nothing", f"No answer: {missing}.")
    compared = _compare(attacked)
    if compared.pairs.empty:
        return Headline("nothing", "No answer: no patch ran both in the lab and on an integer target.")
    works = compared.means[compared.means["base"] >= WORKS_IN_LAB]
    if works.empty:
        lab = _range(compared.means["lab"].min(), compared.means["lab"].max())
        reached = f"it {_aim(compared)} {lab} of the images"
        sentence = f"Nothing to compare: even in the lab the patch does no better than noise ({reached})."
        return Headline("nothing", sentence, "", _tiles(compared.means, compared.targeted, cells))
    works = works.assign(share=(works["kept"] / works["base"]).clip(lower=0))
    verdict, sentence = _answer(works["share"], "success beyond noise" if compared.beyond_noise else "success")
    details = " ".join(_details(works, compared, attacked))
    return Headline(verdict, sentence, details, _tiles(works, compared.targeted, cells))


def _missing(attacked: pd.DataFrame) -> str:
    """Return why no cell can be compared; empty if some can."""
    ok = attacked[attacked["status"] == "ok"]
    ok = ok[ok[_rate(ok)].notna()]
    if _on_integers(ok).any():
        return ""
    if not _on_integers(attacked).any():
        return "no target computes in integers"
    where = "" if ok.empty else " on an integer target"
    return f"no patched cell{where} ran without an error"


def _compare(attacked: pd.DataFrame) -> _Compared:
    ok = attacked[attacked["status"] == "ok"]
    rate = _rate(ok)
    ok = ok[ok[rate].notna()]
    pairs = ok[_on_integers(ok)].merge(ok[is_lab(ok)], on=[*FLOAT, "patch"], suffixes=("", "_lab"))
    targeted = rate == "targeted_success"
    excess = "targeted_excess_over_noise"
    beyond_noise = targeted and not pairs[[excess, f"{excess}_lab"]].isna().any(axis=None)
    kept = excess if beyond_noise else rate
    means = pairs.groupby(list(PLACE), sort=False, dropna=False).agg(
        patches=("patch", "nunique"),
        device=(rate, "mean"),
        lab=(f"{rate}_lab", "mean"),
        kept=(kept, "mean"),
        base=(f"{kept}_lab", "mean"),
    )
    return _Compared(pairs, means.reset_index(), targeted, beyond_noise)


def _answer(shares: pd.Series, what: str) -> tuple[Answer, str]:
    least, most = shares.min(), shares.max()
    kept = f"{_range(least, most, 0)} of its {what}"
    if least >= YES:
        return "yes", f"Yes: on every integer target that ran, the patch keeps {kept}."
    if most <= NO:
        return "no", f"No: on integer targets the patch keeps {kept}."
    if most - least < SPREAD:
        return "depends", f"In part: on integer targets the patch keeps {kept}."
    return "depends", f"It depends on the artifact and the target: the patch keeps {kept}."


def _details(works: pd.DataFrame, compared: _Compared, attacked: pd.DataFrame) -> list[str]:
    lab = _range(works["lab"].min(), works["lab"].max())
    out = [f"In the lab (the float network in PyTorch), a patch {_aim(compared)} {lab} of the images."]
    least = works.iloc[int(works["share"].argmin())]
    most = works.iloc[int(works["share"].argmax())]
    for word, row in (("Least", least), ("Most", most)):
        if word == "Most" and most.name == least.name:
            continue
        where = _where(row)
        if works["series_label"].nunique() > 1:
            where += f" ({row['series_label']})"
        out.append(f"{word} survives on {where}: from {percent(row['lab'])} to {percent(row['device'])}.")
    integer = ~attacked["precision"].isin(["fp32", ""])
    if failed := int(((attacked["status"] == "error") & integer).sum()):
        out.append(f"{failed} patched cells on integer targets failed and are excluded.")
    pairs = compared.pairs
    if "doubts" in pairs and (doubted := int((pairs["doubts"] != "").sum())):
        out.append(f"A failed self-check affects {doubted} of the {len(pairs)} cells compared; see †.")
    return out


def _tiles(means: pd.DataFrame, targeted: bool, cells: pd.DataFrame) -> tuple[Tile, ...]:
    kind = "targeted" if targeted else "untargeted"
    patches = int(means["patches"].max())
    over = f"{kind} success, mean over {patches} patch{'' if patches == 1 else 'es'}, float network in PyTorch"
    tiles = [Tile("in the lab", _range(means["lab"].min(), means["lab"].max()), over)]
    highest = means.iloc[int(means["device"].argmax())]
    lowest = means.iloc[int(means["device"].argmin())]
    for name, row in (("integer targets, highest", highest), ("integer targets, lowest", lowest)):
        tiles.append(Tile(name, percent(row["device"]), _where(row)))
    noise = means["device"] - means["kept"]
    if (noise > 0).any():
        tiles.append(
            Tile("noise, integer targets", _range(noise.min(), noise.max()), "same size and place, not optimised")
        )
    return *tiles, *(_control_tiles(cells[_on_integers(cells)]) if targeted else ())


def _control_tiles(integer: pd.DataFrame) -> list[Tile]:
    out = []
    for control, name in (("sticker", "picture of the class"), ("other_class", "other class’s patch")):
        drawn = integer[integer["attack"] == control]
        rates = drawn.groupby(["victim", "artifact", "target"])["targeted_success"].mean()
        if rates.notna().any():
            out.append(Tile(f"{name}, integer targets", _range(rates.min(), rates.max()), "same size and place"))
    return out


def _rate(ok: pd.DataFrame) -> str:
    return "targeted_success" if (ok["target_class"] >= 0).any() else "untargeted_success"


def _aim(compared: _Compared) -> str:
    return "reaches its target class on" if compared.targeted else "misleads the network on"


def _where(row: pd.Series) -> str:
    return f"{row['victim']}, {row['artifact_label']} on {row['target']}"


def _on_integers(cells: pd.DataFrame) -> pd.Series:
    return ~cells["precision"].isin(["fp32", ""]) & (cells["format"] != "torch")


def _range(low: float, high: float, digits: int = 1) -> str:
    least, most = percent(low, digits), percent(high, digits)
    return most if least == most else f"{least.split()[0]} to {most}"

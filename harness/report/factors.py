"""What a share that differs from place to place depends on: the factor whose values tell the places apart."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

from harness.report.labels import FORMATS
from harness.report.wording import percent, spread
from harness.results.stats import Estimate

Row = Mapping[Hashable, Any]
FACTORS = {
    "calibration": "calibration",
    "signature": "signature",
    "granularity": "granularity of the weights",
    "format": "format",
    "target": "target",
    "artifact_label": "artifact",
    "victim": "victim",
    "series_label": "attack",
    "defence": "defence",
}
MOST_VALUES = 4  # of a factor that a sentence names


def depends_on(rows: Sequence[Row], shares: Sequence[Estimate]) -> tuple[str, str]:
    """Return what the shares depend on, and each of its values' share: ``71 % with minmax, 40 % with percentile``.

    A factor explains the shares if the intervals of places that agree in it overlap. Of several, the first of `FACTORS`
    is named with those that group the places just as it does, since nothing tells them apart. The shares are empty
    where no factor explains them, or one of too many values.
    """
    groups = {factor: _grouped([str(row[factor]) for row in rows]) for factor in FACTORS}
    explaining = [factor for factor, places in groups.items() if len(places) > 1 and _explains(places, shares)]
    if not explaining:
        return "the artifact and the target", ""
    first = groups[explaining[0]]
    alike = [factor for factor in explaining if list(groups[factor].values()) == list(first.values())]
    named = " or the ".join(FACTORS[factor] for factor in alike if factor != "artifact_label" or len(alike) == 1)
    each = (f"{_share(places, shares)} with {_written(explaining[0], value)}" for value, places in first.items())
    return f"the {named}", ", ".join(each) if len(first) <= MOST_VALUES else ""


def _written(factor: str, value: str) -> str:
    if factor == "signature":
        return value.upper()
    return FORMATS.get(value, value) if factor == "format" else value.replace("_", " ")


def _grouped(values: Sequence[str]) -> dict[str, list[int]]:
    places: dict[str, list[int]] = {}
    for place, value in enumerate(values):
        places.setdefault(value or "none", []).append(place)
    return places


def _explains(groups: Mapping[str, Sequence[int]], shares: Sequence[Estimate]) -> bool:
    """Return whether places of one group have shares that one value could be."""
    return all(
        max(shares[place].low for place in places) <= min(shares[place].high for place in places)
        for places in groups.values()
    )


def _share(places: Sequence[int], shares: Sequence[Estimate]) -> str:
    values = [max(0.0, shares[place].value) for place in places]
    return spread(values, 0) if len(values) > 1 else percent(values[0], 0)

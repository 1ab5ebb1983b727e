"""What a headline is made of, and the words that it puts rates and intervals into."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import pandas as pd

from harness.results.stats import Difference, Estimate
from harness.results.survival import Reach

QUESTION = "Does the patch that works in the lab work on the device?"
# These define the words of the sentence; the page states them below it.
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
    """The answer, its sentence, what casts doubt on it, details in prose, and figures.

    They are of targets of one ``fidelity``, empty where all are devices; ``also`` has the sentences of the others.
    """

    verdict: Answer
    sentence: str
    warnings: tuple[str, ...] = ()
    details: str = ""
    tiles: tuple[Tile, ...] = ()
    question: str = QUESTION
    fidelity: str = ""
    also: tuple[tuple[str, str], ...] = ()

    @property
    def said(self) -> str:
        """All sentences on one line, each with its fidelity where that is not a device's alone."""
        answers = ((self.fidelity, self.sentence), *self.also)
        return " ".join(f"{fidelity}: {sentence}" if fidelity else sentence for fidelity, sentence in answers)


def percent(rate: float, digits: int = 1) -> str:
    """Format a fraction in percent with its sign; NaN is an en dash."""
    return "–" if pd.isna(rate) else f"{100 * rate:.{digits}f}\u00a0%"


def span(low: float, high: float) -> str:
    """Format an interval of fractions in percent without the sign: ``12.3–15.0``."""
    return "–" if pd.isna(low) else f"{100 * low:.1f}–{100 * high:.1f}"


def spread(rates: Sequence[float], digits: int = 1) -> str:
    """Format the least and the largest of some fractions: ``12.3 to 15.0 %``."""
    least, most = percent(min(rates), digits), percent(max(rates), digits)
    return most if least == most else f"{least.split()[0]} to {most}"


def with_interval(rate: Estimate | Difference) -> str:
    """Format a rate and its interval: ``13.4 % (12.3–15.0)``."""
    return f"{percent(rate.value)} ({span(rate.low, rate.high)})"


def within(rates: Sequence[Estimate | Difference], digits: int = 0) -> str:
    """Format the interval of one rate, or what those of several lie within."""
    low, high = max(0.0, min(rate.low for rate in rates)), max(rate.high for rate in rates)
    ends = f"{100 * low:.{digits}f}–{100 * high:.{digits}f}\u00a0%"
    return f"(95\u00a0% interval {ends})" if len(rates) == 1 else f"(95\u00a0% intervals within {ends})"


def aim(one: Reach) -> str:
    """Say what a patch does where it succeeds."""
    return "reaches its target class on" if one.kind == "targeted" else "misleads the network on"


def on_average(reached: Sequence[Reach]) -> str:
    """Say that rates are means over patches, with a comma before; nothing if each is of one patch."""
    counts = [len(one.patches) for one in reached]
    return f", on average over {numbers(counts)} patches" if max(counts) > 1 else ""


def beyond_noise(one: Reach) -> bool:
    """Return whether noise was measured beside these patches."""
    return not pd.isna(one.noise)


def numbers(counts: Sequence[int]) -> str:
    """Format the least and the largest of some counts: ``3–5``."""
    return str(min(counts)) if len(set(counts)) == 1 else f"{min(counts)}–{max(counts)}"


def noise_tile(reached: Sequence[Reach]) -> Tile:
    """Return the figure of what noise reaches beside these patches."""
    rates, n = spread([one.noise for one in reached]), numbers([one.n for one in reached])
    return Tile("noise, same targets", rates, f"n {n}", "same size and place, not optimised")

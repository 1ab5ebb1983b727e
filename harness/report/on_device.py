"""The headline of patches that ran in no lab, as those made on a file's own twin: what they reach on the device.

What is emulated or simulated is no device: there they are said to reach it on the target.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from harness.report.wording import (
    Answer,
    Headline,
    Tile,
    aim,
    beyond_noise,
    noise_tile,
    on_average,
    percent,
    span,
    spread,
    with_interval,
    within,
)
from harness.results.checks import WORTHWHILE
from harness.results.survival import Reach

NO_LAB = "No lab network was given, so nothing is said of what the device costs the patch."


Where = Literal["device", "target"]


def on_device(reached: Sequence[Reach], names: Sequence[str], where: Where = "device") -> Headline:
    """Say what patches reach on each place, by its name, and whether that is more than noise does."""
    verdict, sentence = _answer(reached, where)
    by_success = sorted(zip(reached, names, strict=True), key=lambda pair: pair[0].success.value)
    details = [NO_LAB]
    ends = [("", by_success[0])]
    if len(reached) > 1:
        ends = [("least ", by_success[0]), ("most ", by_success[-1])]
        details += [f"{word.title()}on {name}: {with_interval(one.success)}." for word, (one, name) in ends]
    working = sum(one.gain.low > WORTHWHILE for one in reached)
    if 0 < working < len(reached):
        details.append(f"It is shown to be better than noise on {working} of {len(reached)} places.")
    tiles = [_tile(f"{word}on the {where}", one, name) for word, (one, name) in ends]
    noise = [one for one in reached if beyond_noise(one)]
    if noise:
        tiles.append(noise_tile(noise))
    question = f"Does the patch work on the {where}?"
    return Headline(verdict, sentence, details=" ".join(details), tiles=tuple(tiles), question=question)


def _answer(reached: Sequence[Reach], where: Where) -> tuple[Answer, str]:
    rates = [one.success for one in reached]
    what = f"{aim(reached[0])} {spread([rate.value for rate in rates])} of the images {within(rates, 1)}"
    said = f"the patch {what}{on_average(reached)}"
    noise = [one.noise for one in reached if beyond_noise(one)]
    if noise:
        said += f"; noise of the same size and place on {spread(noise)}"
    working = [one for one in reached if one.gain.low > WORTHWHILE]
    if working:
        return "yes" if len(working) == len(reached) else "in part", f"On the {where}, {said}."
    if all(one.gain.high <= WORTHWHILE for one in reached):
        return "no", f"No: on the {where}, {said}, so it is not {percent(WORTHWHILE, 0)} better."
    more = f"more patches or images would tell whether it is {percent(WORTHWHILE, 0)} better"
    return "can't say", f"Can’t say: on the {where}, {said}; {more}."


def _tile(name: str, one: Reach, where: str) -> Tile:
    over = f"{one.kind} success on {where}{on_average([one])}"
    return Tile(name, percent(one.success.value), f"{span(one.success.low, one.success.high)}, n {one.n}", over)

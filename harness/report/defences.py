"""The page's section on defences: what each costs, and what it is worth once the attacker expects it."""

from __future__ import annotations

import math
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, NullFormatter

from harness.report.svg import COLOURS, INK, SOFT, WIDTH, Figures, covering, drawing, for_windows, legend, percent_axis
from harness.results.metrics import OF_DEFENCES
from harness.results.run_directory import RunFacts
from patches.patch import CONTROLS
from patches.surrogate import Surrogate

PLACE = ["victim", "artifact", "artifact_label", "target"]
NO_RATE = math.nan


class Success(NamedTuple):
    """The success of one series of patches, with its interval and what it is over; NaN where there is none."""

    rate: float = NO_RATE
    low: float = NO_RATE
    high: float = NO_RATE
    series: str = ""


class Defended(NamedTuple):
    """A defence before a file on a target; an empty one is none.

    ``naive`` is the most that patches that do not expect it achieve, ``adaptive`` the most of those that do, if it
    ``is_expected`` by any. Rates are fractions. ``p50_ms`` is at one thread, or the fewest measured.
    """

    victim: str
    artifact: str
    artifact_label: str
    target: str
    defence: str
    clean: pd.Series
    is_expected: bool
    naive: Success
    adaptive: Success
    noise: float
    certified: Success
    passes: float
    p50_ms: float
    added_ms: float

    @property
    def success(self) -> float:
        """What an attacker who may choose achieves."""
        return float(np.nanmax([0.0, self.naive.rate, self.adaptive.rate]))

    @property
    def only_naive(self) -> bool:
        """Whether no patch expected this defence, so that its worth is unknown."""
        return bool(self.defence) and not self.is_expected


def defended(run: RunFacts, summary: pd.DataFrame) -> list[Defended]:
    """Return every defence of a run by place, none first; nothing for a run without one. ``summary`` is labelled."""
    ok = summary[(summary["status"] == "ok") & (summary["split"] == "evaluate")]
    if not (ok["defence"] != "").any():
        return []
    rate = "targeted_success" if ok["targeted_success"].notna().any() else "untargeted_success"
    timed = {
        (row.artifact, row.target, row.defence): row.p50_ms
        for row in sorted(run.latency, key=lambda row: row.threads or math.inf, reverse=True)
    }
    out = []
    for place, table in ok.groupby([*PLACE, "defence"], sort=False):
        if (clean := table[table["attack"] == "none"]).empty:
            continue
        words = dict(zip([*PLACE, "defence"], map(str, place), strict=True))
        p50_ms = timed.get((words["artifact"], words["target"], words["defence"]), NO_RATE)
        attacks = table[~table["attack"].isin([*CONTROLS, "other_class"])]
        expected = np.array([Surrogate.parse(word).defence if word else "" for word in attacks["surrogate"]], str)
        knows = (expected == words["defence"]) & bool(words["defence"])
        first = clean.iloc[0]
        out.append(
            Defended(
                **words,
                clean=first,
                is_expected=bool(np.any(knows)),
                naive=_most(attacks[~knows], rate),
                adaptive=_most(attacks[knows], rate),
                noise=float(table.loc[table["attack"] == "noise", rate].mean()),
                certified=Success(*(first.get(name, NO_RATE) for name in OF_DEFENCES[:3])),
                passes=first.get("passes", 1.0),
                p50_ms=p50_ms,
                added_ms=p50_ms - timed.get((words["artifact"], words["target"], ""), NO_RATE),
            )
        )
    places: dict[tuple[str, str], int] = {}
    for row in out:
        places.setdefault((row.artifact, row.target), len(places))
    return sorted(out, key=lambda row: (places[row.artifact, row.target], row.defence != ""))


def _most(attacks: pd.DataFrame, rate: str) -> Success:
    """Return the highest rate of a series."""
    attacks = attacks.dropna(subset=[rate])
    if attacks.empty:
        return Success()
    row = attacks.sort_values(rate).iloc[-1]
    return Success(row[rate], row[f"{rate}_low"], row[f"{rate}_high"], row["series_label"])


def undominated(rows: list[Defended]) -> list[bool]:
    """Return which defences no other of their place beats: as accurate, as hard to attack, as fast, and not equal."""
    goals = [(-row.clean["clean_accuracy"], row.success, row.p50_ms) for row in rows]
    of_place: dict[tuple[str, str], list[int]] = {}
    for i, row in enumerate(rows):
        of_place.setdefault((row.artifact, row.target), []).append(i)

    def beats(i: int, j: int) -> bool:
        pairs = [(a, b) for a, b in zip(goals[i], goals[j], strict=True) if not math.isnan(a) and not math.isnan(b)]
        return all(a <= b for a, b in pairs) and any(a < b for a, b in pairs)

    return [not any(beats(j, i) for j in of_place[row.artifact, row.target]) for i, row in enumerate(rows)]


def pareto_figure(rows: list[Defended]) -> Figures:
    """Draw success against clean accuracy, and against latency where there is one."""
    return for_windows(partial(_figure, rows))


def _figure(rows: list[Defended], width: float) -> Markup:
    timed = not all(math.isnan(row.p50_ms) for row in rows)
    across = width == WIDTH and timed
    height = 4.6 if across or not timed else 8.2
    front = undominated(rows)
    places = list(dict.fromkeys((row.artifact_label, row.target) for row in rows))
    times = [row.p50_ms for row in rows if not math.isnan(row.p50_ms)]
    middles = {"clean": 0.5, "p50_ms": math.sqrt(min(times) * max(times)) if times else NO_RATE}
    with drawing(width, height) as (figure, out):
        shape: dict[str, Any] = {"nrows": 1, "ncols": 2} if across else {"nrows": 1 + timed, "ncols": 1}
        panels = np.atleast_1d(figure.subplots(**shape)).ravel().tolist()
        for axes, key in zip(panels, ("clean", "p50_ms"), strict=False):
            for row, is_best in zip(rows, front, strict=True):
                colour = COLOURS[places.index((row.artifact_label, row.target)) % len(COLOURS)]
                _point(axes, row, key, colour, is_best, middles[key])
            percent_axis(axes, "y", covering([row.success for row in rows]), "success of the best attack, %")
        percent_axis(panels[0], "x", 1.0, "clean accuracy, %")
        if timed:
            panels[1].set_xscale("log")
            panels[1].xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            panels[1].xaxis.set_major_formatter("{x:g}")  # the default is mathtext, which SVG text shows as it stands
            panels[1].xaxis.set_minor_formatter(NullFormatter())
            panels[1].set_xlabel("median latency of an image, ms")
        for i, (artifact, target) in enumerate(places):
            panels[0].plot([], [], "o", color=COLOURS[i % len(COLOURS)], label=f"{artifact}, {target}")
        legend(figure, panels[0])
        figure.subplots_adjust(0.09, 0.6 / height, 0.98, 1 - 0.4 / height, wspace=0.2, hspace=0.2)
    return out[0]


def _point(axes: Axes, row: Defended, key: str, colour: str, is_best: bool, middle: float) -> None:
    x = row.clean["clean_accuracy"] if key == "clean" else row.p50_ms
    if math.isnan(x):
        return
    axes.plot(x, row.success, "o", color=colour, mfc=colour if is_best else "none", ms=6)
    words = row.defence or "undefended"
    if not math.isnan(row.certified.rate) and key == "clean":
        words += f", {100 * row.certified.rate:.0f} % certified"
    if row.only_naive:
        words += ", only naively"
    is_right = x > middle  # the label goes to the left of its mark
    axes.annotate(
        words, (x, row.success), (-5 if is_right else 5, 4), textcoords="offset points", fontsize=7,
        ha="right" if is_right else "left", color=INK if is_best else SOFT,
    )  # fmt: skip

"""Self-checks: doubts that a run raises about itself, as data; a check that failed marks the numbers it touches."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd

from harness.results.metrics import is_lab
from harness.results.stats import wilson
from patches.patch import CONTROLS

NOISE_MISLEADS_MOST = 0.15  # more, and the size or place alone breaks the network, whatever lies there
ZERO_GRADIENTS_MOST = 0.5  # more, and the attack was blind: its patch says little about the network
ACCURACY_OFF_MOST = 0.05  # points between an artifact and what its file claims, or the float network has
MARGIN = 0.05  # the change that a cell's interval should tell from none, at least
SOFTMAX_SUM_OFF = 0.05
SOFTMAX_STEP = 1 / 256  # of an INT8 softmax: of each class up to half of it is lost to rounding
FEEDS = "mean, std, divisor and channel_order"  # the keys of a suite that say how pixels are fed
Where = dict[str, Any]  # columns of a cell and their values


@dataclass(frozen=True)
class Check:
    """One doubt: ``where`` says which cells it touches if it failed, each entry by the columns that it names."""

    name: str
    asks: str
    status: Literal["passed", "failed", "unknown"]
    says: str
    where: tuple[Where, ...] = ()


def checks(run: Mapping[str, Any], cells: pd.DataFrame) -> list[dict[str, Any]]:
    """All self-checks of a run from its run.json and its cells, for run.json; what no record tells is ``unknown``."""
    good = cells[(cells["status"] == "ok") & (cells["split"] != "all")]
    found = (
        _again(run.get("again")),
        _outputs(run.get("outputs")),
        _noise(good),
        _gradients(run.get("patches", [])),
        _pixels(run.get("cases")),
        _accuracy(run, good),
        _enough(good),
        _copies(run.get("data", {}).get("copies"), run.get("patches", [])),
    )
    return [asdict(check) for check in found]


def doubts(cells: pd.DataFrame, found: Iterable[Mapping[str, Any]]) -> list[str]:
    """For each cell the names of the failed checks that touch it, comma between; a column of cells.csv."""
    names: list[list[str]] = [[] for _ in range(len(cells))]
    for check in found:
        touched = np.zeros(len(cells), bool)
        for where in check["where"] if check["status"] == "failed" else ():
            touched |= np.logical_and.reduce([(cells[c] == v).to_numpy(bool) for c, v in where.items()])
        for i in np.flatnonzero(touched):
            names[i].append(check["name"])
    return [", ".join(own) for own in names]


def _verdict(name: str, asks: str, good: str, bad: list[tuple[str, Where]]) -> Check:
    if not bad:
        return Check(name, asks, "passed", good)
    more = f"; and {len(bad) - 3} more" if len(bad) > 3 else ""
    return Check(name, asks, "failed", "; ".join(text for text, _ in bad[:3]) + more, tuple(where for _, where in bad))


def _unknown(name: str, asks: str) -> Check:
    return Check(name, asks, "unknown", "this run did not record it")


def _place(row: Mapping[Any, Any]) -> Where:
    return {"artifact": row["artifact"], "target": row["target"]}


def _again(found: list[Where] | None) -> Check:
    name, asks = "twice equal", "does a second replay give the same answers, to the last bit?"
    if not found:
        return _unknown(name, asks)
    bad = []
    for row in found:
        what = row.get("error") or f"{row['images'] - row['equal']} of {row['images']} differ"
        if "error" in row or row["equal"] < row["images"]:
            bad.append((f"{row['artifact']} on {row['target']}: {what}", _place(row)))
    return _verdict(name, asks, f"{sum(row.get('images', 0) for row in found)} images on {len(found)} places", bad)


def _outputs(found: list[Where] | None) -> Check:
    name, asks = "kind of outputs", "are outputs logits or softmax, as the artifact declares?"
    if not found:
        return _unknown(name, asks)
    bad = []
    for row in found:
        off = max(SOFTMAX_SUM_OFF, row.get("classes", 0) * SOFTMAX_STEP / 2)
        softmax = row["least"] > -0.01 and row["most"] < 1.01 and row["furthest_sum_from_one"] < off
        if softmax != (row["declared"] == "softmax"):
            like = "softmax" if softmax else "logits"
            bad.append((f"{row['artifact']} on {row['target']}: {like}, {row['declared']} declared", _place(row)))
    return _verdict(name, asks, f"on {len(found)} places", bad)


def _noise(cells: pd.DataFrame) -> Check:
    name, asks = (
        "noise is harmless",
        f"does noise of the same size mislead at most {NOISE_MISLEADS_MOST:.0%}?",
    )
    draws = cells[(cells["attack"] == "noise") & cells["untargeted_success"].notna()]
    if draws.empty:
        return _unknown(name, asks)
    place = ["artifact", "target", "patch_px", "shape", "placement", "defence"]
    table = draws.groupby(place, sort=False, observed=True)["untargeted_success"].mean().reset_index()
    bad = [
        (
            f"{row['artifact']} on {row['target']}, {row['patch_px']} px{_at(row)}: {row['untargeted_success']:.1%}",
            {c: row[c] for c in place},
        )
        for row in table[table["untargeted_success"] > NOISE_MISLEADS_MOST].to_dict("records")
    ]
    return _verdict(name, asks, f"at most {table['untargeted_success'].max():.1%}", bad)


def _at(row: Mapping[Any, Any]) -> str:
    place = "" if row["placement"] == "random" else f" placed {row['placement']}"
    return place + (f" after {row['defence']}" if row["defence"] else "")


def _gradients(patches: list[Where]) -> Check:
    name = "gradients"
    asks = f"where an attack follows gradients, were at most {ZERO_GRADIENTS_MOST:.0%} of them zero?"
    made = [patch for patch in patches if patch.get("attack") not in CONTROLS]
    without = sum(bool(p.get("attack") == "imported" or p["checks"].get("queries")) for p in made)
    shares = {p["name"]: p["checks"].get("zero_gradient_share") for p in made}
    known = {name: share for name, share in shares.items() if share is not None}
    if not known and without and without == len(made):
        return Check(name, asks, "unknown", "no attack of this run follows any")
    if not known:
        return _unknown(name, asks)
    bad = [(f"{p}: {share:.0%}", {"patch": p}) for p, share in known.items() if share > ZERO_GRADIENTS_MOST]
    others = f"; {without} more were made without gradients" if without else ""
    return _verdict(name, asks, f"at most {max(known.values()):.1%} of {len(known)} patches'{others}", bad)


def _pixels(cases: list[Where] | None) -> Check:
    name, asks = "pixels as crafted", "do the bytes at the replay equal those crafted?"
    if not cases:
        return _unknown(name, asks)
    bad = [
        (
            f"{case['patch'] or 'clean'} on {other['target']}",
            _place(other) | ({"patch": case["patch"]} if case["patch"] else {}),
        )
        for case in cases
        for other in case["others"]
    ]
    return _verdict(name, asks, f"in {len(cases)} stacks of images", bad)


def _accuracy(run: Mapping[str, Any], cells: pd.DataFrame) -> Check:
    name = "accuracy as claimed"
    points = f"{100 * ACCURACY_OFF_MOST:.0f} points"
    asks = f"is clean accuracy within {points} of what is claimed, or of the float network, and above chance?"
    victims = {victim["name"]: victim for victim in run.get("victims", [])}
    claims = {a["name"]: a.get("claimed_accuracy") or victims.get(a["victim"], {}).get("float_accuracy")
              for a in run.get("artifacts", [])}  # fmt: skip
    chance = 1 / len(run["class_names"]) if run.get("class_names") else None
    clean = cells[(cells["attack"] == "none") & (cells["defence"] == "")]
    known, bad = 0, []
    for row, is_float in zip(clean.to_dict("records"), is_lab(clean), strict=True):
        claim = victims.get(row["victim"], {}).get("claimed_accuracy") if is_float else claims.get(row["artifact"])
        known += bool(chance) or pd.notna(claim)
        at = f"{row['artifact']} on {row['target']}: {row['clean_accuracy']:.1%}"
        low, high = row["clean_accuracy_low"], row["clean_accuracy_high"]
        if pd.notna(claim) and not low - ACCURACY_OFF_MOST <= claim <= high + ACCURACY_OFF_MOST:
            bad.append((f"{at}, {claim:.1%} claimed", _place(row)))
        elif chance and low <= chance:
            bad.append((f"{at}, by chance {chance:.1%}: are {FEEDS} the model's?", _place(row)))
    return _verdict(name, asks, f"on {known} places", bad) if known else _unknown(name, asks)


def _enough(cells: pd.DataFrame) -> Check:
    name, asks = "enough images", f"is each success known to {100 * MARGIN:.0f} points, at 95 %?"
    table = cells[~cells["attack"].isin(CONTROLS)]
    rate = np.where(table["targeted_success"].notna(), "targeted_success", "untargeted_success")
    ends = [
        [row[f"{r}_{end}"] for row, r in zip(table.to_dict("records"), rate, strict=True)] for end in ("low", "high")
    ]
    half = (np.array(ends[1], float) - np.array(ends[0], float)) / 2
    if not len(half):
        return _unknown(name, asks)
    few = table[half > MARGIN]
    need = next(n for n in range(10, 100_000, 10) if np.diff(wilson(n / 2, n), axis=0)[0] <= 2 * MARGIN)
    bad = [
        (
            f"{row['artifact']} on {row['target']}, {row['patch']}",
            _place(row) | {"patch": row["patch"], "defence": row["defence"]},
        )
        for row in few.to_dict("records")
    ]
    check = _verdict(name, asks, f"to {100 * half.max():.1f} points or better", bad)
    return (
        check if not bad else Check(name, asks, "failed", f"{check.says}: {need} images are always enough", check.where)
    )


def _copies(count: int | None, patches: list[Where]) -> Check:
    name, asks = "no copies", "is no counted image a copy of one that calibrated or crafted?"
    if count is None:
        return _unknown(name, asks)
    each = sum(bool(patch.get("per_image")) for patch in patches)
    meant = f"; {each} were made for each counted image, on those very images, as they are meant to be" if each else ""
    return _verdict(name, asks, f"none is{meant}", [(f"{count} of the counted images are", {})] if count else [])

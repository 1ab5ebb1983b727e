"""Self-checks of a run: each asks whether its numbers can be trusted; a failed check marks the cells it affects."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
import pandas as pd

from harness.plan.warnings import FEW_IMAGES
from harness.results.alike import elsewhere
from harness.results.entries import ArtifactEntry, CaseEntry, Check, OutputsEntry, PatchEntry, VictimEntry
from harness.results.integer_checks import arithmetic, integers, like_float, twins
from harness.results.measured import RepeatEntry
from harness.results.metrics import is_lab
from harness.results.run_directory import RunFacts
from harness.results.verdicts import Fault, place, unknown, verdict
from patches.patch import CONTROLS
from patches.surrogate import Surrogate

MAX_NOISE_SUCCESS = 0.15  # above it, size or place alone break the network, whatever lies there
MAX_ZERO_GRADIENTS = 0.5  # above it, the attack was blind, unless its patch works
MAX_ACCURACY_LOSS = 0.05  # between an artifact and its file's claim, or the float network
WORTHWHILE = 0.05  # success beyond noise; below it, a patch does not count as working
SOFTMAX_SUM_OFF = 0.05
SOFTMAX_STEP = 1 / 256  # of an INT8 softmax: rounding loses up to half of it per class
PREPROCESSING = "are mean, std, divisor and channel_order the model's?"
Row = Mapping[Hashable, Any]
R = TypeVar("R", bound=RepeatEntry)


def checks(run: RunFacts, cells: pd.DataFrame) -> tuple[Check, ...]:
    """Return all self-checks of a run, from its ``run.json`` and cells; ``unknown`` where nothing was recorded."""
    good = cells[(cells["status"] == "ok") & (cells["split"] != "all")]
    return (
        _repeat(run.again),
        *_alike(run),
        integers(run.artifacts),
        arithmetic(run),
        elsewhere(run.elsewhere),
        twins(run.twins),
        _outputs(run.outputs),
        _noise(good),
        _gradients(run.patches, good),
        *_adaptive(good),
        _pixels(run.cases),
        _calibration(run.artifacts),
        _accuracy(run, good),
        like_float(good),
        _enough(good),
        _copies(run.data.copies, run.patches),
    )


def doubts(cells: pd.DataFrame, found: Iterable[Check]) -> list[str]:
    """Return for each cell the names of the failed checks that affect it, comma-separated; a column of cells.csv."""
    names: list[list[str]] = [[] for _ in range(len(cells))]
    for check in found:
        wanted: dict[tuple[str, ...], set[tuple[object, ...]]] = {}
        for where in check.where if check.status == "failed" else ():
            wanted.setdefault(tuple(where), set()).add(tuple(where.values()))
        affected = np.zeros(len(cells), bool)
        for columns, places in wanted.items():  # as many as cells: each is looked up, and compared with none
            affected |= [tuple(place) in places for place in cells[list(columns)].to_numpy(object)]
        for i in np.flatnonzero(affected):
            names[i].append(check.name)
    return [", ".join(own) for own in names]


def _repeat(repeats: Sequence[RepeatEntry]) -> Check:
    name, asks = "twice equal", "does a second replay give the same answers, bit for bit?"
    if not repeats:
        return unknown(name, asks)
    bad = [
        (f"{one.artifact} on {one.target}: {what}", place(one.artifact, one.target)) for one, what in _uneven(repeats)
    ]
    return verdict(
        name, asks, f"{sum(one.images for one in repeats)} images of {len(repeats)} pairs of artifact and target", bad
    )


def _alike(run: RunFacts) -> Iterator[Check]:
    """Ask whether the boards of each fleet are one device; a run without fleets has no such check."""
    name, asks = "boards alike", "do the boards of a fleet give the same answers, bit for bit?"
    fleets = {target.name: target.boards for target in run.targets if target.boards}
    if not fleets:
        return
    aside = [
        f"{one.address} of {name} was set aside: {one.aside}" for name, of in fleets.items() for one in of if one.aside
    ]
    if not run.alike:
        yield unknown(name, asks, "; ".join(["no two boards answered", *aside]))
        return
    bad: list[Fault] = [
        (f"{one.artifact} on {one.board} and {one.other}: {what}", place(one.artifact, one.target))
        for one, what in _uneven(run.alike)
    ]
    good = f"{sum(one.images for one in run.alike)} images, {len(run.alike)} pairs of boards on an artifact"
    yield verdict(name, asks, "; ".join([good, *aside]), bad, "".join(f"; {text}" for text in aside))


def _uneven(repeats: Iterable[R]) -> Iterator[tuple[R, str]]:
    """Yield second replays that failed or differ from the first, each with what is wrong."""
    for one in repeats:
        if one.error or one.equal < one.images:
            yield one, one.error or f"{one.images - one.equal} of {one.images} differ"


def _outputs(outputs: Sequence[OutputsEntry]) -> Check:
    name, asks = "kind of outputs", "are the outputs logits or softmax, as the artifact declares?"
    if not outputs:
        return unknown(name, asks)
    bad: list[Fault] = []
    for one in outputs:
        off = max(SOFTMAX_SUM_OFF, one.classes * SOFTMAX_STEP / 2)
        is_softmax = one.least > -0.01 and one.most < 1.01 and one.furthest_sum_from_one < off
        if is_softmax != (one.declared == "softmax"):
            like = "softmax" if is_softmax else "logits"
            text = f"{one.artifact} on {one.target}: {like}, {one.declared} declared"
            bad.append((text, place(one.artifact, one.target)))
    return verdict(name, asks, f"in {len(outputs)} pairs of artifact and target", bad)


def _noise(cells: pd.DataFrame) -> Check:
    name, asks = "noise is harmless", f"does noise of the same size mislead at most {MAX_NOISE_SUCCESS:.0%}?"
    draws = cells[(cells["attack"] == "noise") & cells["untargeted_success"].notna()]
    if draws.empty:
        return unknown(name, asks)
    place = ["artifact", "target", "patch_px", "shape", "placement", "defence"]
    table = draws.groupby(place, sort=False, observed=True)["untargeted_success"].mean().reset_index()
    bad: list[Fault] = []
    for row in table[table["untargeted_success"] > MAX_NOISE_SUCCESS].to_dict("records"):
        where = f"{row['artifact']} on {row['target']}, {row['patch_px']} px{_placed(row)}"
        bad.append((f"{where}: {row['untargeted_success']:.1%}", {c: row[c] for c in place}))
    return verdict(name, asks, f"at most {table['untargeted_success'].max():.1%}", bad)


def _gradients(patches: Sequence[PatchEntry], cells: pd.DataFrame) -> Check:
    name = "gradients"
    asks = (
        f"could each attack follow its gradients: were at most {MAX_ZERO_GRADIENTS:.0%} of them zero, "
        "or does its patch do better than noise?"
    )
    crafted = [patch for patch in patches if patch.attack not in CONTROLS]
    without = sum(bool(patch.attack == "imported" or patch.checks.queries) for patch in crafted)
    measured = {p.name: share for p in crafted if (share := p.checks.zero_gradient_share) is not None}
    if not measured and without and without == len(crafted):
        return unknown(name, asks, "no attack of this run follows gradients")
    if not measured:
        return unknown(name, asks)
    works = set(cells["patch"][_beyond_noise(cells, "_low") > WORTHWHILE])
    zero = {patch: share for patch, share in measured.items() if share > MAX_ZERO_GRADIENTS}
    bad: list[Fault] = [(f"{p}: {share:.0%} zero", {"patch": p}) for p, share in zero.items() if p not in works]
    good = f"at most {max(measured.values()):.1%} of {len(measured)} patches' were zero"
    if zero:
        good += f"; the {len(zero)} above {MAX_ZERO_GRADIENTS:.0%} do better than noise all the same"
    if without:
        good += f"; {without} more were crafted without gradients"
    mend = "; craft it on another surrogate, or by an attack that follows none, as sparse_rs"
    return verdict(name, asks, good, bad, mend)


def _adaptive(cells: pd.DataFrame) -> Iterator[Check]:
    """Ask whether each defence met patches that expect it; a run without defences has no such check."""
    behind = cells[(cells["defence"] != "") & ~cells["attack"].isin(CONTROLS)]
    if behind.empty:
        return
    expected = {words: Surrogate.parse(words).defence if words else "" for words in behind["surrogate"].unique()}
    table = behind.assign(expects=behind["surrogate"].map(expected).astype(str) == behind["defence"].astype(str))
    places = ["artifact", "target", "defence"]
    table = table.groupby(places, sort=False, observed=True)["expects"].any().reset_index()
    bad: list[Fault] = []
    for row in table[~table["expects"]].to_dict("records"):
        bad.append((f"{row['defence']} before {row['artifact']} on {row['target']}", {c: row[c] for c in places}))
    yield verdict(
        "attacked adaptively",
        "did each defence meet patches that expect it?",
        f"each of {len(table)}, before an artifact on a target",
        bad,
        "; its worth is unknown: name it as the defence of an [[attack]] too",
    )


def _pixels(cases: Sequence[CaseEntry]) -> Check:
    name, asks = "pixels as crafted", "did the replay see the pixels that were crafted?"
    if not cases:
        return unknown(name, asks)
    bad: list[Fault] = []
    for case in cases:
        for other in case.others:
            where = place(other.artifact, other.target)
            if case.patch:
                where["patch"] = case.patch
            bad.append((f"{case.patch or 'clean'} on {other.target}", where))
    return verdict(name, asks, f"in {len(cases)} stacks of images", bad)


def _calibration(artifacts: Sequence[ArtifactEntry]) -> Check:
    name, asks = "calibration", f"were ranges set by at least {FEW_IMAGES} images?"
    given = {one.name: one.quant.get("calibration_images") for one in artifacts if one.quant}
    images = {file: n for file, n in given.items() if isinstance(n, int)}
    if not images:
        return unknown(name, asks, "this run calibrated no file")
    bad: list[Fault] = [(f"{file}: {n}", {"artifact": file}) for file, n in images.items() if n < FEW_IMAGES]
    return verdict(name, asks, f"by {min(images.values())} or more", bad, "; give more as data.calibration")


def _accuracy(run: RunFacts, cells: pd.DataFrame) -> Check:
    name = "accuracy as claimed"
    points = f"{100 * MAX_ACCURACY_LOSS:.0f} points"
    asks = f"is clean accuracy within {points} of the claim, or of the float network's, and above chance?"
    victims = {victim.name: victim for victim in run.victims}
    claims = {a.name: a.claimed_accuracy or _float_accuracy(victims.get(a.victim)) for a in run.artifacts}
    chance = 1 / len(run.class_names) if run.class_names else None
    hints = {one.name: one.input_doubt for one in run.artifacts if one.input_doubt}
    clean = cells[(cells["attack"] == "none") & (cells["defence"] == "")]
    claimed = 0
    unclaimed: list[str] = []
    bad: list[Fault] = []
    for row, is_float in zip(clean.to_dict("records"), is_lab(clean), strict=True):
        claim = claims.get(row["artifact"])
        if is_float:
            claim = victims[row["victim"]].claimed_accuracy if row["victim"] in victims else None
        claimed += claim is not None
        at = f"{row['artifact']} on {row['target']}: {row['clean_accuracy']:.1%}"
        where = place(row["artifact"], row["target"])
        low, high = row["clean_accuracy_low"], row["clean_accuracy_high"]
        hint = hints.get(row["artifact"], "")
        if claim is not None and not low - MAX_ACCURACY_LOSS <= claim <= high + MAX_ACCURACY_LOSS:
            bad.append((f"{at}, {claim:.1%} claimed" + (f": {hint}" if hint else ""), where))
        elif chance and low <= chance:
            bad.append((f"{at}, {chance:.1%} by chance: {hint or PREPROCESSING}", where))
        elif claim is None and hint:
            bad.append((f"{at}, no claimed_accuracy: {hint}", where))
        elif claim is None and not is_float:
            unclaimed.append(row["artifact"])
    if not claimed and not bad:
        return unknown(name, asks, "not known: no claimed_accuracy" if len(clean) else "not recorded by this run")
    left_out = f"; not known of {', '.join(dict.fromkeys(unclaimed))}: no claimed_accuracy" if unclaimed else ""
    return verdict(name, asks, f"on {claimed} pairs of artifact and target{left_out}", bad)


def _float_accuracy(victim: VictimEntry | None) -> float | None:
    return victim.float_accuracy if victim and pd.notna(victim.float_accuracy) else None


def _enough(cells: pd.DataFrame) -> Check:
    name, asks = "enough images", "do the images tell whether each patch does better than noise?"
    table = cells[~cells["attack"].isin(CONTROLS)]
    gain, low, high = (_beyond_noise(table, end) for end in ("", "_low", "_high"))
    if not len(table):
        return unknown(name, asks)
    is_open = (low <= 0) & (high > WORTHWHILE)
    bad: list[Fault] = []
    for row, least, most in zip(table[is_open].to_dict("records"), low[is_open], high[is_open], strict=True):
        where = place(row["artifact"], row["target"]) | {"patch": row["patch"], "defence": row["defence"]}
        beyond = f"{100 * least:.1f} to {100 * most:.1f} points beyond noise"
        patch = f"{row['patch']} after {row['defence']}" if row["defence"] else row["patch"]
        bad.append((f"{row['artifact']} on {row['target']}, {patch}: {beyond}", where))
    # An interval's width falls with the root of the number of images, until it leaves out 0, or what is worthwhile.
    margin = np.maximum(gain, WORTHWHILE - gain)
    need = (table["n_clean"] * ((high - low) / 2 / margin) ** 2)[is_open].max()
    mend = f"; data.evaluate = {10 * math.ceil(need / 10)} would tell, if rates stay as they are" if bad else ""
    points = f"{100 * WORTHWHILE:.0f} points"
    return verdict(name, asks, f"each of {len(table)} does, or does less than {points} better", bad, mend)


def _beyond_noise(table: pd.DataFrame, end: str) -> pd.Series:
    """Return an end of each cell's success beyond noise; of its plain success where no noise was measured."""
    untargeted = table[f"untargeted_success{end}"]
    plain = table[f"targeted_success{end}"].where(table["targeted_success"].notna(), untargeted)
    beyond = table[f"targeted_excess_over_noise{end}"]
    return beyond.where(beyond.notna(), plain).astype(float)


def _copies(count: int | None, patches: Sequence[PatchEntry]) -> Check:
    name, asks = "no copies", "is no evaluation image a copy of one used to calibrate or craft?"
    if count is None:
        return unknown(name, asks)
    per_image = sum(patch.per_image for patch in patches)
    good = "none is"
    if per_image:
        good += f"; {per_image} patches were crafted on the evaluation images themselves, as per-image attacks are"
    bad: list[Fault] = [(f"{count} of the evaluation images are", {})] if count else []
    return verdict(name, asks, good, bad)


def _placed(row: Row) -> str:
    place = "" if row["placement"] == "random" else f" placed {row['placement']}"
    return f"{place} after {row['defence']}" if row["defence"] else place

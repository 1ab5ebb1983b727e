"""Spatial sensitivity: success by the place of the patch, with what the network looks at beside it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from textwrap import wrap
from typing import Any

import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from numpy.typing import NDArray
from scipy.stats import spearmanr

from backends.device.artifact import Pixels
from harness.plan.cells import Case, ReplayStep
from harness.plan.steps import ArtifactStep, PatchStep
from harness.report.svg import INK, SOFT, drawing
from harness.results.records import judge
from harness.results.stats import mean_rate
from harness.run import replays
from harness.study.lib.inputs import Figure, Inputs, Subject, is_simulated
from harness.study.lib.similarity import mean

QUESTION = "Where on the image does a patch work, and is it where the network looks?"
COLUMNS, SIDE = 4, 2.15  # figures a row; inches of one
SALIENCY = "saliency"  # stands where a target does: no target has gradients


def measure(inputs: Inputs) -> pd.DataFrame:
    """A row an artifact, target and place: ``success`` of the patches laid there on every image, with its interval.

    Targeted where the patches have a class, else untargeted; over ``n`` images a patch and ``n_patches``. Places are
    ``settings.places`` rows and columns, evenly spaced, ``row`` and ``column`` being the patch's top left pixel.
    Rows with target ``saliency`` have the mean saliency under the patch at that place instead, for artifacts that have
    gradients, with t's interval over images. ``rho`` is Spearman's correlation of an artifact's success with the
    saliency of its float network over the places.
    """
    parts = []
    for subject in inputs.subjects():
        places = grid(subject.patches[0], inputs.settings.places)
        steps = _steps(inputs, subject, places)
        replays.replays(inputs.work, [step for group in steps.values() for step in group])
        for (artifact, target), group in steps.items():
            count = partial(_success, inputs, subject, group, places)
            table = inputs.kept("places", count, steps=[step.key for step in group])
            parts.append(_named(table, subject, artifact, target))
        for artifact in filter(is_simulated, subject.artifacts):
            look = partial(_looks, inputs, subject, artifact, places)
            at = {"places": places, "px": subject.patches[0].px, "images": inputs.settings.images}
            table = inputs.kept("places", look, artifact=artifact.key, case=subject.clean.key, **at)
            parts.append(_named(table, subject, artifact, SALIENCY))
    return _correlated(pd.concat(parts, ignore_index=True)) if parts else pd.DataFrame()


def grid(case: Case, places: int) -> list[tuple[int, int]]:
    """Top left corners of ``places`` times ``places`` places, evenly spaced, whole pixels, the edges included."""
    height, width = case.data.size
    rows, columns = (np.linspace(0, size - case.px, places).round().astype(int) for size in (height, width))
    return [(int(row), int(column)) for row in dict.fromkeys(rows) for column in dict.fromkeys(columns)]


def saliency(network: torch.nn.Module, pixels: Pixels, labels: NDArray[np.int64], batch: int = 100) -> NDArray[Any]:
    """How much each pixel moves the margin of its image's label, float64 ``(n, h, w)``, each image's adding up to 1.

    The absolute gradient of the label's logit less the best other one, summed over channels (Simonyan, Vedaldi and
    Zisserman 2014, of the class score).
    """
    parts = []
    for at in range(0, len(pixels), batch):
        x = torch.tensor(pixels[at : at + batch]).permute(0, 3, 1, 2).contiguous().float() / 255
        wanted = torch.from_numpy(labels[at : at + batch])[:, None]
        logits = network(x.requires_grad_())
        others = logits.scatter(1, wanted, -math.inf).amax(dim=1)
        (gradient,) = torch.autograd.grad((logits.gather(1, wanted)[:, 0] - others).sum(), x)
        parts.append(gradient.abs().sum(dim=1).double().numpy())
    found = np.concatenate(parts)
    return np.asarray(found / np.maximum(found.sum(axis=(1, 2), keepdims=True), 1e-30))


def under(looks: NDArray[Any], places: Sequence[tuple[int, int]], px: int) -> NDArray[np.float64]:
    """The share of each image's saliency that a square of a side covers at each place, ``(n, places)``."""
    return np.stack([looks[:, r : r + px, c : c + px].sum(axis=(1, 2)) for r, c in places], axis=1)


def draw(table: pd.DataFrame) -> list[Figure]:
    """A figure a network: heat maps of success by artifact and target, each artifact's saliency beside it."""
    figures = []
    for victim, rows in table.groupby("victim", sort=False):
        maps = sorted(rows.groupby(["artifact", "target"], sort=False), key=_beside(rows))
        lines = -(-len(maps) // COLUMNS)
        top = float(rows.loc[rows["target"] != SALIENCY, "success"].max())
        with drawing(SIDE * COLUMNS + 0.4, (SIDE + 0.5) * lines + 0.1) as (figure, out):
            axes = figure.subplots(lines, COLUMNS, squeeze=False).ravel()
            for one, (_, here) in zip(axes, maps, strict=False):
                _map(one, here, str(victim), top)
            for one in axes[len(maps) :]:
                one.set_visible(False)
            height = (SIDE + 0.5) * lines + 0.1
            figure.subplots_adjust(0.03, 0.03, 0.99, 1 - 0.42 / height, wspace=0.1, hspace=0.5 / SIDE + 0.08)
        counted = rows[rows["target"] != SALIENCY]
        half = 100 * ((counted["high"] - counted["low"]) / 2).median()
        caption = (
            f"{victim}: success in percent by the place of the patch's top left corner, "
            f"{counted['n_patches'].max():.0f} patches, {counted['n'].min():.0f} to {counted['n'].max():.0f} images "
            f"each; half the 95 % interval is {half:.1f} points in the median. A ring: the best place, a cross: the "
            "worst. Saliency is the share of the absolute gradient of the margin that a patch there would cover, "
            "coloured up to its own maximum; rho is Spearman's with that of the float network, over places."
        )
        figures.append(Figure(str(victim), caption, out[0]))
    return figures


def _steps(
    inputs: Inputs, subject: Subject, places: Sequence[tuple[int, int]]
) -> dict[tuple[ArtifactStep, str], list[ReplayStep]]:
    """The replays of each artifact and target: the clean case, then each patch at each place."""
    cases = [subject.clean]
    cases += [replace(c, placement=f"{row},{col}", placement_seed=0) for c in subject.patches for row, col in places]
    pairs = {(r.artifact, r.target.name): r.target for r in inputs.work.plan.replays if r.artifact in subject.artifacts}
    return {pair: [ReplayStep(case, pair[0], target) for case in cases] for pair, target in pairs.items()}


def _success(
    inputs: Inputs, subject: Subject, steps: Sequence[ReplayStep], places: Sequence[tuple[int, int]]
) -> pd.DataFrame:
    labels = inputs.labels(subject.clean, images=1 << 40)
    offset = steps[0].artifact.brought.class_offset if steps[0].artifact.brought else 0
    preds = [judge(replays.answers(inputs.work, step), labels, offset)["pred"].to_numpy() for step in steps]
    clean, patched = preds[0], np.array(preds[1:]).reshape(len(subject.patches), len(places), len(labels))
    goals = np.array([_goal(case.patch) for case in subject.patches])
    rows = []
    for at, (row, column) in enumerate(places):
        aimed = np.where(goals[:, None] >= 0, labels != goals[:, None], True) & (clean == labels)
        hits = np.where(goals[:, None] >= 0, patched[:, at] == goals[:, None], patched[:, at] != labels)
        found = mean_rate(hits, aimed, goals)
        counts = {"n": int(aimed.sum(axis=1).min()), "n_patches": len(goals)}
        rows.append(
            {"row": row, "column": column, "success": found.value, "low": found.low, "high": found.high} | counts
        )
    return pd.DataFrame(rows)


def _goal(patch: PatchStep | None) -> int:
    return -1 if patch is None or patch.target_class is None else patch.target_class


def _looks(inputs: Inputs, subject: Subject, artifact: ArtifactStep, places: Sequence[tuple[int, int]]) -> pd.DataFrame:
    pixels, labels = inputs.pixels(subject.clean), inputs.labels(subject.clean)
    found = under(saliency(inputs.work.simulated(artifact), pixels, labels), places, subject.patches[0].px)
    rows = []
    for (row, column), shares in zip(places, found.T, strict=True):
        rate = dict(zip(("success", "low", "high"), mean(shares), strict=True))
        rows.append({"row": row, "column": column, **rate, "n": len(shares), "n_patches": 0})
    return pd.DataFrame(rows)


def _named(table: pd.DataFrame, subject: Subject, artifact: ArtifactStep, target: str) -> pd.DataFrame:
    known = {"artifact": artifact.name, "target": target, "precision": artifact.precision}
    return table.assign(victim=subject.victim.name, **known)


def _correlated(table: pd.DataFrame) -> pd.DataFrame:
    table = table.assign(rho=np.nan)
    for victim, rows in table.groupby("victim", sort=False):
        looks = rows[(rows["target"] == SALIENCY) & (rows["artifact"] == f"{victim}-torch")].set_index(
            ["row", "column"]
        )
        for (_, target), here in rows.groupby(["artifact", "target"], sort=False):
            if len(looks) and target != SALIENCY and here["success"].nunique() > 1:
                known = looks["success"].reindex(pd.MultiIndex.from_frame(here[["row", "column"]]))
                table.loc[here.index, "rho"] = spearmanr(here["success"], known.to_numpy()).statistic
    return table


def _beside(rows: pd.DataFrame) -> Callable[[tuple[Any, Any]], tuple[bool, int, bool]]:
    """What puts an artifact's saliency beside its success: those that have it first, in the order of the suite."""
    salient = set(rows.loc[rows["target"] == SALIENCY, "artifact"])
    names = list(dict.fromkeys(rows["artifact"]))
    return lambda pair: (pair[0][0] not in salient, names.index(pair[0][0]), pair[0][1] == SALIENCY)


def _map(axes: Axes, here: pd.DataFrame, victim: str, top: float) -> None:
    first = here.iloc[0]
    is_saliency = first["target"] == SALIENCY
    values = here.pivot_table(index="row", columns="column", values="success")
    limit = float(values.to_numpy().max()) if is_saliency else top
    axes.pcolormesh(values.to_numpy(), cmap="cividis", vmin=0, vmax=limit, edgecolors="white", linewidth=0.4)
    for (i, j), value in np.ndenumerate(values.to_numpy()):
        colour = "white" if value < 0.55 * limit else "black"
        axes.text(j + 0.5, i + 0.5, f"{100 * value:.0f}", ha="center", va="center", color=colour, fontsize=7)
    if not is_saliency and np.ptp(values.to_numpy()):
        for marker, at in (("o", values.to_numpy().argmax()), ("x", values.to_numpy().argmin())):
            row, column = np.unravel_index(at, values.shape)
            axes.plot(column + 0.82, row + 0.2, marker, mfc="none", mec="#d55e00", ms=5, mew=1.3)
    axes.set_ylim(len(values), 0)
    axes.set_aspect("equal")
    axes.set_xticks([])
    axes.set_yticks([])
    rho = "" if np.isnan(first["rho"]) else f", rho {first['rho']:.2f}"
    name = str(first["artifact"]).removeprefix(f"{victim}-")
    axes.set_title("\n".join(wrap(name, 30)[:2]), loc="left", fontsize=8, color=INK, pad=12)
    axes.text(0, 1.03, f"{first['target']}{rho}", transform=axes.transAxes, fontsize=7.5, color=SOFT)
    for side in axes.spines.values():
        side.set_visible(False)

"""Spatial sensitivity: success by the place of the patch, beside the network's saliency there."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from textwrap import wrap

import numpy as np
import pandas as pd
from markupsafe import Markup
from matplotlib.axes import Axes
from numpy.typing import NDArray
from scipy.stats import spearmanr
from torch import Tensor, nn

from backends.device.artifact import Pixels
from harness.plan.cells import Case, ReplayStep
from harness.plan.steps import ArtifactStep
from harness.report.svg import INK, PAPER, SOFT, drawing
from harness.results.records import judge
from harness.results.stats import mean_rate
from harness.run import replays
from harness.study.lib.estimates import mean
from harness.study.lib.inputs import Figure, Inputs, Subject, is_simulated
from harness.study.lib.pixel_gradients import pixel_gradients
from harness.study.lib.success import count, goal

QUESTION = "Where on the image does a patch work, and is it where the network looks?"
ACROSS = 4  # maps per row of a figure
SIDE = 2.15  # inches of a map
TITLE = 0.5  # inches above a map
SALIENCY = "saliency"  # in place of a target, which has no gradients
EVERY = 1 << 40  # images

Places = Sequence[tuple[int, int]]  # row and column of the patch's top left pixel
COLUMNS = ("row", "column", "success", "low", "high", "n", "n_patches")


def measure(inputs: Inputs) -> pd.DataFrame:
    """Return one row per artifact, target and place: ``success`` of the patches there, with its interval.

    It is targeted where the patches have a class, else untargeted, over ``n`` images per patch and ``n_patches``.
    ``settings.places`` is the number of rows and of columns of places, evenly spaced; ``row`` and ``column`` are those
    of the patch's top left pixel. Rows with target ``saliency`` have the mean saliency under the patch instead, with a
    t interval over images, for artifacts that have gradients. ``rho`` is Spearman's correlation over places between an
    artifact's success and the saliency of its float network.
    """
    parts = []
    for subject in inputs.subjects():
        places = grid(subject.patches[0], inputs.settings.places)
        steps = _steps(inputs, subject, places)
        replays.replays(inputs.work, [step for group in steps.values() for step in group])
        for (artifact, target), group in steps.items():
            compute = partial(_success, inputs, subject, group, places)
            table = inputs.cached("places", compute, steps=[step.key for step in group])
            parts.append(_with_names(table, subject, artifact, target))
        for artifact in filter(is_simulated, subject.artifacts):
            table = inputs.cached(
                "places",
                partial(_saliency_under_patches, inputs, subject, artifact, places),
                artifact=artifact.key,
                case=subject.clean.key,
                places=places,
                px=subject.patches[0].px,
                images=inputs.settings.images,
            )
            parts.append(_with_names(table, subject, artifact, SALIENCY))
    return _with_rho(pd.concat(parts, ignore_index=True)) if parts else pd.DataFrame()


def grid(case: Case, places: int) -> list[tuple[int, int]]:
    """Return the top left corners of ``places`` times ``places`` places, evenly spaced from edge to edge."""
    height, width = case.data.size
    rows = np.linspace(0, height - case.px, places).round().astype(int)
    columns = np.linspace(0, width - case.px, places).round().astype(int)
    return [(int(row), int(column)) for row in dict.fromkeys(rows) for column in dict.fromkeys(columns)]


def saliency(network: nn.Module, pixels: Pixels, labels: NDArray[np.int64], batch: int = 100) -> NDArray[np.float64]:
    """Return how much each pixel moves the margin of its image's label, float64 ``(n, h, w)``; an image's sum is 1.

    The absolute gradient of the label's logit less the best other one, summed over channels (Simonyan, Vedaldi and
    Zisserman 2014, who use the class score).
    """
    gradients = pixel_gradients(network, pixels, labels, _margins, batch)
    found = gradients.abs().sum(dim=1).double().numpy()
    return np.asarray(found / np.maximum(found.sum(axis=(1, 2), keepdims=True), 1e-30))


def _margins(logits: Tensor, labels: Tensor) -> Tensor:
    wanted = labels[:, None]
    others = logits.scatter(1, wanted, -math.inf).amax(dim=1)
    return logits.gather(1, wanted)[:, 0] - others


def under(salient: NDArray[np.float64], places: Places, px: int) -> NDArray[np.float64]:
    """Return the share of each image's saliency that a square of ``px`` covers at each place, ``(n, places)``."""
    squares = [salient[:, row : row + px, column : column + px] for row, column in places]
    return np.stack([square.sum(axis=(1, 2)) for square in squares], axis=1)


def _steps(inputs: Inputs, subject: Subject, places: Places) -> dict[tuple[ArtifactStep, str], list[ReplayStep]]:
    """Return the replays of each artifact and target: the clean case, then each patch at each place."""
    cases = [subject.clean]
    for case in subject.patches:
        cases += [replace(case, placement=f"{row},{column}", placement_seed=0) for row, column in places]
    steps = {}
    for replay in inputs.work.plan.replays:
        if replay.artifact in subject.artifacts:
            pair = (replay.artifact, replay.target.name)
            steps[pair] = [ReplayStep(case, replay.artifact, replay.target) for case in cases]
    return steps


def _success(inputs: Inputs, subject: Subject, steps: Sequence[ReplayStep], places: Places) -> pd.DataFrame:
    labels = inputs.labels(subject.clean, images=EVERY)
    brought = steps[0].artifact.brought
    offset = brought.class_offset if brought else 0
    predictions = [judge(replays.answers(inputs.work, step), labels, offset)["pred"].to_numpy() for step in steps]
    clean = predictions[0]
    patched = np.array(predictions[1:]).reshape(len(subject.patches), len(places), len(labels))
    goals = np.array([goal(case) for case in subject.patches])
    rows = []
    for at, (row, column) in enumerate(places):
        hits, among = count(labels, clean, patched[:, at], goals)
        rate = mean_rate(hits, among, goals)
        fewest = int(among.sum(axis=1).min())
        rows.append((row, column, rate.value, rate.low, rate.high, fewest, len(goals)))
    return pd.DataFrame(rows, columns=COLUMNS)


def _saliency_under_patches(inputs: Inputs, subject: Subject, artifact: ArtifactStep, places: Places) -> pd.DataFrame:
    salient = saliency(inputs.work.simulated(artifact), inputs.pixels(subject.clean), inputs.labels(subject.clean))
    covered = under(salient, places, subject.patches[0].px)
    rows = [(*place, *mean(shares), len(shares), 0) for place, shares in zip(places, covered.T, strict=True)]
    return pd.DataFrame(rows, columns=COLUMNS)


def _with_names(table: pd.DataFrame, subject: Subject, artifact: ArtifactStep, target: str) -> pd.DataFrame:
    return table.assign(victim=subject.victim.name, artifact=artifact.name, target=target, precision=artifact.precision)


def _with_rho(table: pd.DataFrame) -> pd.DataFrame:
    """Add the correlation over places with the saliency of the float network."""
    table = table.assign(rho=np.nan)
    for victim, rows in table.groupby("victim", sort=False):
        is_saliency = rows["target"] == SALIENCY
        salient = rows[is_saliency & (rows["artifact"] == f"{victim}-torch")].set_index(["row", "column"])["success"]
        for _, here in rows[~is_saliency].groupby(["artifact", "target"], sort=False):
            if len(salient) and here["success"].nunique() > 1:
                there = salient.reindex(pd.MultiIndex.from_frame(here[["row", "column"]]))
                table.loc[here.index, "rho"] = spearmanr(here["success"], there.to_numpy()).statistic
    return table


def draw(table: pd.DataFrame) -> list[Figure]:
    """Draw one figure per network: maps of success by artifact and target, each beside the artifact's saliency."""
    figures = []
    for victim, rows in table.groupby("victim", sort=False):
        counted = rows[rows["target"] != SALIENCY]
        half = 100 * ((counted["high"] - counted["low"]) / 2).median()
        caption = (
            f"{victim}: success in percent by the place of the patch's top left corner, "
            f"{counted['n_patches'].max():.0f} patches, {counted['n'].min():.0f} to {counted['n'].max():.0f} images "
            f"each; the median 95 % interval is ± {half:.1f} points. A ring marks the best place, a cross the worst. "
            "Saliency is the share of the absolute gradient of the margin that a patch there would cover, coloured up "
            "to its own maximum; rho is Spearman's, over places, with that of the float network."
        )
        figures.append(Figure(str(victim), caption, _maps(str(victim), rows, float(counted["success"].max()))))
    return figures


def _maps(victim: str, rows: pd.DataFrame, top: float) -> Markup:
    maps = _in_order(rows)
    lines = -(-len(maps) // ACROSS)
    height = (SIDE + TITLE) * lines + 0.1
    with drawing(SIDE * ACROSS + 0.4, height) as (figure, out):
        panels = figure.subplots(lines, ACROSS, squeeze=False).ravel()
        for axes, here in zip(panels, maps, strict=False):
            _map(axes, here, victim, top)
        for axes in panels[len(maps) :]:
            axes.set_visible(False)
        figure.subplots_adjust(0.03, 0.03, 0.99, 1 - 0.42 / height, wspace=0.1, hspace=TITLE / SIDE + 0.08)
    return out[0]


def _in_order(rows: pd.DataFrame) -> list[pd.DataFrame]:
    """Return the rows of each map: artifacts with a saliency first, which follows the maps of their success."""
    salient = set(rows.loc[rows["target"] == SALIENCY, "artifact"])
    artifacts = list(dict.fromkeys(rows["artifact"]))
    maps = [part for _, part in rows.groupby(["artifact", "target"], sort=False)]

    def rank(part: pd.DataFrame) -> tuple[bool, int, bool]:
        artifact, target = part[["artifact", "target"]].iloc[0]
        return artifact not in salient, artifacts.index(artifact), target == SALIENCY

    return sorted(maps, key=rank)


def _map(axes: Axes, here: pd.DataFrame, victim: str, top: float) -> None:
    first = here.iloc[0]
    values = here.pivot_table(index="row", columns="column", values="success").to_numpy()
    is_saliency = first["target"] == SALIENCY
    limit = float(values.max()) if is_saliency else top
    axes.pcolormesh(values, cmap="cividis", vmin=0, vmax=limit, edgecolors=PAPER, linewidth=0.4)
    for (i, j), value in np.ndenumerate(values):
        colour = "white" if value < 0.55 * limit else "black"
        axes.text(j + 0.5, i + 0.5, f"{100 * value:.0f}", ha="center", va="center", color=colour, fontsize=7)
    if not is_saliency and np.ptp(values):
        for marker, at in (("o", values.argmax()), ("x", values.argmin())):
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
    axes.spines[:].set_visible(False)

"""Feature persistence: activations with and without the patch, float and quantized, compared layer by layer.

The float network and its simulations are watched in torch. A file is cut at the layer and replayed, so that the
comparison is of what its device computes.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from backends.device.errors import UserError
from harness.plan.cells import Case, ReplayStep
from harness.plan.steps import ArtifactStep
from harness.report.svg import COLOURS, MARKERS, WIDTH, drawing, legend, legend_lines, percent_axis, ticks
from harness.run.stages import trained
from harness.study.lib import readings
from harness.study.lib.estimates import mean
from harness.study.lib.inputs import Figure, Inputs, Subject, is_simulated
from harness.study.lib.layers import Layer, choose
from harness.study.lib.readings import DeviceReader, Reading, Readings
from harness.study.lib.similarity import cka, cosines, gram, relative_norms
from harness.study.lib.tables import where, with_columns, with_interval
from patches.fake_quant.graph import describe
from patches.fake_quant.network import folded

QUESTION = "Do features persist through quantization, with the patch and without, and where does the patch enter them?"
PATCHES = 4  # the first of the suite
LEAST_COSINE = 0.9  # between a file and its own simulation; below it the tensors are not the same
LINES = 6  # artifacts per figure, one per colour


class Panel(NamedTuple):
    """One panel of a figure: the comparison and the measure that it draws, and its title."""

    comparison: str
    measure: str
    title: str


PANELS = (
    Panel("patch", "cka", "Patched against clean: CKA"),
    Panel("patch", "relative_norm", "The patch's contribution: relative norm"),
    Panel("quantization, patched", "cka", "Against float, both patched: CKA"),
    Panel("patch", "saturated", "Patched: saturated activations, %"),
)
COLUMNS = (
    *("patch", "target_class", "layer", "layer_name", "comparison"),
    *with_interval("cka", "cosine", "relative_norm"),
    *("saturated", "n", "saturated_clean"),
)
Read = Callable[[Case], Readings]


def measure(inputs: Inputs) -> pd.DataFrame:
    """Return one row per artifact, patch, layer and comparison, ``n`` images each; ``error`` where a target failed.

    ``comparison`` is "patch" (patched against clean, on that artifact), "quantization" (it against the float network,
    both clean) or "quantization, patched". ``cka``, ``cosine`` (mean over images) and ``relative_norm`` (of the
    difference, mean over images) have 95 % intervals over images, by jackknife and t. ``saturated`` is the share of
    activations at an end of the levels that is not zero, in the first of the two, ``saturated_clean`` on clean images.
    """
    parts = [_of_artifact(inputs, subject, step) for subject in inputs.subjects() for step in subject.artifacts]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()


def _of_artifact(inputs: Inputs, subject: Subject, step: ArtifactStep) -> pd.DataFrame:
    """Compare one artifact on its first target."""
    cases = (subject.clean, *subject.patches[:PATCHES])
    replay = next(r for r in inputs.work.plan.replays if r.artifact == step and r.case in cases)
    keys = [ReplayStep(case, step, replay.target).key for case in cases]
    compare = partial(_compared, inputs, subject, replay)
    try:
        table = inputs.cached("features", compare, asked=keys, images=inputs.settings.images)
    except UserError as error:
        table = pd.DataFrame({"error": [str(error)]})
    return with_columns(
        table, victim=subject.victim.name, artifact=step.name, precision=step.precision, target=replay.target.name
    )


def _compared(inputs: Inputs, subject: Subject, replay: ReplayStep) -> pd.DataFrame:
    work, step = inputs.work, replay.artifact
    graph = folded(work.network(subject.victim))
    described = describe(graph)
    layers = choose(described)

    def of_float(case: Case) -> Readings:
        return readings.of_torch(graph, layers, described, inputs.pixels(case))[0]

    def of_simulation(case: Case) -> Readings:
        return readings.of_torch(work.simulated(step), layers, described, inputs.pixels(case))[0]  # type: ignore[arg-type]

    if is_simulated(step):
        if step.quant is None:
            return _table(layers, subject, of_float, None)
        return _table(layers, subject, of_simulation, of_float)
    own = describe(folded(graph, trained(work, step.training))) if step.training else described
    _, shapes = readings.of_torch(graph, layers, described, inputs.pixels(subject.clean, 1))
    reader = DeviceReader(work, step, replay.target, layers, own, shapes, inputs.settings.images)
    answers = reader.read([subject.clean, *subject.patches[:PATCHES]])
    simulation = of_float if step.quant is None else of_simulation
    _require_same(step, layers, answers[subject.clean], simulation(subject.clean))
    return _table(layers, subject, answers.__getitem__, of_float)


def _require_same(step: ArtifactStep, layers: list[Layer], device: Readings, simulation: Readings) -> None:
    """Raise a `UserError` where a device's activations are not those of the tensor that was meant."""
    for layer in layers:
        cosine = np.nanmean(cosines(device[layer.name].values, simulation[layer.name].values))
        if not cosine >= LEAST_COSINE:
            raise UserError(
                f"{step.name}, {layer.name}: its activations differ from the simulation's (cosine {cosine:.2f})"
            )


def _table(layers: list[Layer], subject: Subject, read: Read, of_float: Read | None) -> pd.DataFrame:
    """Compare an artifact's readings with its clean ones and, unless it is the float network, with float's."""
    clean = read(subject.clean)
    rows = []
    for case in (subject.clean, *subject.patches[:PATCHES]):
        here = read(case)
        others = {}
        if case.patch:
            others["patch"] = clean
        if of_float:
            others["quantization, patched" if case.patch else "quantization"] = of_float(case)
        for depth, layer in enumerate(layers):
            for comparison, other in others.items():
                measures = _compare(here[layer.name], other[layer.name])
                target_class = case.patch.target_class if case.patch else None
                about = (case.name, target_class, depth, layer.name, comparison)
                rows.append((*about, *measures, clean[layer.name].saturated))
    return pd.DataFrame(rows, columns=COLUMNS)


def _compare(a: Reading, b: Reading) -> tuple[float, ...]:
    """Return CKA, cosine and relative norm with their intervals, the saturated share of ``a``, and ``n``."""
    x = a.values
    y = b.values
    measures = (cka(gram(x), gram(y)), mean(cosines(x, y)), mean(relative_norms(x, y)))
    return *(number for measure in measures for number in measure), a.saturated, len(x)


def draw(table: pd.DataFrame) -> list[Figure]:
    """Draw one figure per victim, or more where it has more than `LINES` artifacts."""
    figures = []
    good = table[table["error"].isna()] if "error" in table else table
    for victim, here in good.groupby("victim", sort=False):
        lines = list(dict.fromkeys(zip(here["artifact"], here["target"], strict=True)))
        for start in range(0, len(lines), LINES):
            part = f"-{start // LINES + 1}" if len(lines) > LINES else ""
            figures.append(_figure(str(victim), part, here, lines[start : start + LINES]))
    return figures


def _figure(victim: str, part: str, here: pd.DataFrame, lines: list[tuple[str, str]]) -> Figure:
    labels = [f"{artifact} on {target}" for artifact, target in lines]
    layers = here.drop_duplicates("layer").sort_values("layer")["layer_name"]
    names = [str(name).removeprefix("into ") for name in layers]
    legend_rows = legend_lines(labels)
    height = 6.3 + 0.18 * legend_rows
    with drawing(WIDTH, height) as (figure, out):
        grid = figure.subplots(2, 2, sharex=True)
        for axes, panel in zip(grid.ravel(), PANELS, strict=True):
            for i, (artifact, target) in enumerate(lines):
                rows = where(here, artifact=artifact, target=target, comparison=panel.comparison)
                aside = 0.09 * (i - (len(lines) - 1) / 2)  # most artifacts lie on each other
                _line(axes, rows, panel.measure, i, aside, labels[i])
            _scale(axes, panel)
        for axes in grid[1]:
            ticks(axes, "x", names, 26, rotation=40, ha="right")
            axes.set_xlabel("the layer that the activations go into")
        legend(figure, grid[0, 0])
        top = 1 - (0.35 + 0.18 * legend_rows) / height
        figure.subplots_adjust(0.07, 1.25 / height, 0.99, top, wspace=0.1, hspace=0.2)
    patches = where(here, comparison="patch")["patch"].nunique()
    caption = (
        f"{victim}, layer by layer, on the same {here['n'].max():.0f} images with "
        f"{patches} patch{'' if patches == 1 else 'es'}. Points are means over patches, and so are the ends of the "
        "lines and bands, 95 % intervals over images (jackknife for CKA, t for norms). Files were cut at each layer "
        "and replayed on the target. Saturated: at an end of the levels that is not zero."
    )
    return Figure(f"{victim}{part}", caption, out[0])


def _scale(axes: Axes, panel: Panel) -> None:
    axes.set_title(panel.title, loc="left")
    least, most = axes.dataLim.intervaly
    if panel.measure == "saturated":
        percent_axis(axes, "y", max(most, 0.01), "")
        return
    if panel.measure == "cka":
        axes.set_ylim(np.floor(9.9 * least) / 10, 1.02)
    else:
        axes.set_ylim(0, 1.05 * most)
    axes.grid(axis="y")


def _line(axes: Axes, rows: pd.DataFrame, measure: str, i: int, aside: float, label: str) -> None:
    """Draw one artifact's means over patches, with their intervals."""
    ends: list[Any] = [column for column in (f"{measure}_low", f"{measure}_high") if column in rows]
    means = rows.groupby("layer")[[measure, *ends]].mean()
    if means[measure].isna().all():
        return
    x = means.index.to_numpy() + aside
    axes.plot(x, means[measure], color=COLOURS[i], marker=MARKERS[i], ms=4.5, lw=1.1, alpha=0.9, label=label)
    if ends:
        low, high = (means[end] for end in ends)
        axes.vlines(x, low, high, color=COLOURS[i], lw=1.4)
        axes.fill_between(x, low, high, color=COLOURS[i], alpha=0.1, lw=0)

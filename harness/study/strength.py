"""Quantization strength: the range of activations and the step between their levels, each varied alone."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache, partial

import numpy as np
import pandas as pd
from markupsafe import Markup
from matplotlib.axes import Axes
from numpy.typing import NDArray
from torch import nn

from backends.device.artifact import QuantSpec
from exporters.calibration import Range
from exporters.files.description import Description
from exporters.ranges import sources
from harness.networks.victims import logits
from harness.plan.cells import Case
from harness.plan.steps import ArtifactStep
from harness.report.svg import COLOURS, INK, MARKERS, covering, drawing, legend, percent_axis
from harness.results.stats import mean_rate, wilson
from harness.results.success import top1
from harness.run import stages
from harness.study.lib.inputs import Figure, Inputs, Subject, is_simulated
from harness.study.lib.labels import between, calibration
from harness.study.lib.layers import from_pixels
from harness.study.lib.success import count, goal, of_case
from harness.study.lib.tables import where, with_columns, with_interval
from patches.fake_quant.network import Calibrated, Grid, calibrated, grids_of, on_grids

QUESTION = "What costs a patch its success, levels too far apart or a range too narrow?"
GRID = "grid"
FILE = "file"
ALL = "all"  # in place of a patch: the mean over patches
RATES = ("success", "clean_accuracy")
COLUMNS = ("patch", *with_interval("success"), "n", "n_clean", *with_interval("clean_accuracy"))


def measure(inputs: Inputs) -> pd.DataFrame:
    """Return one row per grid (``kind`` grid) or INT8 file (``kind`` file) and patch, and one for `ALL` patches.

    A grid leaves the share ``clip`` of each activation's minmax range, in steps that divide the whole range into
    ``levels`` levels: a narrower range has fewer levels of the same step. Weights have 8 bits, and so have pixels and
    logits in their whole range. A file's ``clip`` is the mean width of its ranges as a share of minmax's. Rates are
    over all evaluation images: ``clean_accuracy``, and ``success`` of patches made on float, over the ``n`` images that
    this very network classifies correctly without the patch and that are not of the target class.
    """
    tables = []
    for subject in inputs.subjects():
        tables += [*_of_grids(inputs, subject), *_of_files(inputs, subject)]
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()


def _of_grids(inputs: Inputs, subject: Subject) -> list[pd.DataFrame]:
    settings = [(clip, levels) for levels in inputs.settings.levels for clip in inputs.settings.clips]
    spec = QuantSpec(calibration_images=inputs.work.plan.suite.data.calibration)

    @cache
    def known() -> Calibrated:
        source = stages.source(inputs.work, subject.artifacts[0])
        return calibrated(source.network, spec, source.pixels)

    def compute(clip: float, levels: int) -> pd.DataFrame:
        network = on_grids(known(), narrowed(known(), clip, levels, spec), spec)
        return _of_network(inputs, subject, network)

    tables = []
    with inputs.work.display.doing("round", f"{subject.victim.name} to {len(settings)} grids") as tick:
        for done, (clip, levels) in enumerate(settings):
            tick(done, len(settings), f"{levels} levels, {clip:g} of the range")
            table = inputs.cached(
                "strength",
                partial(compute, clip, levels),
                victim=subject.victim.key,
                clip=clip,
                levels=levels,
                cases=[case.key for case in (subject.clean, *subject.patches)],
            )
            tables.append(with_columns(table, victim=subject.victim.name, kind=GRID, clip=clip, levels=levels))
    return tables


def narrowed(known: Calibrated, clip: float, levels: int, spec: QuantSpec) -> dict[str, Grid]:
    """Return a network's grids with the inner activations' range and step changed; 1 and 256 are those of 8 bits."""
    grids = grids_of(known.described, known.ranges, spec)
    changed = [name for name in inner(known.described) if name in grids]
    return grids | {name: narrow(known.ranges[name], clip, levels) for name in changed}


def narrow(span: Range, clip: float, levels: int) -> Grid:
    """Return the share ``clip`` of a range, in steps that divide the whole of it into ``levels`` levels."""
    least = min(span[0], 0.0)
    most = max(span[1], 0.0)
    step = (most - least) / (levels - 1)
    low = round(clip * least / step)
    return Grid(step, low, low + round(clip * (levels - 1)))


def inner(network: Description) -> list[str]:
    """Return the activations after the first layer and before the logits, in order."""
    first = from_pixels(network)
    source = sources(network)
    logits = {source[tensor.name] for tensor in network.outputs}
    names = [tensor.name for operator in network.operators for tensor in operator.outputs]
    return [name for name in names if name not in first and source[name] not in logits]


def _of_network(inputs: Inputs, subject: Subject, network: nn.Module) -> pd.DataFrame:
    """Return a network's rates on all evaluation images."""
    images = inputs.work.plan.suite.data.evaluate

    def predict(case: Case) -> NDArray[np.int64]:
        return top1(logits(network, inputs.pixels(case, images)))

    predictions = {case: predict(case) for case in subject.patches}
    return rates(inputs.labels(subject.clean, images), predict(subject.clean), predictions)


def rates(
    labels: NDArray[np.int64], clean: NDArray[np.int64], predictions: Mapping[Case, NDArray[np.int64]]
) -> pd.DataFrame:
    """Return the rates of predictions without a patch and with each patch: one row per patch, and `ALL`."""
    right = clean == labels
    accuracy = (float(right.mean()), *map(float, wilson(right.sum(), len(right))))
    goals = np.array([goal(case) for case in predictions])
    hits, among = count(labels, clean, np.array(list(predictions.values())), goals)
    hits = hits & among
    rows = []
    for case, own_hits, own_among in zip(predictions, hits, among, strict=True):
        assert case.patch is not None
        n = int(own_among.sum())
        low, high = wilson(own_hits.sum(), n)
        success = own_hits.sum() / n if n else np.nan
        rows.append((case.patch.name, float(success), float(low), float(high), n, len(labels), *accuracy))
    mean = mean_rate(hits, among, goals)
    rows.append((ALL, mean.value, mean.low, mean.high, int(among.sum()), len(labels), *accuracy))
    return pd.DataFrame(rows, columns=COLUMNS)


def _of_files(inputs: Inputs, subject: Subject) -> list[pd.DataFrame]:
    """Return the rates that the run counted on the suite's INT8 files, with the width of their ranges."""
    case = subject.patches[0]
    patch = case.patch
    assert patch is not None
    tables = []
    for artifact in subject.artifacts:
        if is_simulated(artifact) or artifact.quant is None or artifact.precision != "w8a8":
            continue
        width = inputs.cached("strength", partial(_width, inputs, artifact), artifact=artifact.key)
        counted = where(of_case(inputs.over_patches, case), artifact=artifact.name, surrogate="float")
        kind = "untargeted" if patch.target_class is None else "targeted"
        renamed = zip(with_interval(f"{kind}_success"), with_interval("success"), strict=True)
        counted = counted.rename(columns=dict(renamed) | {f"n_{kind}": "n"}).assign(
            victim=subject.victim.name,
            kind=FILE,
            clip=width["clip"].iloc[0],
            patch=ALL,
            calibration=calibration(artifact.quant),
        )
        tables.append(counted[["victim", "kind", "clip", *COLUMNS, "artifact", "target", "calibration"]])
    return [table for table in tables if len(table)]


def _width(inputs: Inputs, artifact: ArtifactStep) -> pd.DataFrame:
    """Return the mean width of a file's ranges as a share of minmax's, by its specification."""
    source = stages.source(inputs.work, artifact)
    minmax = QuantSpec(calibration_images=source.quant.calibration_images)
    own = calibrated(source.network, source.quant, source.pixels)
    whole = calibrated(source.network, minmax, source.pixels)
    own_grids = grids_of(own.described, own.ranges, QuantSpec())
    whole_grids = grids_of(whole.described, whole.ranges, QuantSpec())
    names = [name for name in inner(whole.described) if name in whole_grids]
    return pd.DataFrame({"clip": [float(np.mean([own_grids[name].step / whole_grids[name].step for name in names]))]})


def draw(table: pd.DataFrame) -> list[Figure]:
    """Draw one figure per network: success and clean accuracy against the share of the range that is left."""
    figures = []
    for victim, rows in table.groupby("victim", sort=False):
        means = where(rows, patch=ALL)
        patches = rows[rows["patch"] != ALL]
        names = patches["patch"].nunique()
        caption = (
            f"{victim}: activations in a share of their minmax range (across), in steps that divide the whole range "
            "into so many levels (colours), in simulation, with weights of 8 bits. Left, the mean success of "
            f"{names} patch{'' if names == 1 else 'es'} made on float, {between(patches['n'])} images each; right, "
            f"clean accuracy over {means['n_clean'].max():.0f} images; lines over marks are 95 % intervals."
        )
        if (means["kind"] == FILE).any():
            caption += (
                " Black: INT8 files on their runtimes, at the mean width of their ranges, each a little to the right "
                "of the one before."
            )
        figures.append(Figure(str(victim), caption, _panels(means)))
    return figures


def _panels(means: pd.DataFrame) -> Markup:
    grids = where(means, kind=GRID)
    files = where(means, kind=FILE)
    with drawing(9.6, 3.9) as (figure, out):
        left, right = figure.subplots(1, 2, sharex=True)
        for axes, rate in zip((left, right), RATES, strict=True):
            for i, (levels, rows) in enumerate(grids.groupby("levels", sort=False)):
                _marks(axes, rows, rate, COLOURS[i % 6], MARKERS[i % 6], "-", f"{levels:.0f} levels")
            if len(files):
                for i, (name, rows) in enumerate(files.groupby("calibration", sort=False)):
                    rows = rows.assign(clip=rows["clip"] + 0.004 * i)
                    _marks(axes, rows, rate, INK, "D*<>Hp"[i % 6], "none", f"INT8, {name}")
            percent_axis(axes, "x", max(1.0, float(means["clip"].max())), "share of the calibrated range, %")
        percent_axis(left, "y", covering(means["success_high"]), "success, %")
        percent_axis(right, "y", 1.0, "clean accuracy, %")
        legend(figure, left)
        lines = -(-len(left.get_legend_handles_labels()[1]) // 4)
        figure.subplots_adjust(0.065, 0.13, 0.99, 0.94 - 0.055 * lines, wspace=0.16)
    return out[0]


def _marks(axes: Axes, rows: pd.DataFrame, rate: str, colour: str, marker: str, line: str, label: str) -> None:
    rows = rows.sort_values("clip")
    axes.vlines(rows["clip"], rows[f"{rate}_low"], rows[f"{rate}_high"], color=colour, lw=1)
    axes.plot(rows["clip"], rows[rate], ls=line, marker=marker, color=colour, ms=5, lw=1.4, label=label)

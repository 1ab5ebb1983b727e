"""Quantization strength: the range of activations and the step between their levels, each varied by itself."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache, partial
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup
from matplotlib.axes import Axes
from numpy.typing import NDArray
from torch import nn

from backends.device.artifact import QuantSpec
from exporters.calibration import Range
from exporters.files.description import Description
from exporters.ranges import WEIGHTED, sources
from harness.networks.victims import logits
from harness.plan.cells import Case
from harness.plan.steps import ArtifactStep
from harness.report.svg import COLOURS, INK, MARKERS, drawing, legend, percent_axis
from harness.results.stats import mean_rate, wilson
from harness.run import stages
from harness.study.lib.inputs import Figure, Inputs, Subject, is_simulated
from harness.study.lib.words import between
from harness.study.saturation import words
from patches.fake_quant.network import Calibrated, Grid, calibrated, grids_of, on_grids

QUESTION = "What costs a patch its success, levels too far apart or a range too narrow?"
GRID, FILE = "grid", "file"
ALL = "all"  # stands where a patch does: the mean over patches
ENDS = ("", "_low", "_high")


def measure(inputs: Inputs) -> pd.DataFrame:
    """A row a grid (``kind`` grid) or INT8 file (``kind`` file) and patch, and one for `ALL` patches.

    A grid leaves the share ``clip`` of each activation's minmax range, in steps of which the whole range has
    ``levels`` less one: a narrower range has fewer levels of the same step. Weights have 8 bits, as have pixels and
    logits in their whole range. Of a file ``clip`` is the mean share of the minmax ranges that its own have. The rates
    are over all evaluation images: ``clean_accuracy``, and ``success`` of patches made on float, over the ``n`` images
    that this very network classifies correctly without the patch and that are not of the target class.
    """
    rows: list[dict[str, Any]] = []
    for subject in inputs.subjects():
        rows += _of_grids(inputs, subject) + _of_files(inputs, subject)
    return pd.DataFrame(rows)


def _of_grids(inputs: Inputs, subject: Subject) -> list[dict[Any, Any]]:
    grids = [(clip, levels) for levels in inputs.settings.levels for clip in inputs.settings.clips]
    spec = QuantSpec(calibration_images=inputs.work.plan.suite.data.calibration)

    @cache
    def known() -> Calibrated:
        made = stages.source(inputs.work, subject.artifacts[0])
        return calibrated(made.network, spec, made.pixels)

    def rounded(clip: float, levels: int) -> pd.DataFrame:
        network = on_grids(known(), narrowed(known(), clip, levels, spec), spec)
        return _of_network(inputs, subject, network)

    rows: list[dict[Any, Any]] = []
    with inputs.work.display.doing("round", f"{subject.victim.name} to {len(grids)} grids") as tick:
        for i, (clip, levels) in enumerate(grids):
            tick(i, len(grids), f"{levels} levels, {clip:g} of the range")
            found = inputs.kept(
                "strength", partial(rounded, clip, levels), victim=subject.victim.key, clip=clip, levels=levels,
                cases=[c.key for c in (subject.clean, *subject.patches)],
            )  # fmt: skip
            about = {"victim": subject.victim.name, "kind": GRID, "clip": clip, "levels": levels}
            rows += [about | row for row in found.to_dict("records")]
    return rows


def narrowed(known: Calibrated, clip: float, levels: int, spec: QuantSpec) -> dict[str, Grid]:
    """The grids of a network with the inner activations' range and step changed; with 1 and 256 those of 8 bits."""
    changed = inner(known.described)
    found = grids_of(known.described, known.ranges, spec)
    return found | {name: narrow(known.ranges[name], clip, levels) for name in changed if name in found}


def narrow(span: Range, clip: float, levels: int) -> Grid:
    """``clip`` of a range, in the steps of which the whole of it has ``levels`` less one."""
    least, most = min(span[0], 0.0), max(span[1], 0.0)
    step = (most - least) / (levels - 1)
    low = round(clip * least / step)
    return Grid(step, low, low + round(clip * (levels - 1)))


def inner(network: Description) -> list[str]:
    """The activations behind the first layer and before the logits, in order."""
    pixels, found = {t.name for t in network.inputs}, []
    for operator in network.operators:
        taken = {t.name for t in operator.inputs if t.values is None}
        if operator.name not in WEIGHTED and taken <= pixels:
            pixels |= {t.name for t in operator.outputs}
        else:
            found += [t.name for t in operator.outputs]
    source = sources(network)
    ends = {source[t.name] for t in network.outputs}
    return [name for name in found if source[name] not in ends]


def _of_network(inputs: Inputs, subject: Subject, network: nn.Module) -> pd.DataFrame:
    """The rates of a network on all evaluation images: a row a patch, and their mean."""
    every = inputs.work.plan.suite.data.evaluate
    labels = inputs.labels(subject.clean, every)
    clean = logits(network, inputs.pixels(subject.clean, every)).argmax(axis=1)
    answers = {c: logits(network, inputs.pixels(c, every)).argmax(axis=1) for c in subject.patches}
    return rates(labels, clean, answers)


def rates(
    labels: NDArray[np.int64], clean: NDArray[np.int64], answers: Mapping[Case, NDArray[np.int64]]
) -> pd.DataFrame:
    """Clean accuracy and success of answers to images without and with patches: a row a patch, and `ALL`."""
    right = clean == labels
    accuracy = dict(zip(ENDS, (right.mean(), *wilson(right.sum(), len(right))), strict=True))
    hits, among, rows = [], [], []
    goals = [
        -1 if case.patch is None or case.patch.target_class is None else case.patch.target_class for case in answers
    ]
    for (case, preds), goal in zip(answers.items(), goals, strict=True):
        among.append(right & (labels != goal))
        hits.append(among[-1] & ((preds == goal) if goal >= 0 else (preds != labels)))
        n = int(among[-1].sum())
        low, high = wilson(hits[-1].sum(), n)
        assert case.patch is not None
        success = hits[-1].sum() / n if n else np.nan
        rows.append({"patch": case.patch.name, "success": success, "success_low": low, "success_high": high, "n": n})
    mean = mean_rate(np.array(hits), np.array(among), np.array(goals))
    whole = {"patch": ALL, "success": mean.value, "success_low": mean.low, "success_high": mean.high}
    rows.append(whole | {"n": int(np.sum(among))})
    found = pd.DataFrame(rows).astype({"success": float, "success_low": float, "success_high": float})
    return found.assign(n_clean=len(labels), **{f"clean_accuracy{end}": float(v) for end, v in accuracy.items()})


def _of_files(inputs: Inputs, subject: Subject) -> list[dict[str, Any]]:
    """The INT8 files of the suite where their ranges lie, with what the run counted of them."""
    rows = []
    for artifact in subject.artifacts:
        if is_simulated(artifact) or artifact.quant is None or artifact.precision != "w8a8":
            continue
        found = inputs.kept("strength", partial(_width, inputs, artifact), artifact=artifact.key)
        patch, over = subject.patches[0], inputs.over_patches
        assert patch.patch is not None
        wanted = {
            "artifact": artifact.name, "surrogate": "float", "attack": patch.patch.label or patch.patch.attack,
            "patch_px": patch.px, "placement": patch.place, "split": patch.split, "defence": "", "status": "ok",
        }  # fmt: skip
        here = over[np.logical_and.reduce([over[column] == value for column, value in wanted.items()])]
        rate = "targeted" if patch.patch.target_class is not None else "untargeted"
        for row in here.to_dict("records"):
            rows.append(
                {
                    "victim": subject.victim.name, "kind": FILE, "clip": found["clip"].iloc[0], "levels": np.nan,
                    "artifact": artifact.name, "target": row["target"], "calibration": words(artifact.quant),
                    "patch": ALL, "n": row[f"n_{rate}"], "n_clean": row["n_clean"],
                    **{f"success{end}": row[f"{rate}_success{end}"] for end in ENDS},
                    **{f"clean_accuracy{end}": row[f"clean_accuracy{end}"] for end in ENDS},
                }
            )  # fmt: skip
    return rows


def _width(inputs: Inputs, artifact: ArtifactStep) -> pd.DataFrame:
    """The mean width of a file's ranges as a share of minmax's: those of its specification, which its proof holds."""
    made = stages.source(inputs.work, artifact)
    own, whole = (
        calibrated(made.network, spec, made.pixels)
        for spec in (made.quant, QuantSpec(calibration_images=made.quant.calibration_images))
    )
    wide = (grids_of(k.described, k.ranges, QuantSpec()) for k in (own, whole))
    mine, full = ({name: grid.step for name, grid in grids.items()} for grids in wide)
    shares = [mine[name] / full[name] for name in inner(whole.described) if name in full]
    return pd.DataFrame([{"clip": float(np.mean(shares))}])


def draw(table: pd.DataFrame) -> list[Figure]:
    """A figure a network: success and clean accuracy against the share of the range that is left."""
    figures = []
    for victim, rows in table.groupby("victim", sort=False):
        mean = rows[rows["patch"] == ALL]
        patches = rows.loc[rows["patch"] != ALL, "patch"].nunique()
        per_patch = rows.loc[rows["patch"] != ALL, "n"]
        caption = (
            f"{victim}: activations in a share of their minmax range (across) and in steps of which the whole range "
            "has so many levels (colours), in simulation, weights of 8 bits. Left, the mean success of "
            f"{patches} patches made on float, {between(per_patch)} images each; right, "
            f"clean accuracy over {mean['n_clean'].max():.0f} images; lines over marks are 95 % intervals."
        )
        files = mean[mean["kind"] == FILE]
        if len(files):
            caption += " Black: INT8 files on their runtimes, where their ranges lie in the mean, "
            "each a little to the right of the one before."
        figures.append(Figure(str(victim), caption, _panels(mean)))
    return figures


def _panels(mean: pd.DataFrame) -> Markup:
    grids, files = (mean[mean["kind"] == kind] for kind in (GRID, FILE))
    with drawing(9.6, 3.9) as (figure, out):
        left, right = figure.subplots(1, 2, sharex=True)
        for axes, rate in ((left, "success"), (right, "clean_accuracy")):
            for i, (levels, part) in enumerate(grids.groupby("levels", sort=False)):
                label = f"{levels:.0f} levels" if axes is left else ""
                _marks(axes, part, rate, COLOURS[i % 6], MARKERS[i % 6], "-", label)
            if "calibration" in files:
                names = list(dict.fromkeys(files["calibration"]))
                for i, (name, part) in enumerate(files.groupby("calibration", sort=False)):
                    marker = "D*<>Hp"[names.index(str(name)) % 6]
                    _marks(axes, part, rate, INK, marker, "none", f"INT8, {name}" if axes is left else "", 0.004 * i)
        top = max(0.1, 1.05 * float(mean["success_high"].max()))
        percent_axis(left, "y", min(1.0, top), "success, %")
        percent_axis(right, "y", 1.0, "clean accuracy, %")
        for axes in (left, right):
            percent_axis(axes, "x", max(1.0, float(mean["clip"].max())), "share of the calibrated range, %")
        legend(figure, left)
        lines = -(-len(left.get_legend_handles_labels()[1]) // 4)
        figure.subplots_adjust(0.065, 0.13, 0.99, 0.94 - 0.055 * lines, wspace=0.16)
    return out[0]


def _marks(
    axes: Axes, rows: pd.DataFrame, rate: str, colour: str, marker: str, line: str, label: str, aside: float = 0.0
) -> None:
    rows = rows.sort_values("clip")
    axes.vlines(rows["clip"] + aside, rows[f"{rate}_low"], rows[f"{rate}_high"], color=colour, lw=1)
    axes.plot(rows["clip"] + aside, rows[rate], ls=line, marker=marker, color=colour, ms=5, lw=1.4, label=label or None)

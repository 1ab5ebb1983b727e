"""Saturation: the share of activations that an artifact's range clips, and the success that is left of a patch."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup
from numpy.typing import NDArray
from torch import nn
from torch.fx import GraphModule

from backends.device.artifact import Pixels, QuantSpec
from harness.plan.cells import Case
from harness.plan.steps import ArtifactStep
from harness.report.svg import COLOURS, INK, MARKERS, drawing, legend, percent_axis
from harness.run import stages
from harness.study.lib.correlation import Correlation, correlation
from harness.study.lib.inputs import Figure, Inputs, Subject
from harness.study.lib.relative import relative
from harness.study.lib.similarity import mean
from harness.study.lib.words import between, bits
from patches.fake_quant.network import FLOAT, Grid, folded, watch
from patches.fake_quant.rounding import Fixed
from patches.surrogates import build

QUESTION = "Does a patch lose where calibrated ranges clip what it brings about?"
BATCH = 50
ALL = "all"  # the row of a patch on an artifact and target, its share the mean over layers but the logits
KINDS = {False: "integer kernels", True: "simulated"}


def measure(inputs: Inputs) -> pd.DataFrame:
    """A row a layer, artifact and patch (empty: clean images), and one for `ALL` of them and each target.

    ``share`` of a layer's activations in the float network, batch normalisation folded and ReLU done, lies beyond the
    levels that the artifact has for them, so that even rounding does not bring it back; ``share_low`` and
    ``share_high`` are t's over ``images``, ``clean_share`` is that without the patch. ``success`` (``low``, ``high``,
    ``n``) is the run's, ``relative_success`` that as a share of the same patch's on the float network.
    """
    rows: list[dict[str, Any]] = []
    for subject in inputs.subjects():
        for artifact in subject.artifacts:
            if artifact.quant is None or artifact.quant.activation_bits >= FLOAT:
                continue
            cases = (subject.clean, *subject.patches)
            with inputs.work.display.doing("watch", f"{artifact.name}: what its ranges clip"):
                shares = inputs.kept(
                    "saturation", partial(_shares, inputs, artifact, cases),
                    artifact=artifact.key, cases=[c.key for c in cases], images=inputs.settings.images,
                )  # fmt: skip
            rows += _rows(inputs, subject, artifact, shares)
    return pd.DataFrame(rows)


def grids(rounded: GraphModule) -> dict[str, Grid]:
    """The levels that a fake-quantized network has for each tensor that its file keeps, but for the pixels."""
    found = {}
    for node in rounded.graph.nodes:
        module = rounded.get_submodule(str(node.target)) if node.op == "call_module" else None
        if isinstance(module, Fixed) and node.args[0].op != "placeholder":
            found[str(node.args[0].name)] = Grid(float(module.step), module.low, module.high)
    return found


def clipped(network: GraphModule, levels: Mapping[str, Grid], pixels: Pixels) -> dict[str, NDArray[np.float64]]:
    """For each tensor the share of each image's activations beyond its levels, ``(n,)``; what rounds to an end is not.

    A tensor behind a ReLU is looked at after it: a zero that a ReLU makes is within any levels.
    """
    parts: dict[str, list[NDArray[np.float64]]] = {name: [] for name in levels}
    for start in range(0, len(pixels), BATCH):
        for name, values in watch(network, list(levels), pixels[start : start + BATCH]).items():
            step, low, high = levels[name]
            steps = values.reshape(len(values), -1) / np.float32(step)
            parts[name].append(((steps > high + 0.5) | (steps < low - 0.5)).mean(axis=1))
    return {name: np.concatenate(shares) for name, shares in parts.items()}


def _shares(inputs: Inputs, artifact: ArtifactStep, cases: tuple[Case, ...]) -> pd.DataFrame:
    made = stages.source(inputs.work, artifact)
    rounded: nn.Module = build("fake_quant", made)
    assert isinstance(rounded, GraphModule)
    network, levels = folded(made.network, made.trained), grids(rounded)
    rows = []
    for case in cases:
        found = clipped(network, levels, inputs.pixels(case))
        found[ALL] = np.mean(list(found.values())[:-1], axis=0)  # the last are the logits
        for depth, (layer, shares) in enumerate(found.items()):
            share, low, high = mean(shares)
            rows.append(
                {
                    "patch": case.patch.name if case.patch else "", "layer": layer, "depth": depth, "share": share,
                    "share_low": max(0.0, low), "share_high": min(1.0, high), "images": len(shares),
                }
            )  # fmt: skip
    return pd.DataFrame(rows)


def _rows(inputs: Inputs, subject: Subject, artifact: ArtifactStep, shares: pd.DataFrame) -> list[dict[Any, Any]]:
    assert artifact.quant is not None
    about = {
        "victim": subject.victim.name, "artifact": artifact.name, "format": artifact.format,
        "precision": artifact.precision, "calibration": words(artifact.quant),
    }  # fmt: skip
    clean = shares[shares["patch"] == ""].set_index("layer")["share"]
    classes = {c.patch.name: c.patch.target_class for c in subject.patches if c.patch}
    rows = [
        about | row | {"target_class": classes.get(row["patch"]), "clean_share": clean[row["layer"]]}
        for row in shares.to_dict("records")
    ]
    whole = {row["patch"]: row for row in rows if row["layer"] == ALL}
    out = []
    for case in subject.patches:
        assert case.patch is not None
        for cell in relative(inputs, artifact, subject.artifacts[0], case).to_dict("records"):
            share = {"relative_success": cell.pop("relative"), "simulated": cell["runtime"] == "torch"}
            out.append(whole[case.patch.name] | cell | share)
    return out + [row for row in rows if row["layer"] != ALL or not row["patch"]]


def words(quant: QuantSpec) -> str:
    """A calibration with its constant, where it has one."""
    constant = {"percentile": f" {quant.percentile:g}", "moving_average": f" {quant.moving_average_constant:g}"}
    return quant.calibration.replace("_", " ") + constant.get(quant.calibration, "")


def together(points: pd.DataFrame) -> Correlation:
    """How success, relative to float's, goes with the clip share over patches and artifacts, targets averaged."""
    mean = points.groupby(["artifact", "patch"])[["share", "relative_success"]].mean()
    return correlation(mean["share"], mean["relative_success"], groups=mean.index.get_level_values("artifact"))


def draw(table: pd.DataFrame) -> list[Figure]:
    """For each network success against the clip share, and the clip share by layer."""
    figures, table = [], table.assign(patch=table["patch"].fillna(""))  # as a CSV has what is empty
    for victim, rows in table.groupby("victim", sort=False):
        points = rows[(rows["layer"] == ALL) & (rows["patch"] != "") & (rows["precision"].map(bits) == (8, 8))]
        if points["relative_success"].notna().any():
            rho = "; ".join(
                f"{KINDS[bool(simulated)]}: {together(part)}" for simulated, part in points.groupby("simulated")
            )
            caption = (
                f"{victim}: success of each patch, as a share of its success on the float network, against the share "
                "of activations that the artifact's ranges clip on patched images (mean over layers before the "
                "logits); 8 bits, so that files differ in their ranges alone. A mark is a patch on an artifact and "
                f"target, its line the 95 % interval over {between(points['n'])} images; shares over "
                f"{points['images'].max():.0f}. Spearman's rho with its 95 % interval (bootstrap over "
                f"artifacts, each with its patches): {rho}."
            )
            figures.append(Figure(f"success-{victim}", caption, _against(points)))
        figures.append(Figure(f"layers-{victim}", *_by_layer(str(victim), rows)))
    return figures


def _against(points: pd.DataFrame) -> Markup:
    names = list(dict.fromkeys(points["calibration"]))
    dress = {name: (COLOURS[i % 6], MARKERS[i % 6]) for i, name in enumerate(names)}
    kinds = [kind for kind in KINDS if (points["simulated"] == kind).any()]
    top = min(3.0, max(1.0, float(points["relative_success"].max())))
    with drawing(9.6, 3.6) as (figure, out):
        grid = figure.subplots(1, len(kinds), squeeze=False, sharex=True, sharey=True)[0]
        for axes, kind in zip(grid, kinds, strict=True):
            for name, part in points[points["simulated"] == kind].groupby("calibration", sort=False):
                colour, marker = dress[str(name)]
                scale = part["relative_success"] / part["success"].where(part["success"] > 0)
                axes.vlines(part["share"], part["low"] * scale, part["high"] * scale, color=colour, lw=0.8, alpha=0.7)
                axes.plot(part["share"], part["relative_success"], marker, color=colour, ms=5, mew=0)
            axes.axhline(1, color=INK, lw=0.8, ls=(0, (4, 3)))
            axes.set_title(KINDS[kind], loc="left")
            percent_axis(axes, "x", max(1e-4, float(points["share"].max())), "activations clipped, %")
            percent_axis(axes, "y", top, "success, % of float's" if axes is grid[0] else "")
        for name, (colour, marker) in dress.items():
            grid[0].plot([], [], marker, color=colour, ms=5, label=name)
        legend(figure, grid[0])
        figure.subplots_adjust(0.07, 0.14, 0.98, 0.82, wspace=0.08)
    return out[0]


def _by_layer(victim: str, rows: pd.DataFrame) -> tuple[str, Markup]:
    """Shares by layer, a panel a calibration, of the first artifact that has it; the mean over patches, and clean."""
    layers = rows[(rows["layer"] != ALL) & (rows["precision"].map(bits) == (8, 8))]
    layers = layers if len(layers) else rows[rows["layer"] != ALL]
    panels = {str(name): part[part["artifact"] == part["artifact"].iloc[0]]
              for name, part in layers.groupby("calibration", sort=False)}  # fmt: skip
    columns = min(3, len(panels))
    lines = -(-len(panels) // columns)
    top = max(1e-3, float(layers["share_high"].max()))
    height = 0.9 + 1.9 * lines
    with drawing(9.6, height) as (figure, out):
        grid = figure.subplots(lines, columns, squeeze=False, sharex=True, sharey=True).ravel()
        for i, (axes, (name, part)) in enumerate(zip(grid, panels.items(), strict=False)):
            for patched, colour, marker in ((False, COLOURS[0], "o"), (True, COLOURS[1], "s")):
                mean = part[(part["patch"] != "") == patched].groupby("depth")[["share", "share_low", "share_high"]]
                mean = mean.mean()
                label = "with a patch" if patched else "clean"
                axes.fill_between(mean.index, mean["share_low"], mean["share_high"], color=colour, alpha=0.25, lw=0)
                axes.plot(mean.index, mean["share"], marker=marker, color=colour, ms=3.5, lw=1.2, label=label)
            axes.set_title(name, loc="left")
            percent_axis(axes, "y", top, "" if i % columns else "activations clipped, %")
        for axes in grid[len(panels) :]:
            axes.set_visible(False)
        for axes in grid[max(0, len(panels) - columns) : len(panels)]:  # no panel is below these
            axes.tick_params(labelbottom=True)
            axes.set_xlabel("tensor, from the pixels on")
        legend(figure, grid[0])
        figure.subplots_adjust(0.06, 0.5 / height, 0.99, 1 - 0.55 / height, wspace=0.06, hspace=0.45)
    patches = layers.loc[layers["patch"] != "", "patch"].nunique()
    caption = (
        f"{victim}: the share of each layer's activations beyond the range that a calibration gave it, from the pixels "
        f"to the logits, on {layers['images'].max()} images: clean, and the mean over {patches} patches; bands are "
        "95 % intervals over images. What a ReLU sets to zero is not clipped. The table names the tensors."
    )
    return caption, out[0]

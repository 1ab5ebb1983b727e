"""Saturation: the share of activations that an artifact's ranges clip, and the share of success that a patch keeps."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import numpy as np
import pandas as pd
from markupsafe import Markup
from matplotlib.axes import Axes
from numpy.typing import NDArray
from torch.fx import GraphModule

from backends.device.artifact import Pixels
from harness.plan.cells import Case
from harness.plan.steps import ArtifactStep
from harness.report.svg import COLOURS, INK, MARKERS, covering, drawing, legend, percent_axis
from harness.run import stages
from harness.study.lib.estimates import Correlation, correlation, mean
from harness.study.lib.inputs import Figure, Inputs, Subject
from harness.study.lib.labels import between, bits, calibration
from harness.study.lib.success import relative_success
from harness.study.lib.tables import where, with_columns, with_interval
from patches.fake_quant.network import FLOAT, Grid, folded, watch
from patches.fake_quant.rounding import Fixed
from patches.surrogates import build

QUESTION = "Does a patch lose success where calibrated ranges clip the activations that it causes?"
BATCH = 50
ALL = "all"  # in place of a layer: the mean over layers but the logits
KINDS = {False: "integer kernels", True: "simulated"}
COLUMNS = ("patch", "layer", "depth", *with_interval("share"), "images")


def measure(inputs: Inputs) -> pd.DataFrame:
    """Return one row per layer, artifact and patch (empty: clean images), and one for `ALL` layers and each target.

    ``share`` of a layer's activations in the float network, batch normalisation folded and ReLU applied, lies beyond
    the levels that the artifact has for them, so that rounding does not bring it back; ``share_low`` and ``share_high``
    are t's over ``images``, ``clean_share`` is the share without the patch. ``success`` (``low``, ``high``, ``n``) is
    the run's, ``relative_success`` its share of the same patch's success on the float network.
    """
    tables = []
    for subject in inputs.subjects():
        cases = (subject.clean, *subject.patches)
        for artifact in subject.artifacts:
            if artifact.quant is None or artifact.quant.activation_bits >= FLOAT:
                continue
            with inputs.work.display.doing("watch", f"{artifact.name}: what its ranges clip"):
                shares = inputs.cached(
                    "saturation",
                    partial(_shares, inputs, artifact, cases),
                    artifact=artifact.key,
                    cases=[case.key for case in cases],
                    images=inputs.settings.images,
                )
            tables += _with_success(inputs, subject, artifact, shares)
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()


def grids(rounded: GraphModule) -> dict[str, Grid]:
    """Return the levels of each tensor that a fake-quantized network's file keeps, except the pixels."""
    found = {}
    for node in rounded.graph.nodes:
        module = rounded.get_submodule(str(node.target)) if node.op == "call_module" else None
        if isinstance(module, Fixed) and node.args[0].op != "placeholder":
            found[str(node.args[0].name)] = Grid(float(module.step), module.low, module.high)
    return found


def clipped(network: GraphModule, levels: Mapping[str, Grid], pixels: Pixels) -> dict[str, NDArray[np.float64]]:
    """Return the share of each image's activations that lie beyond a tensor's levels, ``(n,)`` per tensor.

    What rounds to an end is not clipped. A tensor before a ReLU is taken after it: the zeros of a ReLU are within any
    levels.
    """
    parts: dict[str, list[NDArray[np.float64]]] = {name: [] for name in levels}
    for start in range(0, len(pixels), BATCH):
        for name, values in watch(network, list(levels), pixels[start : start + BATCH]).items():
            step, low, high = levels[name]
            steps = values.reshape(len(values), -1) / np.float32(step)
            parts[name].append(((steps > high + 0.5) | (steps < low - 0.5)).mean(axis=1))
    return {name: np.concatenate(shares) for name, shares in parts.items()}


def _shares(inputs: Inputs, artifact: ArtifactStep, cases: tuple[Case, ...]) -> pd.DataFrame:
    source = stages.source(inputs.work, artifact)
    rounded = build("fake_quant", source)
    assert isinstance(rounded, GraphModule)
    network = folded(source.network, source.trained)
    levels = grids(rounded)
    rows = []
    for case in cases:
        name = case.patch.name if case.patch else ""
        found = clipped(network, levels, inputs.pixels(case))
        found[ALL] = np.mean(list(found.values())[:-1], axis=0)  # the last are the logits
        for depth, (layer, shares) in enumerate(found.items()):
            share, low, high = mean(shares)
            rows.append((name, layer, depth, share, max(0.0, low), min(1.0, high), len(shares)))
    return pd.DataFrame(rows, columns=COLUMNS)


def _with_success(inputs: Inputs, subject: Subject, artifact: ArtifactStep, shares: pd.DataFrame) -> list[pd.DataFrame]:
    """Return the rows of `ALL` layers with the success of each patch on each target, then those of each layer."""
    assert artifact.quant is not None
    clean = where(shares, patch="").set_index("layer")["share"]
    classes = {case.patch.name: case.patch.target_class for case in subject.patches if case.patch}
    rows = with_columns(
        shares.assign(target_class=shares["patch"].map(classes), clean_share=shares["layer"].map(clean)),
        victim=subject.victim.name,
        artifact=artifact.name,
        format=artifact.format,
        precision=artifact.precision,
        calibration=calibration(artifact.quant),
    )
    tables = []
    for case in subject.patches:
        assert case.patch is not None
        cells = relative_success(inputs, artifact, subject.artifacts[0], case)
        cells = cells.rename(columns={"relative": "relative_success"})
        cells = cells.assign(simulated=cells["runtime"] == "torch")
        if len(cells):
            tables.append(where(rows, layer=ALL, patch=case.patch.name).merge(cells, how="cross"))
    return [*tables, rows[(rows["layer"] != ALL) | (rows["patch"] == "")]]


def together(points: pd.DataFrame) -> Correlation:
    """Return the correlation of relative success with the clipped share, over patches and artifacts."""
    means = points.groupby(["artifact", "patch"])[["share", "relative_success"]].mean()  # over targets
    return correlation(means["share"], means["relative_success"], groups=means.index.get_level_values("artifact"))


def draw(table: pd.DataFrame) -> list[Figure]:
    """Draw each network's success against the clipped share, and the clipped share by layer."""
    figures = []
    table = table.assign(patch=table["patch"].fillna(""))  # a CSV has the empty name as NaN
    for victim, rows in table.groupby("victim", sort=False):
        is_int8 = rows["precision"].map(bits) == (8, 8)
        points = rows[(rows["layer"] == ALL) & (rows["patch"] != "") & is_int8]
        if points["relative_success"].notna().any():
            parts = [f"{KINDS[bool(kind)]}: {together(part)}" for kind, part in points.groupby("simulated")]
            caption = (
                f"{victim}: success of each patch, as a share of its success on the float network, against the share "
                "of activations that the artifact's ranges clip on patched images (mean over layers before the "
                "logits); 8 bits, so that files differ in their ranges alone. A mark is a patch on an artifact and "
                f"target, its line the 95 % interval over {between(points['n'])} images; shares are over "
                f"{points['images'].max():.0f}. Spearman's rho with its 95 % interval (bootstrap over artifacts, each "
                f"with its patches): {'; '.join(parts)}."
            )
            figures.append(Figure(f"success-{victim}", caption, _against_share(points)))
        layers = rows[rows["layer"] != ALL]
        if (layers["precision"].map(bits) == (8, 8)).any():
            layers = layers[layers["precision"].map(bits) == (8, 8)]
        patches = layers.loc[layers["patch"] != "", "patch"].nunique()
        caption = (
            f"{victim}: the share of each layer's activations beyond the range that a calibration gave it, from the "
            f"pixels to the logits, on {layers['images'].max()} images: clean, and the mean over {patches} patches; "
            "bands are 95 % intervals over images. Activations that a ReLU sets to zero are not clipped. The table "
            "names the tensors."
        )
        figures.append(Figure(f"layers-{victim}", caption, _by_layer(layers)))
    return figures


def _against_share(points: pd.DataFrame) -> Markup:
    names = list(dict.fromkeys(points["calibration"]))
    kinds = [kind for kind in KINDS if (points["simulated"] == kind).any()]
    scale = points["relative_success"] / points["success"].where(points["success"] > 0)
    top = covering(1.0, points["relative_success"], points["high"] * scale)
    with drawing(9.6, 3.6) as (figure, out):
        grid = figure.subplots(1, len(kinds), squeeze=False, sharex=True, sharey=True)[0]
        for axes, kind in zip(grid, kinds, strict=True):
            for i, name in enumerate(names):
                part = where(points, simulated=kind, calibration=name)
                colour = COLOURS[i % 6]
                low, high = part["low"] * scale[part.index], part["high"] * scale[part.index]
                axes.vlines(part["share"], low, high, color=colour, lw=0.8, alpha=0.7)
                axes.plot(part["share"], part["relative_success"], MARKERS[i % 6], color=colour, ms=5, mew=0)
            axes.axhline(1, color=INK, lw=0.8, ls=(0, (4, 3)))
            axes.set_title(KINDS[kind], loc="left")
            percent_axis(axes, "x", max(1e-4, float(points["share"].max())), "activations clipped, %")
            percent_axis(axes, "y", top, "success, % of float's" if axes is grid[0] else "")
        for i, name in enumerate(names):
            grid[0].plot([], [], MARKERS[i % 6], color=COLOURS[i % 6], ms=5, label=name)
        legend(figure, grid[0])
        figure.subplots_adjust(0.07, 0.14, 0.98, 0.82, wspace=0.08)
    return out[0]


def _by_layer(layers: pd.DataFrame) -> Markup:
    """Draw shares by layer, one panel per calibration, of the first artifact that has it."""
    panels = list(layers.groupby("calibration", sort=False))
    columns = min(3, len(panels))
    lines = -(-len(panels) // columns)
    height = 0.9 + 1.9 * lines
    top = max(1e-3, float(layers["share_high"].max()))
    with drawing(9.6, height) as (figure, out):
        grid = figure.subplots(lines, columns, squeeze=False, sharex=True, sharey=True).ravel()
        for i, (axes, (name, part)) in enumerate(zip(grid, panels, strict=False)):
            part = where(part, artifact=part["artifact"].iloc[0])
            _band(axes, part[part["patch"] == ""], COLOURS[0], "o", "clean")
            _band(axes, part[part["patch"] != ""], COLOURS[1], "s", "with a patch")
            axes.set_title(name, loc="left")
            percent_axis(axes, "y", top, "" if i % columns else "activations clipped, %")
        for axes in grid[len(panels) :]:
            axes.set_visible(False)
        for axes in grid[max(0, len(panels) - columns) : len(panels)]:  # the lowest of each column
            axes.tick_params(labelbottom=True)
            axes.set_xlabel("tensor, from the pixels on")
        legend(figure, grid[0])
        figure.subplots_adjust(0.06, 0.5 / height, 0.99, 1 - 0.55 / height, wspace=0.06, hspace=0.45)
    return out[0]


def _band(axes: Axes, rows: pd.DataFrame, colour: str, marker: str, label: str) -> None:
    means = rows.groupby("depth")[["share", "share_low", "share_high"]].mean()  # over patches
    axes.fill_between(means.index, means["share_low"], means["share_high"], color=colour, alpha=0.25, lw=0)
    axes.plot(means.index, means["share"], marker=marker, color=colour, ms=3.5, lw=1.2, label=label)

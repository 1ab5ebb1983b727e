"""Gradient alignment: do a quantized network's gradients point where float's do, or have they the same structure?

And which of the two predicts that a patch transfers? Noise in a gradient's place, and other networks' gradients, say
how much agreement means nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache, partial
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from markupsafe import Markup
from matplotlib.axes import Axes
from torch import Tensor, nn

from backends.device.errors import UserError
from harness.plan.cells import Case, ReplayStep
from harness.plan.steps import ArtifactStep
from harness.report.svg import COLOURS, INK, MARKERS, drawing, legend, percent_axis, ticks
from harness.run import stages
from harness.study.lib.estimates import correlation, mean
from harness.study.lib.inputs import Figure, Inputs, Subject, is_simulated
from harness.study.lib.labels import between, bits
from harness.study.lib.pixel_gradients import Alignment, alignment, pixel_gradients
from harness.study.lib.success import relative_success
from harness.study.lib.tables import where, with_columns, with_interval
from patches.objectives import cross_entropies
from patches.surrogates import build
from patches.twins import KERNELS

QUESTION = (
    "Do gradients point the same way, or look alike, after quantization, and does a patch transfer where they do?"
)
SHIFT = 1  # of a pixel's 255, by which the float network's own images are moved up or down at random
FLOAT = "float, moved pixels"
SIMULATED = "simulated"
TWIN = "twin"
OTHER = "other network"
NOISE = "noise"
QUANTIZED = (SIMULATED, TWIN)
REGIONS = ("image", "patch")
MEASURES = {  # and what an axis says of it
    "cosine": "cosine",
    "sign_agreement": "equal signs",
    "edge_iou": "edges' IoU",
    "hog_cosine": "HOG's cosine",
}
PREDICTORS = ("cosine", "edge_iou", "hog_cosine")


class Compared(NamedTuple):
    """A network whose gradients are compared with float's; ``target`` is where its transfer was measured.

    ``kind`` is `FLOAT`, `SIMULATED`, `TWIN`, `OTHER` or `NOISE`; ``kernels`` are those that a twin follows.
    """

    name: str
    kind: str
    artifact: ArtifactStep
    target: str
    kernels: str = ""


COLUMNS = ("patch", "region", "n", "zero_share", *with_interval(*MEASURES))


def measure(inputs: Inputs) -> pd.DataFrame:
    """Return one row per network, patch and region: its gradient of the attack's loss, compared with float's.

    The loss is the cross entropy to the target class (untargeted: minus that to the label) of each image with the
    patch. The `MEASURES` are means over ``n`` images with t intervals, over all pixels (region ``image``) or those
    under the patch (``patch``). ``transfer`` is the success that the run counted of this patch, made on float, on this
    artifact and target, as a share of its success on float. Three kinds are controls: `FLOAT` compares the float
    network with itself on pixels moved at random by one step, which is what any rounding may cost; `OTHER` compares it
    with float networks of other weights, `NOISE` with normal noise.
    """
    tables = []
    for subject in inputs.subjects():
        compared = list(_compared(inputs, subject))
        of_float = cache(partial(_of_float, inputs, subject))
        with inputs.work.display.doing("differentiate", subject.victim.name) as tick:
            for done, one in enumerate(compared):
                tick(done, len(compared), one.name)
                table = inputs.cached(
                    "gradients",
                    partial(_aligned, inputs, subject, one, of_float),
                    kind=one.kind,
                    artifact=one.artifact.key,
                    kernels=one.kernels,
                    cases=[case.key for case in subject.patches],
                    images=inputs.settings.images,
                )
                if len(table):
                    tables.append(_with_transfer(inputs, subject, one, table))
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()


def _compared(inputs: Inputs, subject: Subject) -> Iterator[Compared]:
    """Yield the float network, each simulated bitwidth, the twin of each file that a target here runs, controls."""
    yield Compared(FLOAT, FLOAT, subject.artifacts[0], "torch")
    for artifact in subject.artifacts:
        if artifact.quant is None:
            continue
        if is_simulated(artifact):
            yield Compared(artifact.name, SIMULATED, artifact, "torch")
            continue
        for replay in inputs.work.plan.replays:
            if replay.artifact == artifact and replay.case == subject.clean and _has_twin(replay):
                target = replay.target
                kernels = str(target.options.get("kernels", ""))
                if kernels not in KERNELS.get(f".{artifact.format}", ()):
                    kernels = ""
                yield Compared(f"{artifact.name} on {target.name}", TWIN, artifact, target.name, kernels)
    meeting = (replay.artifact for replay in inputs.work.plan.replays if replay.case in subject.patches)
    for artifact in dict.fromkeys(meeting):
        if artifact.victim != subject.victim and is_simulated(artifact) and artifact.quant is None:
            yield Compared(f"another network, {artifact.victim.name}", OTHER, artifact, "torch")
    yield Compared("noise", NOISE, subject.artifacts[0], "")


def _has_twin(replay: ReplayStep) -> bool:
    """Return whether twins follow the kernels of a target."""
    return replay.target.host == "local" and replay.target.runtime in ("litert", "onnxruntime")


def _of_float(inputs: Inputs, subject: Subject, case: Case) -> Tensor:
    assert case.patch is not None
    network = build("float", inputs.work.network(subject.victim))
    return pixel_gradients(network, inputs.pixels(case), inputs.labels(case), cross_entropies(case.patch.target_class))


def _aligned(inputs: Inputs, subject: Subject, one: Compared, of_float: Callable[[Case], Tensor]) -> pd.DataFrame:
    """Return one row per patch and region; none for a file that no differentiable network follows."""
    try:
        network = _network(inputs, one)
    except UserError as error:
        inputs.work.display.console.print(f"no gradients of {one.name}: {error}", soft_wrap=True)
        return pd.DataFrame(columns=COLUMNS)
    rows = []
    for case in subject.patches:
        assert case.patch is not None
        pixels = inputs.pixels(case)
        if one.kind == FLOAT:
            moves = np.random.default_rng(0).choice([-SHIFT, SHIFT], pixels.shape)
            pixels = np.clip(pixels + moves, 0, 255).astype(np.uint8)
        score = cross_entropies(case.patch.target_class)
        found = pixel_gradients(network, pixels, inputs.labels(case), score) if network else _noise(of_float(case))
        covered = inputs.covered(case)
        regions = (np.ones_like(covered), covered)
        for region, pixels_of_region in zip(REGIONS, regions, strict=True):
            numbers = summary(alignment(of_float(case), found, pixels_of_region))
            rows.append((case.patch.name, region, *numbers))
    return pd.DataFrame(rows, columns=COLUMNS)


def _noise(gradient: Tensor) -> Tensor:
    return torch.randn(gradient.shape, generator=torch.Generator().manual_seed(0))


def _network(inputs: Inputs, one: Compared) -> nn.Module | None:
    if one.kind == NOISE:
        return None
    if one.kind in (FLOAT, OTHER):
        return build("float", inputs.work.network(one.artifact.victim))
    if one.kind == SIMULATED:
        return inputs.work.simulated(one.artifact)
    artifact, folder = stages.artifact(inputs.work, one.artifact)
    return build("twin", folder / f"{artifact.name}.json", one.kernels)


def summary(found: Alignment) -> tuple[float, ...]:
    """Return n, the share of zeros, and the means over images with t intervals of the `MEASURES`."""
    n = int(np.isfinite(found.cosine).sum())
    means = [number for measure in MEASURES for number in mean(getattr(found, measure))]
    return n, float(found.zero_share.mean()), *means


def _with_transfer(inputs: Inputs, subject: Subject, one: Compared, table: pd.DataFrame) -> pd.DataFrame:
    """Add what was compared, and the success of each patch on its target as a share of that on float."""
    classes = {}
    transfer = {}
    for case in subject.patches:
        assert case.patch is not None
        cells = relative_success(inputs, one.artifact, subject.artifacts[0], case)
        here = where(cells, target=one.target)["relative"].to_numpy(float)
        classes[case.patch.name] = case.patch.target_class
        transfer[case.patch.name] = here[0] if len(here) else np.nan
    return with_columns(
        table.assign(transfer=table["patch"].map(transfer)),
        victim=subject.victim.name,
        artifact=one.artifact.name,
        name=one.name,
        kind=one.kind,
        precision=one.artifact.precision,
        target=one.target,
        target_class=table["patch"].map(classes),
    )


def draw(table: pd.DataFrame) -> list[Figure]:
    """Draw each network's alignment by precision, and transfer against alignment."""
    figures = []
    for victim, rows in table.groupby("victim", sort=False):
        n = f"{between(rows['n'])} images per patch, {rows['patch'].nunique()} patches"
        caption = (
            f"{victim}: agreement of the float network's gradient of the attack's loss with each quantized network's, "
            "over the whole image and inside the patch: cosine, share of equal signs, intersection over union of their "
            f"edges, cosine of their histograms of oriented gradients. {n}; marks and the ends of their 95 % intervals "
            "over images are means over patches. Controls: the first row compares the float network with itself on "
            f"pixels moved by {SHIFT}/255, the last ones with other float networks and with noise."
        )
        figures.append(Figure(f"alignment-{victim}", caption, _by_network(str(victim), rows)))
        known = rows[rows["kind"].isin(QUANTIZED) & rows["transfer"].notna()]
        if len(known):
            caption = (
                f"{victim}: success of patches made on float, as a share of their success on float, against the "
                f"agreement of gradients. A mark is a patch on a quantized network; {n}. Patches that hardly succeed "
                "on float are left out. Correlations with 95 % intervals (bootstrap over networks, each with its "
                f"patches): {_correlations(known)}."
            )
            figures.append(Figure(f"transfer-{victim}", caption, _against_transfer(known)))
    return figures


def _correlations(known: pd.DataFrame) -> str:
    parts = []
    for measure in PREDICTORS:
        for region, rows in known.groupby("region", sort=False):
            pair = (rows[measure], rows["transfer"])
            rho = correlation(*pair, "spearman", groups=rows["name"])
            r = correlation(*pair, "pearson", groups=rows["name"])
            parts.append(f"{MEASURES[measure]} over the {region} Spearman's rho {rho}, Pearson's r {r}")
    return "; ".join(parts)


def _by_network(victim: str, rows: pd.DataFrame) -> Markup:
    names = list(dict.fromkeys(rows["name"]))
    height = 1.0 + 0.24 * len(names)
    with drawing(9.6, height) as (figure, out):
        grid = figure.subplots(1, len(MEASURES), sharey=True)
        for axes, measure in zip(grid, MEASURES, strict=True):
            for i, region in enumerate(REGIONS):
                means = where(rows, region=region).groupby("name")[with_interval(measure)].mean().reindex(names)
                y = np.arange(len(names)) + 0.16 * (2 * i - 1)
                axes.hlines(y, means[f"{measure}_low"], means[f"{measure}_high"], color=COLOURS[i], lw=1.4)
                axes.plot(means[measure], y, MARKERS[i], color=COLOURS[i], ms=4.5, label=f"over the {region}")
            axes.set_xlabel(MEASURES[measure])
            axes.set_xlim(min(0.0, float(rows[f"{measure}_low"].min())), 1.02)
            axes.grid(axis="x")
        grid[0].set_ylim(len(names) - 0.5, -0.5)
        ticks(grid[0], "y", [str(name).removeprefix(f"{victim}-") for name in names], 42, color=INK)
        legend(figure, grid[0])
        figure.subplots_adjust(0.31, 0.45 / height, 0.98, 1 - 0.3 / height, wspace=0.1)
    return out[0]


def _against_transfer(known: pd.DataFrame) -> Markup:
    known = known.assign(bits=known["precision"].map(bits).str[0].where(known["kind"] != TWIN, 0))
    series = sorted(known["bits"].unique(), key=lambda bits: (bits != 0, -bits))  # twins, then from many bits to few
    top = max(1.0, float(known["transfer"].max()))
    with drawing(9.6, 6.4) as (figure, out):
        grid = figure.subplots(len(REGIONS), len(PREDICTORS), sharex="col", sharey=True)
        for region, row in zip(REGIONS, grid, strict=True):
            for axes, measure in zip(row, PREDICTORS, strict=True):
                for i, bits_ in enumerate(series):
                    label = f"simulated, {bits_} bits" if bits_ else TWIN
                    _dots(axes, where(known, region=region, bits=bits_), measure, i, label)
                axes.set_title(f"over the {region}", loc="left")
                percent_axis(axes, "y", top, "success, % of float's" if axes is row[0] else "")
        for axes, measure in zip(grid[-1], PREDICTORS, strict=True):
            axes.set_xlabel(MEASURES[measure])
        legend(figure, grid[0, 0])
        figure.subplots_adjust(0.07, 0.08, 0.99, 0.87 if len(series) > 5 else 0.91, wspace=0.08, hspace=0.2)
    return out[0]


def _dots(axes: Axes, rows: pd.DataFrame, measure: str, i: int, label: str) -> None:
    colour = COLOURS[i % len(COLOURS)]
    marker = MARKERS[(i + i // len(COLOURS)) % len(MARKERS)]
    axes.hlines(rows["transfer"], rows[f"{measure}_low"], rows[f"{measure}_high"], color=colour, lw=0.8, alpha=0.7)
    axes.plot(rows[measure], rows["transfer"], marker, color=colour, ms=5, mew=0, label=label)

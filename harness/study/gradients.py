"""Gradient alignment: whether a quantized network's gradients point where float's do, and what transfers."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache, partial
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from markupsafe import Markup
from matplotlib.axes import Axes
from numpy.typing import NDArray
from torch import nn

from backends.device.artifact import Pixels
from backends.device.errors import UserError
from harness.plan.cells import Case, ReplayStep
from harness.plan.steps import ArtifactStep
from harness.report.svg import COLOURS, INK, MARKERS, drawing, legend, percent_axis, short
from harness.run import stages
from harness.study.lib.correlation import correlation
from harness.study.lib.inputs import Figure, Inputs, Subject, is_simulated
from harness.study.lib.relative import relative
from harness.study.lib.similarity import mean
from harness.study.lib.words import between, bits
from patches.objectives import cross_entropies
from patches.surrogates import build
from patches.twins import KERNELS

QUESTION = "Do gradients point the same way after quantization, and does a patch transfer where they do?"
BATCH = 50
NOISE = 1  # steps of a pixel's 255 by which the float network's own images are moved, either way
FLOAT, SIMULATED, TWIN = "float, moved pixels", "simulated", "twin"
REGIONS = ("image", "patch")
MEASURES = ("cosine", "sign_agreement")


class Alignment(NamedTuple):
    """Of each image ``(n,)``: cosine (NaN where one vanishes), share of equal signs, share of zeros in the second.

    A zero agrees with a zero alone.
    """

    cosine: NDArray[np.float64]
    sign_agreement: NDArray[np.float64]
    zero_share: NDArray[np.float64]


class Compared(NamedTuple):
    """A network whose gradients are set beside float's: what it is called, its artifact, the target whose transfer."""

    name: str
    kind: str
    artifact: ArtifactStep
    target: str
    kernels: str = ""


def measure(inputs: Inputs) -> pd.DataFrame:
    """A row a network, patch and region: the gradient of the attack's loss by the pixels, beside the float network's.

    The loss is the cross entropy to the target class (untargeted: minus that to the label), image by image, on images
    with the patch. ``cosine`` (``low``, ``high``) and ``sign_agreement`` are means with t's interval over ``n``
    images, over all pixels (``image``) or those that the patch covers (``patch``). ``transfer`` is the success that the
    run counted of this patch, made on float, on this artifact and target, as a share of its success on float. The kind
    `FLOAT` is the float network beside itself on pixels moved at random by one step: what any rounding may cost.
    """
    rows = []
    for subject in inputs.subjects():
        compared = list(_compared(inputs, subject))
        own = cache(partial(_of_float, inputs, subject))
        with inputs.work.display.doing("differentiate", subject.victim.name) as tick:
            for i, one in enumerate(compared):
                tick(i, len(compared), one.name)
                made = partial(_of_one, inputs, subject, one, own)
                about = {"kind": one.kind, "artifact": one.artifact.key, "kernels": one.kernels}
                found = inputs.kept(
                    "gradients", made, **about, cases=[c.key for c in subject.patches], images=inputs.settings.images
                )
                rows += _rows(inputs, subject, one, found)
    return pd.DataFrame(rows)


def gradients(network: nn.Module, pixels: Pixels, labels: NDArray[np.int64], target_class: int | None) -> torch.Tensor:
    """The gradient of each image's loss by its pixels in [0, 1], float32 ``(n, 3, h, w)``."""
    parts = []
    for at in range(0, len(pixels), BATCH):
        x = torch.tensor(pixels[at : at + BATCH]).permute(0, 3, 1, 2).contiguous().float() / 255
        logits = network(x.requires_grad_())
        loss = cross_entropies(target_class)(logits, torch.from_numpy(labels[at : at + BATCH])).sum()
        parts.append(torch.autograd.grad(loss, x)[0])
    return torch.cat(parts)


def alignment(a: torch.Tensor, b: torch.Tensor, where: NDArray[np.bool_]) -> Alignment:
    """How two gradients ``(n, 3, h, w)`` agree on the pixels ``(n, h, w)`` of each image."""
    inside = torch.from_numpy(where)[:, None]
    count = 3.0 * inside.sum(dim=(1, 2, 3))
    a, b = (gradient.double() * inside for gradient in (a, b))
    lengths = a.flatten(1).norm(dim=1) * b.flatten(1).norm(dim=1)
    cosine = torch.where(lengths > 0, (a * b).sum(dim=(1, 2, 3)) / lengths, torch.nan)
    same = ((a.sign() == b.sign()) & inside).sum(dim=(1, 2, 3)) / count
    zero = ((b == 0) & inside).sum(dim=(1, 2, 3)) / count
    return Alignment(cosine.numpy(), same.numpy(), zero.numpy())


def _compared(inputs: Inputs, subject: Subject) -> Iterator[Compared]:
    """The float network itself, each simulated bitwidth, and the twin of each INT8 file as a target here runs it."""
    yield Compared(FLOAT, FLOAT, subject.artifacts[0], "torch")
    for artifact in subject.artifacts:
        if artifact.quant is None:
            continue
        if is_simulated(artifact):
            yield Compared(artifact.name, SIMULATED, artifact, "torch")
            continue
        for replay in inputs.work.plan.replays:
            if replay.artifact == artifact and replay.case == subject.clean and _followed(replay):
                kernels = str(replay.target.options.get("kernels", ""))
                kernels = kernels if kernels in KERNELS.get(f".{artifact.format}", ()) else ""
                yield Compared(f"{artifact.name} on {replay.target.name}", TWIN, artifact, replay.target.name, kernels)


def _followed(replay: ReplayStep) -> bool:
    """Whether twins follow the kernels of a target."""
    target = replay.target
    return target.host == "local" and target.runtime in ("litert", "onnxruntime")


def _of_float(inputs: Inputs, subject: Subject, case: Case) -> torch.Tensor:
    network = build("float", inputs.work.network(subject.victim))
    assert case.patch is not None
    return gradients(network, inputs.pixels(case), inputs.labels(case), case.patch.target_class)


def _of_one(inputs: Inputs, subject: Subject, one: Compared, own: Any) -> pd.DataFrame:
    """A row a patch and region; none where nothing differentiable can be made of a file."""
    try:
        network = _network(inputs, subject, one)
    except UserError as error:
        inputs.work.display.console.print(f"no gradients of {one.name}: {error}", markup=False, soft_wrap=True)
        return pd.DataFrame({"patch": pd.Series(dtype=str), "region": pd.Series(dtype=str)})
    rows = []
    for case in subject.patches:
        assert case.patch is not None
        pixels, labels, covered = inputs.pixels(case), inputs.labels(case), inputs.covered(case)
        if one.kind == FLOAT:
            moved = np.random.default_rng(0).choice([-NOISE, NOISE], pixels.shape)
            pixels = np.clip(pixels + moved, 0, 255).astype(np.uint8)
        found = gradients(network, pixels, labels, case.patch.target_class)
        for region, where in zip(REGIONS, (np.ones_like(covered), covered), strict=True):
            rows.append({"patch": case.patch.name, "region": region} | summary(alignment(own(case), found, where)))
    return pd.DataFrame(rows)


def _network(inputs: Inputs, subject: Subject, one: Compared) -> nn.Module:
    if one.kind == FLOAT:
        return build("float", inputs.work.network(subject.victim))
    if one.kind == SIMULATED:
        return inputs.work.simulated(one.artifact)
    described, folder = stages.artifact(inputs.work, one.artifact)
    return build(f"twin:{one.kernels}" if one.kernels else "twin", folder / f"{described.name}.json")


def summary(found: Alignment) -> dict[str, float]:
    """Means over images with t's 95 % interval."""
    row: dict[str, float] = {"n": int(np.isfinite(found.cosine).sum()), "zero_share": float(found.zero_share.mean())}
    for name in MEASURES:
        ends = ("low", "high") if name == "cosine" else (f"{name}_low", f"{name}_high")
        row |= dict(zip((name, *ends), mean(getattr(found, name)), strict=True))
    return row


def _rows(inputs: Inputs, subject: Subject, one: Compared, found: pd.DataFrame) -> list[dict[Any, Any]]:
    rows: list[dict[Any, Any]] = []
    cases = {case.patch.name: case for case in subject.patches if case.patch}
    for row in found.to_dict("records"):
        case = cases[row["patch"]]
        assert case.patch is not None
        here = relative(inputs, one.artifact, subject.artifacts[0], case)
        own = here[here["target"] == one.target]["relative"].to_numpy(float)
        rows.append(
            {
                "victim": subject.victim.name, "artifact": one.artifact.name, "name": one.name, "kind": one.kind,
                "precision": one.artifact.precision, "target": one.target, "target_class": case.patch.target_class,
                **row, "transfer": own[0] if len(own) else np.nan,
            }
        )  # fmt: skip
    return rows


def draw(table: pd.DataFrame) -> list[Figure]:
    """For each network the alignment of each precision, and the transfer against the alignment."""
    figures = []
    for victim, rows in table.groupby("victim", sort=False):
        n = f"{between(rows['n'])} images a patch, {rows['patch'].nunique()} patches"
        caption = (
            f"{victim}: cosine and share of equal signs between the float network's gradient of the attack's loss and "
            f"that of each quantized one, over the whole image and inside the patch. {n}; marks are means over "
            "patches, lines their 95 % intervals over images, likewise averaged. The first row is the float network "
            f"beside itself on pixels moved by {NOISE}/255."
        )
        figures.append(Figure(f"alignment-{victim}", caption, _by_network(str(victim), rows)))
        known = rows[(rows["kind"] != FLOAT) & rows["transfer"].notna()]
        if len(known):
            found = "; ".join(
                f"over the {region} Spearman's rho {correlation(p['cosine'], p['transfer'], groups=p['name'])}, "
                f"Pearson's r {correlation(p['cosine'], p['transfer'], 'pearson', p['name'])}"
                for region, p in known.groupby("region", sort=False)
            )
            caption = (
                f"{victim}: success of patches made on float, as a share of their success on float, against the cosine "
                f"of gradients. A mark is a patch on a quantized network, but of patches whose success on float is too "
                f"small to share; {n}. Correlations with 95 % intervals "
                f"(bootstrap over networks, each with its patches): {found}."
            )
            figures.append(Figure(f"transfer-{victim}", caption, _against(known)))
    return figures


def _by_network(victim: str, rows: pd.DataFrame) -> Markup:
    names = list(dict.fromkeys(rows["name"]))
    height = 1.0 + 0.24 * len(names)
    with drawing(9.6, height) as (figure, out):
        grid = figure.subplots(1, 2, sharey=True)
        for axes, measure in zip(grid, MEASURES, strict=True):
            ends = ("low", "high") if measure == "cosine" else (f"{measure}_low", f"{measure}_high")
            for i, region in enumerate(REGIONS):
                part = rows[rows["region"] == region].groupby("name")[[measure, *ends]].mean().reindex(names)
                y = np.arange(len(names)) + 0.16 * (2 * i - 1)
                axes.hlines(y, part[ends[0]], part[ends[1]], color=COLOURS[i], lw=1.4)
                axes.plot(part[measure], y, MARKERS[i], color=COLOURS[i], ms=4.5, label=f"over the {region}")
            axes.set_xlabel(measure.replace("_", " ") + (", %" if measure != "cosine" else ""))
            axes.grid(axis="x")
        percent_axis(grid[1], "x", 1.0, "equal signs, %")
        grid[0].set_xlim(min(0.0, float(rows["low"].min())), 1.02)
        grid[0].set_ylim(len(names) - 0.5, -0.5)
        grid[0].set_yticks(range(len(names)), [short(name.removeprefix(f"{victim}-"), 42) for name in names], color=INK)
        legend(figure, grid[0])
        figure.subplots_adjust(0.34, 0.45 / height, 0.98, 1 - 0.3 / height, wspace=0.08)
    return out[0]


def _against(known: pd.DataFrame) -> Markup:
    labels = [kind if kind == TWIN else f"simulated, {bits(p)[0]} bits"
              for kind, p in zip(known["kind"], known["precision"], strict=True)]  # fmt: skip
    known = known.assign(label=labels)
    names = sorted(set(labels), key=lambda name: (name != TWIN, -int("0" + "".join(filter(str.isdigit, name)))))
    top = max(1.0, float(known["transfer"].max()))
    with drawing(9.6, 3.7) as (figure, out):
        grid = figure.subplots(1, 2, sharey=True)
        for axes, region in zip(grid, REGIONS, strict=True):
            _dots(axes, known[known["region"] == region], names)
            axes.set_title(f"over the {region}", loc="left")
            axes.set_xlabel("cosine with the float network's gradient")
            percent_axis(axes, "y", top, "success, % of float's" if axes is grid[0] else "")
        legend(figure, grid[0])
        figure.subplots_adjust(0.07, 0.13, 0.99, 0.78 if len(names) > 5 else 0.84, wspace=0.08)
    return out[0]


def _dots(axes: Axes, rows: pd.DataFrame, names: list[str]) -> None:
    for i, name in enumerate(names):
        part = rows[rows["label"] == name]
        colour, marker = COLOURS[i % len(COLOURS)], MARKERS[(i + i // len(COLOURS)) % len(MARKERS)]
        axes.hlines(part["transfer"], part["low"], part["high"], color=colour, lw=0.8, alpha=0.7)
        axes.plot(part["cosine"], part["transfer"], marker, color=colour, ms=5, mew=0, label=name)

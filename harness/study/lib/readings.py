"""Activations read out: of a torch graph by watching it, of a file by cutting it there and replaying it on a device."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch.fx import GraphModule

from backends.device.artifact import Pixels, sha256_file
from backends.device.bundle import write_bundle
from backends.device.errors import UserError
from backends.hosts import Target, prepare, replay
from exporters.files import describe as describe_file
from exporters.files import onnx_cut, tflite_cut
from exporters.files.description import Description
from exporters.ranges import sources
from harness.plan.cells import Case
from harness.plan.steps import ArtifactStep
from harness.run import crafting, stages
from harness.run.stages import Work
from harness.study.lib.layers import LOGITS, Layer, Place, find
from patches.fake_quant.network import Grid, watch
from patches.fake_quant.rounding import Fixed

FEATURES = 1 << 15  # of a layer with more so many are looked at, chosen once by a seed
BATCH_PIXELS = 200 * 32 * 32  # that a torch graph is given at a time


class Reading(NamedTuple):
    """A layer's activations ``(images, features)`` in torch's order, as reals or as a file's integers."""

    raw: NDArray[Any]
    grid: Grid | None
    zero_point: int = 0

    @property
    def values(self) -> NDArray[np.float32]:
        """The reals."""
        if self.grid is None or self.raw.dtype == np.float32:
            return np.asarray(self.raw, np.float32)
        return (self.raw.astype(np.float32) - np.float32(self.zero_point)) * np.float32(self.grid.step)

    @property
    def saturated(self) -> float:
        """The share of activations at the lowest or highest level, where that is not zero; NaN without levels."""
        if self.grid is None:
            return float("nan")
        levels = np.rint(self.values / np.float32(self.grid.step))
        ends = [end for end in (self.grid.low, self.grid.high) if end != 0]
        return float(np.isin(levels, ends).mean())


Readings = dict[str, Reading]  # by the layer's name
Shapes = Mapping[str, tuple[int, ...]]  # of a layer's activations for one image, in torch


def of_torch(
    graph: GraphModule, layers: list[Layer], described: Description, pixels: Pixels
) -> tuple[Readings, Shapes]:
    """The layers of a folded graph, or of a simulation made of it, for uint8 ``(n, h, w, 3)``."""
    source, modules = sources(described), dict(graph.named_children())
    # What an operator only moves has no rounding of its own, but lies on the levels of what it was made of.
    nodes = {one.name: q if (q := f"{one.tensor}_quantizer") in modules else one.tensor for one in layers}
    size = max(1, BATCH_PIXELS // (pixels.shape[1] * pixels.shape[2]))
    parts: list[Mapping[str, Any]] = []
    shapes: dict[str, tuple[int, ...]] = {}
    for start in range(0, len(pixels), size):
        seen = watch(graph, list(nodes.values()), pixels[start : start + size])
        shapes = {name: seen[node].shape[1:] for name, node in nodes.items()}
        parts.append({name: thinned(seen[node].reshape(len(seen[node]), -1)) for name, node in nodes.items()})
    readings = {}
    for one in layers:
        rounding = modules.get(f"{source[one.tensor]}_quantizer")
        grid = Grid(float(rounding.step), rounding.low, rounding.high) if isinstance(rounding, Fixed) else None
        readings[one.name] = Reading(np.concatenate([part[one.name] for part in parts]), grid)
    return readings, shapes


def thinned(features: NDArray[Any]) -> NDArray[Any]:
    """At most `FEATURES` columns, the same ones wherever there are as many."""
    every = features.shape[1]
    if every <= FEATURES:
        return features
    return features[:, np.sort(np.random.default_rng(every).choice(every, FEATURES, replace=False))]


def of_device(
    work: Work,
    step: ArtifactStep,
    target: Target,
    layers: list[Layer],
    described: Description,
    shapes: Shapes,
    cases: list[Case],
    images: int,
) -> dict[Case, Readings]:
    """The layers of a file as a target computes them, up to there, for the first images of some cases.

    A target that cannot, and a file whose layers are not the network's, is a `UserError`.
    """
    artifact, folder = stages.artifact(work, step)
    places = find(layers, describe_file(folder / artifact.file), described)
    seen = stages.images(work, cases[0].data, cases[0].split)
    pixels, stamps = np.array(seen.pixels[:images]), {}
    for case in cases:
        lying = crafting.stamps(work, case, seen.ids)
        stamps[case.name] = None if lying is None else lying.of(slice(len(pixels)))
    prepare(target)
    readings: dict[Case, Readings] = {case: {} for case in cases}
    with work.display.doing("read", f"{step.name} on {target.name}, {len(layers)} layers") as tick:
        for done, layer in enumerate(layers):
            tick(done, len(layers), layer.name)
            place, shape = places[layer.name], shapes[layer.name]
            with tempfile.TemporaryDirectory(dir=work.store.scratch) as scratch:
                file = folder / artifact.file if layer.name == LOGITS else Path(scratch) / artifact.file
                if layer.name != LOGITS:
                    cut(folder / artifact.file, place, file)
                known = replace(artifact, sha256=sha256_file(file), classes=1, class_offset=0, file=file.name)
                root = write_bundle(Path(scratch) / "bundle", known, file, pixels, stamps).root
                outcome = replay(target, root, Path(scratch) / "out")
                if outcome.errors:
                    raise UserError(
                        f"{step.name} on {target.name}, {layer.name}: {next(iter(outcome.errors.values()))}"
                    )
                for case in cases:
                    with np.load(outcome.files[case.name], allow_pickle=False) as arrays:
                        raw = arrays.get("integers", arrays["logits"])
                    raw = in_torchs_order(raw, shape, artifact.format, f"{step.name}, {layer.name}")
                    readings[case][layer.name] = Reading(thinned(raw), place.grid, place.zero_point)
    return readings


def cut(file: Path, place: Place, into: Path) -> None:
    """Writes a copy of a file that ends at a place."""
    cutter: Callable[[Path, str, Path], None] = {".onnx": onnx_cut.cut, ".tflite": tflite_cut.cut}[file.suffix]
    cutter(file, place.tensor, into)


def in_torchs_order(raw: NDArray[Any], shape: tuple[int, ...], format: str, what: str) -> NDArray[Any]:
    """A device's answers ``(n, outputs)`` with channels first; a wrong number of them is a `UserError`."""
    if raw.shape[1] != np.prod(shape):
        raise UserError(f"{what}: expected {np.prod(shape)} activations {shape} as in the network, got {raw.shape[1]}")
    if format != "tflite" or len(shape) != 3:
        return raw
    channels, height, width = shape
    return raw.reshape(-1, height, width, channels).transpose(0, 3, 1, 2).reshape(len(raw), -1)

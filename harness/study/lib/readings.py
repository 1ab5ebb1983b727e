"""Readings: a layer's activations, watched in a torch graph, or replayed on a device from a file cut at that layer."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch.fx import GraphModule

from backends.answers import read_answers
from backends.device.artifact import Pixels, sha256_file
from backends.device.bundle import Stamps, write_bundle
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

FEATURES = 1 << 15  # of a wider layer so many are kept, the same ones each time
BATCH_PIXELS = 200 * 32 * 32  # per batch of a torch graph


class Reading(NamedTuple):
    """A layer's activations ``(images, features)`` in torch's order, as reals or as a file's integers."""

    raw: NDArray[Any]
    grid: Grid | None
    zero_point: int = 0

    @property
    def values(self) -> NDArray[np.float32]:
        """The activations as reals."""
        if self.grid is None or self.raw.dtype == np.float32:
            return np.asarray(self.raw, np.float32)
        return (self.raw.astype(np.float32) - np.float32(self.zero_point)) * np.float32(self.grid.step)

    @property
    def saturated(self) -> float:
        """The share of activations at the lowest or highest level, unless that is zero; NaN without levels."""
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
    """Read the layers of a folded graph, or of a simulation made from it, on uint8 ``(n, h, w, 3)``."""
    modules = dict(graph.named_children())
    nodes = {}
    for layer in layers:
        quantizer = f"{layer.tensor}_quantizer"
        nodes[layer.name] = quantizer if quantizer in modules else layer.tensor
    size = max(1, BATCH_PIXELS // (pixels.shape[1] * pixels.shape[2]))
    parts: dict[str, list[NDArray[Any]]] = {name: [] for name in nodes}
    shapes: dict[str, tuple[int, ...]] = {}
    for start in range(0, len(pixels), size):
        seen = watch(graph, list(nodes.values()), pixels[start : start + size])
        for name, node in nodes.items():
            shapes[name] = seen[node].shape[1:]
            parts[name].append(thinned(seen[node].reshape(len(seen[node]), -1)))
    source = sources(described)
    readings = {}
    for layer in layers:
        # The output of a mover is not rounded itself, but lies on the levels of the tensor that it moves.
        rounding = modules.get(f"{source[layer.tensor]}_quantizer")
        grid = Grid(float(rounding.step), rounding.low, rounding.high) if isinstance(rounding, Fixed) else None
        readings[layer.name] = Reading(np.concatenate(parts[layer.name]), grid)
    return readings, shapes


def thinned(features: NDArray[Any]) -> NDArray[Any]:
    """Return at most `FEATURES` columns, the same ones for the same number of columns."""
    width = features.shape[1]
    if width <= FEATURES:
        return features
    chosen = np.random.default_rng(width).choice(width, FEATURES, replace=False)
    return features[:, np.sort(chosen)]


@dataclass(frozen=True)
class DeviceReader:
    """Reads the layers of a file as a target computes them, for the first ``images`` of some cases.

    ``described`` is the torch graph that the file was exported from, ``shapes`` those of its layers.
    """

    work: Work
    step: ArtifactStep
    target: Target
    layers: list[Layer]
    described: Description
    shapes: Shapes
    images: int

    def read(self, cases: list[Case]) -> dict[Case, Readings]:
        """Read every layer; a target that fails, or a file with other layers, is a `UserError`."""
        artifact, folder = stages.artifact(self.work, self.step)
        places = find(self.layers, describe_file(folder / artifact.file), self.described)
        pixels, stamps = self._pasted(cases)
        prepare(self.target)
        readings: dict[Case, Readings] = {case: {} for case in cases}
        what = f"{self.step.name} on {self.target.name}, {len(self.layers)} layers"
        with self.work.display.doing("read", what) as tick:
            for done, layer in enumerate(self.layers):
                tick(done, len(self.layers), layer.name)
                place = places[layer.name]
                answers = self._replay(layer, place, pixels, stamps)
                for case in cases:
                    raw = in_torchs_order(
                        answers[case.name], self.shapes[layer.name], artifact.format, f"{self.step.name}, {layer.name}"
                    )
                    readings[case][layer.name] = Reading(thinned(raw), place.grid, place.zero_point)
        return readings

    def _pasted(self, cases: list[Case]) -> tuple[Pixels, dict[str, Stamps | None]]:
        seen = stages.images(self.work, cases[0].data, cases[0].split)
        pixels = np.array(seen.pixels[: self.images])
        stamps = {}
        for case in cases:
            every = crafting.stamps(self.work, case, seen.ids)
            stamps[case.name] = None if every is None else every.of(slice(len(pixels)))
        return pixels, stamps

    def _replay(
        self, layer: Layer, place: Place, pixels: Pixels, stamps: dict[str, Stamps | None]
    ) -> dict[str, NDArray[Any]]:
        """Replay the file up to a layer and return each case's outputs ``(n, outputs)``, integers where it has any."""
        artifact, folder = stages.artifact(self.work, self.step)
        with tempfile.TemporaryDirectory(dir=self.work.store.scratch) as scratch:
            file = folder / artifact.file
            if layer.name != LOGITS:
                whole = file
                file = Path(scratch) / artifact.file
                cut(whole, place, file)
            cut_artifact = replace(artifact, sha256=sha256_file(file), classes=1, class_offset=0, file=file.name)
            bundle = write_bundle(Path(scratch) / "bundle", cut_artifact, file, pixels, stamps)
            outcome = replay(self.target, bundle.root, Path(scratch) / "out")
            if outcome.errors:
                error = next(iter(outcome.errors.values()))
                raise UserError(f"{self.step.name} on {self.target.name}, {layer.name}: {error}")
            answers = {}
            for name in stamps:
                arrays = read_answers(outcome.files[name], (len(pixels), None))
                answers[name] = arrays.get("integers", arrays["logits"])
            return answers


def cut(file: Path, place: Place, into: Path) -> None:
    """Write a copy of a file that ends at a place."""
    cutter: Callable[[Path, str, Path], None] = {".onnx": onnx_cut.cut, ".tflite": tflite_cut.cut}[file.suffix]
    cutter(file, place.tensor, into)


def in_torchs_order(raw: NDArray[Any], shape: tuple[int, ...], format: str, what: str) -> NDArray[Any]:
    """Return a device's outputs ``(n, outputs)`` with channels first; a wrong number of outputs is a `UserError`."""
    if raw.shape[1] != np.prod(shape):
        raise UserError(f"{what}: expected the network's {np.prod(shape)} activations {shape}, got {raw.shape[1]}")
    if format != "tflite" or len(shape) != 3:
        return raw
    channels, height, width = shape
    return raw.reshape(-1, height, width, channels).transpose(0, 3, 1, 2).reshape(len(raw), -1)

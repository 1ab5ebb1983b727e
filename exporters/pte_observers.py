"""Quantize a graph by PT2E, with XNNPACK's annotations and the ranges of a `QuantSpec`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torchao.quantization.pt2e import ObserverBase
from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e
from torchao.quantization.pt2e.quantizer import (
    QuantizationAnnotation,
    QuantizationConfig,
    QuantizationSpec,
    SharedQuantizationSpec,
)
from torchao.quantization.pt2e.quantizer.utils import Q_ANNOTATION_KEY

from backends.device.artifact import QuantSpec
from exporters.calibration import Affine, Floats, Range, activation_affine
from exporters.ranges import PIXELS, Learned, Weights, quantized_weights

aten = torch.ops.aten
PADS = (aten.pad.default, aten.constant_pad_nd.default)
PRODUCTS = (aten.conv2d.default, aten.linear.default, aten.conv_transpose2d.input)
CONVOLUTIONS = (aten.conv2d.default,)
CLIPS = (aten.hardtanh.default, aten.hardtanh_.default, aten.relu6.default, aten.clamp.default)


class Activation(ObserverBase):  # type: ignore[misc]
    """Keeps what passes, and gives the scale and zero point that it is told."""

    def __init__(self, dtype: torch.dtype, **settings: Any) -> None:
        super().__init__(dtype)
        self.quant_min, self.quant_max = settings["quant_min"], settings["quant_max"]
        self.qscheme, self.ch_axis = settings["qscheme"], settings.get("ch_axis")
        self.passed: list[Floats] = []
        self.scale: Tensor = torch.ones(1)
        self.zero_point: Tensor = torch.zeros(1, dtype=torch.int64)

    def forward(self, x: Tensor) -> Tensor:
        """Return what comes."""
        self.passed.append(x.detach().numpy().ravel())
        return x

    def calculate_qparams(self, **_: Any) -> tuple[Tensor, Tensor]:
        """Return scale and zero point, as PT2E calls them."""
        return self.scale, self.zero_point


class WholeWeights(Activation):
    """Of a weight tensor with one scale."""

    def forward(self, x: Tensor) -> Tensor:
        """Return what comes."""
        return x


class PerChannelWeights(WholeWeights):
    """Of a weight tensor with a scale for each channel; PT2E looks for the word in the name."""


class Observers:
    """A graph with an observer wherever XNNPACK quantizes, the same one where it shares a scale."""

    def __init__(self, graph: Any) -> None:
        self.graph = graph
        calls = [node for node in graph.graph.nodes if node.op == "call_module"]
        self._observed = {node: graph.get_submodule(node.target) for node in calls}
        self._names: dict[Activation, str] = {}
        self._fixed: dict[Activation, Range] = {}
        for node, observer in self._observed.items():
            if isinstance(observer, WholeWeights):
                continue
            source = node.args[0]
            self._names.setdefault(observer, source.name)
            if source.op == "placeholder":
                self._fixed[observer] = PIXELS
            elif source.op == "get_attr":
                values = _attribute(graph, source.target)
                low, high = float(values.min()), float(values.max())
                self._fixed[observer] = (low, high) if low or high else PIXELS
        self.activations: dict[str, Affine] = {}
        self.weights: list[Weights] = []

    @classmethod
    def prepare(cls, graph: Any, quant: QuantSpec) -> Observers:
        """Put observers into a graph; batch normalisation is folded into convolutions."""
        return cls(prepare_pt2e(graph, _quantizer(quant)))

    def seen(self, images: Iterable[Tensor]) -> dict[str, Floats]:
        """Return what passes the observers to be calibrated, by name, over images."""
        for observer in self._names:
            observer.passed.clear()
        with torch.no_grad():
            for image in images:
                self.graph(image)
        return {
            name: np.concatenate(observer.passed)
            for observer, name in self._names.items()
            if observer not in self._fixed
        }

    def settle(self, collected: Mapping[str, Range], quant: QuantSpec, learned: Learned = ()) -> None:
        """Give every observer its scale: activations by their ranges, weights by their values."""
        for observer, name in self._names.items():
            observer.passed.clear()
            affine = activation_affine(name, self._fixed.get(observer) or collected[name], quant)
            self.activations[name] = affine
            observer.scale = torch.tensor([affine.scale], dtype=torch.float64)
            observer.zero_point = torch.tensor([affine.zero_point])
        for node in self.graph.graph.nodes:
            if node.target not in PRODUCTS or not isinstance(self._observed.get(node.args[1]), WholeWeights):
                continue
            entry, weight = (self._observed[operand] for operand in node.args[:2])
            values = _attribute(self.graph, node.args[1].args[0].target)
            bias = _attribute(self.graph, node.args[2].target) if len(node.args) > 2 and node.args[2] else None
            axis = 1 if node.target is aten.conv_transpose2d.input else 0
            found = quantized_weights(values, axis, bias, float(entry.scale), quant, learned)
            self.weights.append(found)
            weight.scale = torch.tensor(found.scales, dtype=torch.float32)
            weight.zero_point = torch.zeros(len(found.scales), dtype=torch.int64)

    def converted(self) -> nn.Module:
        """Return the graph with quantizers and dequantizers in place of the observers."""
        module: nn.Module = convert_pt2e(self.graph)
        return module


def _attribute(graph: Any, name: str) -> NDArray[np.float32]:
    module, _, last = name.rpartition(".")
    values: NDArray[np.float32] = getattr(graph.get_submodule(module), last).detach().numpy()
    return values


def _quantizer(quant: QuantSpec) -> Any:
    from executorch.backends.xnnpack.quantizer.xnnpack_quantizer import XNNPACKQuantizer
    from executorch.backends.xnnpack.quantizer.xnnpack_quantizer_utils import propagate_annotation

    class Quantizer(XNNPACKQuantizer):  # type: ignore[misc]
        """XNNPACK's, which also takes a convolution and the clip after it, such as ReLU6, for one operator."""

        def annotate(self, model: Any) -> Any:
            _annotate_clips(model, config)
            annotated = super().annotate(model)
            _annotate_padding(model)
            propagate_annotation(model)
            return annotated

    highest = 2 ** (quant.weight_bits - 1) - 1
    schemes = {True: torch.per_channel_symmetric, False: torch.per_tensor_symmetric}
    activations = QuantizationSpec(torch.int8, Activation, -128, 127, torch.per_tensor_affine, is_dynamic=False)
    weights = QuantizationSpec(
        torch.int8, PerChannelWeights if quant.per_channel else WholeWeights, -highest, highest,
        schemes[quant.per_channel], 0, is_dynamic=False,
    )  # fmt: skip
    config = QuantizationConfig(activations, activations, weights, None)
    return Quantizer().set_global(config)


def _annotate_clips(model: Any, config: QuantizationConfig) -> None:
    for clip in model.graph.nodes:
        if clip.target not in CLIPS:
            continue
        convolution = clip.args[0]
        if convolution.target not in CONVOLUTIONS or len(convolution.users) > 1:
            continue
        inputs = {convolution.args[0]: config.input_activation, convolution.args[1]: config.weight}
        if len(convolution.args) > 2 and convolution.args[2] is not None:
            inputs[convolution.args[2]] = None
        convolution.meta[Q_ANNOTATION_KEY] = QuantizationAnnotation(inputs, _annotated=True)
        clip.meta[Q_ANNOTATION_KEY] = QuantizationAnnotation(output_qspec=config.output_activation, _annotated=True)


def _annotate_padding(model: Any) -> None:
    """Let zero padding share its input's scale, as XNNPACK pads integers."""
    for pad in model.graph.nodes:
        if pad.target not in PADS or any(pad.args[2 if pad.target is aten.constant_pad_nd.default else 3 :]):
            continue
        source = pad.args[0]
        annotation = source.meta.get(Q_ANNOTATION_KEY)
        if annotation is not None and annotation.output_qspec is not None:
            shared = SharedQuantizationSpec(source)
            pad.meta[Q_ANNOTATION_KEY] = QuantizationAnnotation({source: shared}, shared, _annotated=True)

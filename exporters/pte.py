"""Write a network for ExecuTorch, lowered to XNNPACK: float, or INT8 between a float input and output."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from backends.device.artifact import Layout, Pixels, QuantSpec
from backends.device.errors import UserError
from exporters.calibration import Floats, batches, collector, require_spans
from exporters.failure import reason
from exporters.files import require_integer
from exporters.files.description import Description
from exporters.pooling import adaptive_avg_pool2d, rewritten
from exporters.pte_graph import as_xnnpack_takes_it
from exporters.pte_observers import Observers
from exporters.pte_proof import require_scales
from exporters.quiet import quiet
from exporters.ranges import Learned
from exporters.sub_pixel import sub_pixel
from exporters.victim import Victim

LAYOUT: Layout = "nchw"
PACKAGE = "executorch"


def write(
    network: nn.Module, victim: Victim, quant: QuantSpec | None, pixels: Pixels, path: Path, learned: Learned = ()
) -> Description | None:
    """Write the network to ``path``: from one image, float32 ``(1, 3, h, w)`` in [0, 1], to logits.

    An INT8 file's description is returned, once it is proven.
    """
    if quant is not None and not (quant.activation_signed and quant.weight_signed):
        raise UserError(f"XNNPACK's integers are signed, got {quant.signature}: use s8s8, or ONNX")
    _require_package()
    example = torch.zeros(1, 3, *victim.input_size)
    module = _captured(network, victim, example)
    if quant is None:
        path.write_bytes(_lowered(victim, module, example))
        return None
    try:
        with quiet():
            observers = Observers.prepare(module, quant)
    except Exception as error:  # torchao's passes raise what they meet
        raise _refused(victim, error) from error
    statistic = collector(quant)
    for batch in run(observers, pixels, quant):
        statistic.feed(batch)
    collected = statistic.ranges()
    require_spans(collected)
    observers.settle(collected, quant, learned)
    path.write_bytes(_lowered(victim, observers.converted(), example))
    file = require_integer(path, quant.allow_float)
    require_scales(file, observers, quant)
    return file


def _require_package() -> None:
    try:
        with quiet():
            import executorch.exir  # noqa: F401
    except ImportError as error:
        raise UserError(
            f"{PACKAGE} cannot be imported ({error}), which writes .pte files: pip install 'patchbench[executorch]'"
        ) from error


def _captured(network: nn.Module, victim: Victim, example: torch.Tensor) -> Any:
    """Return the network as a graph of torch's operators."""
    try:
        with quiet(), rewritten(adaptive_avg_pool2d):
            graph = torch.export.export(sub_pixel(network), (example,)).module(check_guards=False)
            return torch.export.export(as_xnnpack_takes_it(graph), (example,)).module(check_guards=False)
    except Exception as error:  # torch's exporter raises what it meets
        raise _refused(victim, error) from error


def run(observers: Observers, pixels: Pixels, quant: QuantSpec) -> Iterable[dict[str, Floats]]:
    """Yield the activations over the calibration images; the graph takes one at a time, so a batch is merged."""
    for batch in batches(pixels, quant):
        x = np.ascontiguousarray(batch.transpose(0, 3, 1, 2), np.float32) / np.float32(255)
        yield observers.seen(torch.from_numpy(x[i : i + 1]) for i in range(len(x)))


def _lowered(victim: Victim, module: Any, example: torch.Tensor) -> bytes:
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.exir import to_edge_transform_and_lower

    try:
        with quiet():
            program = torch.export.export(module, (example,))
            edge = to_edge_transform_and_lower(program, partitioner=[XnnpackPartitioner()])
            return bytes(edge.to_executorch().buffer)
    except Exception as error:  # ExecuTorch's passes raise what they meet
        raise _refused(victim, error) from error


def _refused(victim: Victim, error: Exception) -> UserError:
    return UserError(f"{victim.name}: ExecuTorch cannot take this network: {reason(error)}")

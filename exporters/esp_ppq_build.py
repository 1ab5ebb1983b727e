"""Quantize a network with Espressif's esp-ppq and look at its layers: a program for esp-ppq's own environment.

``python -m exporters.esp_ppq_build`` reads and writes files of its folder: the float network ``network.onnx``,
``asked.json`` (`Asked`) and ``images.npy``, float32 ``(n, 3, h, w)``; the chip's ``network.espdl``, ``answer.json``,
and ``golden.npy``, esp-ppq's own logits in float.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from math import log2
from pathlib import Path
from typing import Any, TypedDict

import numpy as np

from backends.device.esp_ppq import NETWORK, Build
from backends.device.runtimes.esp_ppq import APART, GIVEN, TO_OUTPUT, exponents_of, quantized
from exporters.likeness import cosine

ASKED, FILE, ANSWER, GOLDEN = "asked.json", "network.espdl", "answer.json", "golden.npy"
DEFAULT = "kl_to_output"  # the calibration of esp-ppq that leaves sums as its own settings have them
SUMS = ("Add", "Sub", "Sum")  # as esp-ppq aligns them


class Asked(TypedDict):
    """What to build: by a calibration of esp-ppq's, or with exponents by ONNX's names; and how many images to hold."""

    calibration: str
    exponents: dict[str, int]
    held: int


def main() -> None:
    """Build, and write what there is to see."""
    import torch
    from esp_ppq.api import load_onnx_graph
    from esp_ppq.parser.espdl_exporter import EspdlExporter

    torch.set_num_threads(1)
    asked: Asked = json.loads(Path(ASKED).read_text())
    images = np.load("images.npy", allow_pickle=False)
    calibration = asked["calibration"] or GIVEN
    own = calibration == DEFAULT
    first = quantized(
        Path(NETWORK), images, "kl" if own else calibration, asked["exponents"], TO_OUTPUT if own else APART
    )
    table = _calibrated(first)
    if not own:
        _widen_sums(first, table)
    graph = quantized(Path(NETWORK), images[:2], GIVEN, table)
    EspdlExporter().export(FILE, graph, export_config=False)
    held = images[: asked["held"]]
    names = [
        variable.name
        for operation in graph.topological_sort()
        for variable in operation.outputs
        if variable.dtype.name.startswith("FP")
    ]
    floats, integers = (_values(one, held, names) for one in (load_onnx_graph(NETWORK), graph))
    Path(ANSWER).write_text(
        json.dumps(
            {
                "build": asdict(Build(table, (1, *images.shape[1:]))),
                "simulated": exponents_of(graph),
                "cosines": [(name, cosine(x, y)) for name, x, y in zip(names, floats, integers, strict=True)],
            }
        )
    )
    np.save(GOLDEN, floats[-1])


def _calibrated(graph: Any) -> dict[str, int]:
    """Return the exponents of the activations that esp-ppq calibrates; all others have one of theirs."""
    return {
        variable.name: _exponent(config)
        for operation in graph.topological_sort()
        for config, variable in operation.config_with_variable
        if not variable.is_parameter and config.dominated_by is config and config.state.name == "ACTIVATED"
    }


def _widen_sums(graph: Any, table: dict[str, int]) -> None:
    """Give each sum the largest scale of what it adds and gives: the chip adds integers as they are."""
    masters = {
        config: variable.name
        for operation in graph.topological_sort()
        for config, variable in operation.config_with_variable
        if variable.name in table and config.dominated_by is config
    }
    for operation in graph.topological_sort():
        if operation.type in SUMS:
            output = operation.output_quant_config[0].dominated_by
            terms = [config.dominated_by for config in operation.input_quant_config]
            table[masters[output]] = max(
                table[masters[one]] if one in masters else _exponent(one) for one in (output, *terms)
            )


def _exponent(config: Any) -> int:
    return round(log2(config.scale.item()))


def _values(graph: Any, images: np.ndarray, names: Sequence[str]) -> list[np.ndarray]:
    """Return activations of a graph over the images, flat for each image."""
    import torch
    from esp_ppq.executor import TorchExecutor

    executor = TorchExecutor(graph, device="cpu")
    rows = [executor.forward(torch.from_numpy(image[None]), output_names=list(names)) for image in images]
    return [np.concatenate([row[i].numpy().reshape(1, -1) for row in rows]) for i in range(len(names))]


if __name__ == "__main__":
    main()

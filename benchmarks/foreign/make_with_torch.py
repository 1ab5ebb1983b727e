"""Write files as NNCF, Brevitas and PyTorch's PT2E do: ``python benchmarks/foreign/make_with_torch.py FOLDER``.

Needs an environment of its own with ``torch torchao onnx onnxruntime onnxscript nncf brevitas onnxoptimizer``, and the
images that ``make.py`` wrote to FOLDER. NNCF quantizes the ONNX file: what it makes of a PyTorch module, torch 2.13
cannot export.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from network import Residual, as_input, plain, trained
from torch import nn

CALIBRATION = 128
Make = Callable[[nn.Module, torch.Tensor, Path], None]


def main(folder: Path) -> None:
    """Write a file of each kind; print those that their library cannot make."""
    with np.load(folder / "images.npz") as made:
        pixels, labels = made["train"], made["train_labels"]
    images = as_input(pixels[:CALIBRATION])
    torch.manual_seed(0)
    networks = {"plain": trained(plain(), pixels, labels), "residual": trained(Residual(), pixels, labels)}
    for kind, make in KINDS.items():
        for name, network in networks.items():
            try:
                make(network, images, folder / f"{kind}, {name}.onnx")
            except Exception as error:  # each library has its own
                print(f"{kind}, {name}: not made, {type(error).__name__}: {error}".splitlines()[0])


def _float_file(network: nn.Module, images: torch.Tensor, into: Path, **settings: Any) -> None:
    torch.onnx.export(
        network, (images[:1],), into, dynamo=True, opset_version=20, verbose=False, external_data=False, **settings
    )


def _nncf(network: nn.Module, images: torch.Tensor, into: Path) -> None:
    import nncf
    import onnx

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "float.onnx"
        _float_file(network, images, file)
        model = onnx.load(file)
    name = model.graph.input[0].name
    data = nncf.Dataset(list(images.numpy()), lambda image: {name: image[None]})
    onnx.save(nncf.quantize(model, data, subset_size=CALIBRATION), into)


def _brevitas(network: nn.Module, images: torch.Tensor, into: Path) -> None:
    from brevitas.export import export_onnx_qcdq
    from brevitas.graph.calibrate import calibration_mode
    from brevitas.graph.quantize import preprocess_for_quantize, quantize

    traced = preprocess_for_quantize(network, equalize_iters=0, merge_bn=True)
    quantized = quantize(traced)
    with torch.no_grad(), calibration_mode(quantized):
        quantized(images)
    export_onnx_qcdq(quantized.eval(), args=images[:1], export_path=str(into), opset_version=17, dynamo=False)


def _pt2e(network: nn.Module, images: torch.Tensor, into: Path) -> None:
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e
    from torchao.quantization.pt2e.quantizer.x86_inductor_quantizer import (
        X86InductorQuantizer,
        get_default_x86_inductor_quantization_config,
    )

    prepared = prepare_pt2e(
        torch.export.export(network, (images[:1],)).module(),
        X86InductorQuantizer().set_global(get_default_x86_inductor_quantization_config()),
    )
    with torch.no_grad():
        for image in images:
            prepared(image[None])
    converted = torch.export.export(convert_pt2e(prepared), (images[:1],)).module()
    by_channel = torch.ops.quantized_decomposed.dequantize_per_channel.default
    _float_file(converted, images, into, custom_translation_table={by_channel: _dequantized_by_channel})


def _dequantized_by_channel(x, scales, zero_points, axis: int, low: int, high: int, dtype: int):
    """Translate what torch's exporter knows per tensor alone."""
    from onnx import TensorProto
    from onnxscript import opset20 as op

    return op.DequantizeLinear(x, scales, op.Cast(zero_points, to=TensorProto.INT8), axis=axis)


KINDS: dict[str, Make] = {
    "PyTorch PT2E": _pt2e,  # first: Brevitas changes torch for its own export
    "NNCF": _nncf,
    "Brevitas": _brevitas,
}

if __name__ == "__main__":
    main(Path(sys.argv[1]))

"""An INT8 file as a torch module, without a suite."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from backends.device.artifact import Preproc
from backends.device.errors import UserError
from exporters.files import describe, prove
from exporters.files.description import Description
from exporters.files.image_input import certain_preproc, image_size
from exporters.files.input_range import held
from harness.api.files import READ_WITH, description_of, layout_of, warn_of_misfit
from harness.extras import require
from harness.run.trial import require_survived

if TYPE_CHECKING:
    from harness.api.networks import FileTwin


def twin(file: str | Path, kernels: str | None = None, preproc: Preproc | None = None) -> FileTwin:
    """Rebuild an INT8 file as a frozen torch module: forward the runtime's integers, backward straight-through.

    It takes float32 ``(n, 3, h, w)`` RGB in [0, 1], in batches of any size, and gives logits ``(n, outputs)``: what the
    file's integers before any final softmax mean, in the file's own order, a background class included. The integers
    themselves are ``twin(file).integers(x)``. Attack libraries take it as they take any network.

    A device is shown uint8. So the module rounds pixels to the nearest of 256 levels, as ``(x * 255).round()`` does,
    and gradients pass that rounding unchanged: what it says of pixels in float, a device says of them rounded. Values
    outside [0, 1], another shape and another dtype are a `UserError`.

    So is a file with an operator that no twin knows, and one of unknown preprocessing: what `export` wrote beside the
    file counts, which `preproc` may not contradict, then `preproc`, then the range of an input that can only hold plain
    pixels. A `preproc` that sends other values than the input holds is warned of.

    Args:
        file: The ``.onnx``, ``.tflite`` or ``.pte`` file.
        kernels: Whose arithmetic to follow: ``xnnpack`` (the default), ``builtin`` or ``reference`` for ``.tflite``,
            ``onnxruntime`` for ``.onnx``, ``executorch`` for ``.pte``; see `patchbench twin`, which compares them with
            a runtime.
        preproc: What a file that `export` did not write expects of pixels.
    """
    require("torch")
    path = Path(file)
    known = description_of(path, preproc)
    for module in READ_WITH.get(path.suffix, ()):
        require(module)

    from harness.api.networks import FileTwin
    from patches import twins

    require_survived(path, (twins.kernels_of(path, kernels),))
    found = describe(path)
    if not found.is_quantized:
        prove(found)
    layout = known.preproc.layout if known else layout_of(found, preproc)
    prepared = known.preproc if known else preproc or certain_preproc(found, layout)
    if prepared is None:
        raise UserError(_unknown(path, found))
    if known is None:
        prepared = replace(prepared, layout=layout)
        warn_of_misfit(path, found, prepared, 2)
    return FileTwin(twins.twin(path, kernels, prepared), image_size(found, layout))


def _unknown(path: Path, found: Description) -> str:
    entry, holds = found.inputs[0], held(found)
    range_of = f"holds {holds[0]:.3g} to {holds[1]:.3g}" if holds else "has no scale"
    return (
        f"{path}: nothing says how its input is made of pixels; it is {entry.dtype} and {range_of}: pass preproc, as "
        "in patchbench.Preproc(divisor=127.5, mean=(1, 1, 1)), where the input is (pixels / divisor - mean) / std"
    )

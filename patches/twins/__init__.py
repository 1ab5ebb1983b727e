"""Twins: differentiable copies of an INT8 file, whose forward pass computes exactly the integers of its kernels.

Between operators a tensor holds *steps*: an activation's integers minus its zero point, as float32, so that a real
value is ``scale * steps`` and zero-padding is zero.
"""

from __future__ import annotations

from pathlib import Path

from backends.device.artifact import Layout, Preproc
from backends.device.errors import UserError
from patches.twins.network import Twin

__all__ = ["ELSEWHERE", "KERNELS", "Twin", "kernels_of", "twin"]

KERNELS = {  # the default comes first
    ".tflite": ("xnnpack", "builtin", "reference"),
    ".onnx": ("onnxruntime",),
    ".pte": ("executorch",),
}
ELSEWHERE = {".tflite": ("tosa",)}  # of runtimes that need packages of their own


def twin(
    path: Path,
    kernels: str | None = None,
    preproc: Preproc | None = None,
    class_offset: int = 0,
    layout: Layout | None = None,
) -> Twin:
    """Build the frozen twin of an INT8 ``.tflite``, ``.onnx`` or ``.pte`` file from the file alone.

    `kernels` are those whose arithmetic it follows: LiteRT's ``xnnpack`` (the default), ``builtin`` or ``reference`` on
    x86-64, Arm's ``tosa`` on any CPU, ``onnxruntime`` on an x86-64 whose integer products do not saturate (VNNI, or
    signed weights and activations), or XNNPACK in ``executorch``. `preproc` turns pixels into the file's real input;
    the default is pixels over 255 or, where an integer input holds other reals than 0 to 1, the pixels themselves as
    its integers, in `layout` or that of the input's shape. With a `class_offset` the logits before the first class come
    last. An unreadable file or an unsupported operator is a `UserError`.
    """
    chosen = kernels_of(path, kernels)
    if path.suffix == ".onnx":
        from patches.twins import onnx

        return onnx.read(path, preproc, class_offset, layout)
    if path.suffix == ".pte":
        from patches.twins import pte

        return pte.read(path, preproc, class_offset, layout)
    from patches.twins import tflite

    return tflite.read(path, chosen, preproc, class_offset, layout)


def kernels_of(path: Path, kernels: str | None) -> str:
    """Return the kernels of this name for a file, by default its format's first; unknown ones are a `UserError`."""
    if path.suffix not in KERNELS:
        raise UserError(f"{path}: expected a file that ends in .onnx, .tflite or .pte")
    chosen = kernels or KERNELS[path.suffix][0]
    known = KERNELS[path.suffix] + ELSEWHERE.get(path.suffix, ())
    if chosen not in known:
        raise UserError(f"{path}: no kernels named {chosen!r}; expected {', '.join(known)}")
    return chosen

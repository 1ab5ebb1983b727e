"""Twins: differentiable copies of an INT8 file, whose forward pass gives the very integers of the kernels they follow.

Between operators a tensor holds *steps*: an activation's integers less its zero point, as float32, so that a real value
is ``scale * steps`` and zero-padding is zero.
"""

from __future__ import annotations

from pathlib import Path

from backends.device.artifact import Preproc
from backends.device.errors import UserError
from patches.twins.network import Twin

__all__ = ["KERNELS", "Twin", "twin"]

KERNELS = {".tflite": ("xnnpack", "builtin", "reference"), ".onnx": ("onnxruntime",)}  # each file's default comes first


def twin(path: Path, kernels: str | None = None, preproc: Preproc | None = None, class_offset: int = 0) -> Twin:
    """The twin of an INT8 ``.tflite`` or ``.onnx`` file, made from the file alone, frozen.

    `kernels` says whose arithmetic it follows: ``xnnpack`` (by default), ``builtin`` or ``reference`` of LiteRT on
    x86-64, or ``onnxruntime`` on an x86-64 whose integer products don't saturate (VNNI, or signed weights and
    activations). `preproc` turns pixels into the file's real input; by default pixels over 255, or, where that can't be
    what a file of integers wants (its input holds other reals than 0 to 1), the pixels themselves as its integers.
    With a `class_offset` the logits before the first class come last.
    A file that can't be read, and an operator that no kernel is known for, are a `UserError`.
    """
    known = KERNELS.get(path.suffix)
    if known is None:
        raise UserError(f"{path}: a twin is made of a file that ends in {' or '.join(KERNELS)}")
    chosen = kernels or known[0]
    if chosen not in known:
        raise UserError(f"{path}: no kernels named {chosen!r} run such a file; there are {', '.join(known)}")
    if path.suffix == ".onnx":
        from patches.twins import onnx

        return onnx.read(path, preproc, class_offset)
    from patches.twins import tflite

    return tflite.read(path, chosen, preproc, class_offset)

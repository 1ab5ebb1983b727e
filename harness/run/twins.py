"""How far a twin agrees with the runtime whose kernels it follows, on the integers before any final softmax."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from backends.device.artifact import Layout, Pixels, Preproc
from backends.device.errors import UserError
from backends.device.runtimes import engine, prepare, real
from exporters.failure import naming
from exporters.files.tflite_cut import cut
from harness.results.agreement import output_integers

if TYPE_CHECKING:
    from patches.twins import Twin

BATCH_PIXELS = 50 * 32 * 32  # at a time: bigger tensors leave the cache, at less than half the speed


@dataclass(frozen=True)
class Agreement:
    """Twin and runtime over ``images``: shares of images (top-1) and of outputs (integers), and the largest difference.

    The class of an image is the lowest of those with the greatest integer, here and there.
    """

    images: int
    outputs: int
    top1: float
    equal: float
    within_one: float
    largest: int


def agreement(
    file: Path, kernels: str | None, preproc: Preproc | None, pixels: Pixels, layout: Layout | None = None
) -> tuple[str, Agreement]:
    """The kernels that were compared with, and how far a file's twin agrees with them on uint8 ``(n, h, w, 3)``."""
    import torch

    from patches.twins import twin

    made = twin(file, kernels, preproc, layout=layout)
    parts = []
    for batch in _batches(pixels):
        x = torch.from_numpy(batch.transpose(0, 3, 1, 2).astype(np.float32) / np.float32(255))
        parts.append(made.integers(x.contiguous(memory_format=torch.channels_last)).numpy())
    ours = np.concatenate(parts)
    theirs = _integers(made, pixels)
    apart = np.abs(ours - theirs)
    same = ours.argmax(axis=1) == theirs.argmax(axis=1)
    return made.kernels, Agreement(
        images=len(pixels), outputs=int(apart.size), top1=float(same.mean()), equal=float((apart == 0).mean()),
        within_one=float((apart <= 1).mean()), largest=int(apart.max()),
    )  # fmt: skip


def _batches(pixels: Pixels) -> list[Pixels]:
    size = max(4, BATCH_PIXELS // (pixels.shape[1] * pixels.shape[2]))
    return np.array_split(pixels, -(-len(pixels) // size))


def _integers(made: Twin, pixels: Pixels) -> NDArray[np.int64]:
    """The runtime's integers where the twin's end, in the file's order: int64 ``(n, outputs)``."""
    with tempfile.TemporaryDirectory() as folder:
        file, options = made.path, {}
        if made.path.suffix == ".tflite":
            file, options = Path(folder) / "cut.tflite", {"kernels": made.kernels}
            cut(made.path, made.output, file)
        runtime = engine("litert" if options else "onnxruntime")()
        with naming(made.path, file):
            runtime.load(file, options, 1)
            inputs = (prepare(runtime.input, made.preproc(batch), file) for batch in _batches(pixels))
            raw = np.concatenate([runtime.run(x) for x in inputs])
    integers = None if raw.dtype == np.float32 else raw
    found = output_integers(real(runtime.output, raw), integers, made.quant.scale, made.quant.zero_point)
    if found is None:
        raise UserError(f"{made.path}: its outputs are no multiples of a scale, perhaps a softmax")
    return found

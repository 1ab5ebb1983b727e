"""Compare an INT8 file's arithmetic on a runtime or target with exact integers: those of its twin."""

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
from harness.results.success import top1

if TYPE_CHECKING:
    from patches.twins import Twin

BATCH_PIXELS = 50 * 32 * 32  # at a time: bigger tensors leave the cache, at less than half the speed


@dataclass(frozen=True)
class Arithmetic:
    """Two sides' integers over ``images``: shares with the same top-1, of equal outputs, and the largest difference.

    Top-1 is the first of the largest integers, on both sides.
    """

    images: int
    outputs: int
    top1: float
    equal: float
    within_one: float
    largest: int


def compare(twin: Twin, pixels: Pixels, integers: NDArray[np.int64]) -> Arithmetic:
    """Compare the integers ``(n, outputs)`` that a target answered to uint8 ``(n, h, w, 3)`` with those of a twin."""
    import torch

    parts = []
    for batch in _batches(pixels):
        x = torch.from_numpy(batch.transpose(0, 3, 1, 2).astype(np.float32) / np.float32(255))
        parts.append(twin.integers(x.contiguous(memory_format=torch.channels_last)).numpy())
    exact = np.concatenate(parts)
    differences = np.abs(exact - integers)
    return Arithmetic(
        images=len(pixels),
        outputs=int(differences.size),
        top1=float((top1(exact) == top1(integers)).mean()),
        equal=float((differences == 0).mean()),
        within_one=float((differences <= 1).mean()),
        largest=int(differences.max()),
    )


def compare_with_runtime(
    file: Path, kernels: str | None, preproc: Preproc | None, pixels: Pixels, layout: Layout | None = None
) -> tuple[str, Arithmetic]:
    """Compare a file's twin with the runtime on this machine; return the kernels too, by default the first possible."""
    from patches.twins import twin

    exact = twin(file, kernels, preproc, layout=layout)
    return exact.kernels, compare(exact, pixels, _runtime_integers(exact, pixels))


def _batches(pixels: Pixels) -> list[Pixels]:
    size = max(4, BATCH_PIXELS // (pixels.shape[1] * pixels.shape[2]))
    return np.array_split(pixels, -(-len(pixels) // size))


def _runtime_integers(twin: Twin, pixels: Pixels) -> NDArray[np.int64]:
    """Return the runtime's integers where the twin ends, in the file's order: int64 ``(n, outputs)``."""
    with tempfile.TemporaryDirectory() as folder:
        file, options = twin.path, {}
        if twin.path.suffix == ".tflite":
            file, options = Path(folder) / "cut.tflite", {"kernels": twin.kernels}
            cut(twin.path, twin.output, file)
        runtime = engine("litert" if options else "onnxruntime")()
        with naming(twin.path, file):
            runtime.load(file, options, 1)
            inputs = (prepare(runtime.input, twin.preproc(batch), file) for batch in _batches(pixels))
            raw = np.concatenate([runtime.run(x) for x in inputs])
    integers = None if raw.dtype == np.float32 else raw
    found = output_integers(real(runtime.output, raw), integers, twin.quant.scale, twin.quant.zero_point)
    if found is None:
        raise UserError(f"{twin.path}: its outputs are no multiples of a scale, perhaps a softmax")
    return found

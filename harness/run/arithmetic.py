"""Compare an INT8 file's arithmetic on a runtime or target with exact integers: those of its twin."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from backends.answers import read_answers
from backends.device.artifact import Artifact, Layout, Pixels, Preproc, sha256_file
from backends.device.bundle import write_bundle
from backends.device.errors import UserError
from backends.device.reading import first_line
from backends.device.runtimes import engine, prepare, real
from backends.hosts import Target, replay
from backends.hosts import prepare as install
from exporters.failure import naming
from exporters.files import describe, onnx_cut, tflite_cut
from exporters.files.description import MOVERS
from exporters.quiet import quiet
from harness.display import Progress
from harness.results.agreement import output_integers
from harness.results.success import top1
from harness.run.trial import RUNTIMES

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


def compare(
    twin: Twin,
    pixels: Pixels,
    integers: NDArray[np.int64],
    size: int | None = None,
    progress: Progress | None = None,
) -> Arithmetic:
    """Compare the integers ``(n, outputs)`` that a target answered to uint8 ``(n, h, w, 3)`` with those of a twin.

    The twin takes batches of `size`, by default as many images as stay in the cache; `progress` is told of its images.
    """
    import torch

    parts = []
    done = 0
    for batch in _batches(pixels, size):
        x = torch.from_numpy(batch.transpose(0, 3, 1, 2).astype(np.float32) / np.float32(255))
        parts.append(twin.integers(x.contiguous(memory_format=torch.channels_last)).numpy())
        done += len(batch)
        if progress:
            progress(done, len(pixels), "")
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
    file: Path,
    kernels: str | None,
    preproc: Preproc | None,
    pixels: Pixels,
    layout: Layout | None = None,
    progress: Progress | None = None,
) -> tuple[str, Arithmetic]:
    """Compare a file's twin with the runtime on this machine; return the kernels too, by default the first possible."""
    from patches.twins import twin

    exact = twin(file, kernels, preproc, layout=layout)
    return exact.kernels, compare_in_batches(exact, pixels, (None,), progress)[0]


def compare_in_batches(
    twin: Twin, pixels: Pixels, sizes: Sequence[int | None], progress: Progress | None = None
) -> list[Arithmetic]:
    """Compare a twin with the runtime on this machine once for each batch size, which both take."""
    with _runtime(twin) as integers:
        found = []
        for size in sizes:
            answered = np.concatenate([integers(batch) for batch in _batches(pixels, size)])
            found.append(compare(twin, pixels, answered, size, progress))
        return found


def first_difference(twin: Twin, pixels: Pixels, sizes: Sequence[int | None]) -> str:
    """Name the first operator whose integers are not the runtime's; empty where no part of the file shows it.

    A ``.pte`` file is not taken apart.
    """
    if twin.path.suffix == ".pte":
        return ""
    for operator, beginning in twin.beginnings():
        with suppress(UserError):  # where the runtime does not run so little by itself
            if any(found.equal < 1 for found in compare_in_batches(beginning, pixels, sizes)):
                return operator
    return ""


def _batches(pixels: Pixels, size: int | None = None) -> list[Pixels]:
    if size is not None:
        return [pixels[first : first + size] for first in range(0, len(pixels), size)]
    most = max(4, BATCH_PIXELS // (pixels.shape[1] * pixels.shape[2]))
    return np.array_split(pixels, -(-len(pixels) // most))


@contextmanager
def _runtime(twin: Twin) -> Iterator[Callable[[Pixels], NDArray[np.int64]]]:
    """Open a twin's file on its runtime; yield what gives the integers ``(n, outputs)`` where the twin ends."""
    from patches.twins import ELSEWHERE

    with tempfile.TemporaryDirectory() as folder:
        file = _cut(twin, Path(folder))
        if twin.kernels in ELSEWHERE.get(file.suffix, ()):
            yield partial(_replayed, twin, file)
            return
        runtime = engine(RUNTIMES[twin.path.suffix])()

        def integers(pixels: Pixels) -> NDArray[np.int64]:
            x = prepare(runtime.input, twin.preproc(pixels), file)
            try:
                raw = runtime.run(x).reshape(len(pixels), -1)
            except Exception as error:  # runtimes' errors have no common base
                raise UserError(f"{twin.path}: the runtime loads it, but cannot run it: {first_line(error)}") from error
            own = None if raw.dtype == np.float32 else raw
            found = output_integers(real(runtime.output, raw), own, twin.quant.scale, twin.quant.zero_point)
            if found is None:
                raise UserError(f"{twin.path}: its outputs are no multiples of a scale")
            return found

        with naming(twin.path, file):
            with quiet():  # ExecuTorch prints of the CPU and its threads
                runtime.load(file, {"kernels": twin.kernels} if file.suffix == ".tflite" else {}, 1)
            yield integers


def _replayed(twin: Twin, file: Path, pixels: Pixels) -> NDArray[np.int64]:
    """Return the integers of a runtime that needs packages of its own, which are installed for it."""
    target = Target(twin.kernels, twin.kernels)
    artifact = Artifact(
        name=file.stem,
        victim="",
        format="tflite",
        precision="w8a8",
        file=file.name,
        sha256=sha256_file(file),
        input_size=pixels.shape[1:3],
        classes=1,
        preproc=twin.preproc,
    )
    install(target)
    with tempfile.TemporaryDirectory() as folder, naming(twin.path, Path(folder) / "bundle" / file.name):
        write_bundle(Path(folder) / "bundle", artifact, file, pixels, {"none": None})
        outcome = replay(target, Path(folder) / "bundle", Path(folder))
        if outcome.errors:
            raise UserError(outcome.errors["none"])
        return read_answers(outcome.files["none"], (len(pixels), None))["integers"].astype(np.int64)


def _cut(twin: Twin, folder: Path) -> Path:
    """Return a twin's file without what comes after the twin's end: of an ONNX file only where that computes.

    Nothing cuts ``.pte`` files, whose twins end where they do.
    """
    if twin.path.suffix == ".pte":
        return twin.path
    if twin.path.suffix == ".tflite":
        tflite_cut.cut(twin.path, twin.output, folder / "cut.tflite")
        return folder / "cut.tflite"
    executed = describe(twin.path).executed
    last = [twin.output in (tensor.name for tensor in operator.outputs) for operator in executed].index(True)
    if {operator.name for operator in executed[last + 1 :]} <= {"DequantizeLinear", *MOVERS}:
        return twin.path
    onnx_cut.cut(twin.path, twin.output, folder / "cut.onnx")
    return folder / "cut.onnx"

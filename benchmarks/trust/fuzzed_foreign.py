"""Model files of every kind that others make, as the fuzzer changes them: inspected, rebuilt, compared and replayed."""

from __future__ import annotations

import sys
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import models
import numpy as np
import patchbench
from mutations import Draw
from subject import Files, Subject, changing

from backends.device.errors import UserError

sys.path.append(str(Path(__file__).parents[2] / "tests"))

SIZE = 16
IMAGES = np.random.default_rng(0).integers(0, 256, (2, SIZE, SIZE, 3), np.uint8)
SECONDS = 5.0  # of silence of a replay
RUNTIMES = {".onnx": "onnxruntime", ".tflite": "litert"}


def foreign_files(made: Path) -> Iterator[Subject]:
    """Yield a file of each kind; of those that differ in their opset alone, the first and the last."""
    from helpers import foreign_onnx, foreign_tflite

    reals = IMAGES.transpose(0, 3, 1, 2).astype(np.float32) / np.float32(255)
    between = {f"QDQ, opset {opset}" for opset in range(14, 21)}
    folder = made / "foreign"
    folder.mkdir(exist_ok=True)
    for name in [name for name in foreign_onnx.KINDS if name not in between and "batch of 4" not in name]:
        file = foreign_onnx.write(name, folder / "model.onnx", reals)
        yield _subject(name, file, changing(onnx=models.onnx))
    for name in foreign_tflite.KINDS:
        file = foreign_tflite.write(name, folder / "model.tflite")
        yield _subject(name, file, changing(tflite=models.tflite))


def _subject(name: str, file: Path, change: Callable[[Draw, Files], Files]) -> Subject:
    content = file.read_bytes()
    return Subject(f"foreign: {name}", 1, {file.name: content}, change, lambda folder: _read(folder, content))


def _read(folder: Path, unchanged: bytes) -> None:
    """Inspect a file, compare its twin with the runtime, and replay some; the first refusal is raised at the end."""
    from harness.run.arithmetic import compare_with_runtime
    from harness.run.trial import require_survived

    file = next((folder / "files").iterdir())
    require_survived(file)
    patchbench.inspect(file)
    asked: list[Callable[[], object]] = [lambda: compare_with_runtime(file, None, None, IMAGES)]
    content = file.read_bytes()
    if content == unchanged or zlib.crc32(content) % 4 == 0:  # it starts a process
        asked.append(lambda: patchbench.replay(file, IMAGES, RUNTIMES[file.suffix], timed_runs=0, time_limit=SECONDS))
    refusals = []
    for ask in asked:
        try:
            ask()
        except UserError as error:
            refusals.append(error)
    if refusals and content != unchanged:
        raise refusals[0]

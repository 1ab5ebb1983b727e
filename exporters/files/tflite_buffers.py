"""Weights that a TFLite file keeps outside its flatbuffer: moved inside.

A buffer with an ``offset`` lies behind the flatbuffer; ai-edge-quantizer writes networks of more than 256 KiB so.
LiteRT reads it there. OpenVINO refuses such a file, and TFLite Micro takes the buffer for empty and computes something
else.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from flatbuffers import Builder
from numpy.typing import NDArray

from backends.device.errors import UserError
from exporters.files.tflite import FAULTS, damaged, is_outside, read

ALIGNMENT = 16  # of a buffer's bytes, as the schema asks; the schema's Python classes do not see to it
MOST_BYTES = 2**31 - 1  # of a flatbuffer


class _Aligned(Builder):  # type: ignore[misc]
    def CreateNumpyVector(self, x: NDArray[Any]) -> Any:
        """Write an array; bytes begin at a multiple of `ALIGNMENT`."""
        if x.dtype == np.uint8:
            self.Prep(ALIGNMENT, x.nbytes)
        return super().CreateNumpyVector(x)


def inside(path: Path) -> bytes:
    """Return the content of a file with all its buffers inside the flatbuffer, aligned; see `packed`."""
    model, blob = read(path)
    try:
        return packed(path, model, blob)
    except FAULTS as error:
        raise damaged(path, error) from error


def packed(path: Path, model: Any, blob: bytes) -> bytes:
    """Return a file for a ``ModelT`` that was read from `blob`, its buffers inside; 2 GB or more are a `UserError`."""
    size = sum(b.size if is_outside(b) else len(b.data) for b in model.buffers if b.data is not None or is_outside(b))
    if size > MOST_BYTES:
        raise UserError(
            f"{path}: {size / 2**30:.1f} GB of weights, but a TFLite file that every runtime reads holds less than "
            "2 GB: export INT8, or a smaller network"
        )
    for buffer in model.buffers:
        if is_outside(buffer):
            buffer.data = np.frombuffer(blob, np.uint8, buffer.size, buffer.offset)
            buffer.offset = buffer.size = 0
    builder = _Aligned(len(blob))
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())

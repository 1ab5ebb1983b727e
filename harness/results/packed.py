"""Arrays in JSON, as baselines hold them: zlib in base64, little-endian."""

from __future__ import annotations

import base64
import math
import zlib
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from backends.device.reading import ARRAY_BYTES
from harness.results.entries import Entry


class Packed(Entry):
    """An array: zlib in base64, little-endian."""

    dtype: Literal["int16", "uint8"]
    shape: tuple[int, ...]
    zlib: str

    def array(self) -> NDArray[Any]:
        """Return the array, read-only; one of other bytes than its shape has is a ``ValueError``."""
        dtype = np.dtype(self.dtype).newbyteorder("<")
        wanted = dtype.itemsize * math.prod(self.shape)
        if not 0 <= wanted <= ARRAY_BYTES:
            raise ValueError(f"shape {self.shape}")
        stream = zlib.decompressobj()
        try:
            data = stream.decompress(base64.b64decode(self.zlib, validate=True), wanted + 1)
        except zlib.error as error:
            raise ValueError(str(error)) from error
        if not stream.eof:
            raise ValueError(f"not {wanted} bytes")
        return np.frombuffer(data, dtype).reshape(self.shape)


class PackedPatch(Entry):
    """A patch's pixels, so that later runs can replay it; a patch that is too large has a name alone."""

    name: str
    pixels: Packed | None = None
    mask: Packed | None = None
    corners: Packed | None = None


def pack(array: NDArray[Any]) -> Packed:
    """Pack an array."""
    little = np.ascontiguousarray(array.astype(array.dtype.newbyteorder("<")))
    packed = base64.b64encode(zlib.compress(little.tobytes(), 9)).decode()
    return Packed.model_validate({"dtype": str(array.dtype), "shape": array.shape, "zlib": packed})

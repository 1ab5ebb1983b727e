"""A query session, on the device: the file stays loaded, and each line of JSON is a query, until ``end``.

A query carries only what is pasted; the images are the bundle's::

    -> {"query": 1, "images": A, "stamps": A, "mask": A, "corners": A}       as `bundle.Stamps`, on these images
    <- {"event": "scores", "query": 1, "logits": A, "pixels_sha256": "..."}  float32 (n, outputs)
    -> {"end": true}

An array ``A`` is ``{"dtype": "uint8", "shape": [1, 8, 8, 3], "data": BASE64}``. ``pixels_sha256`` is the hash of the
pasted pixels; the client pastes them too, and compares.
"""

from __future__ import annotations

import base64
import hashlib
import math
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from backends.device.batching import Progress, Send, run_all
from backends.device.bundle import Bundle, Stamps, check_corners, chunk_images, pasted
from backends.device.errors import UserError
from backends.device.json_types import typed
from backends.device.protocol import PackedArray, QueryLine
from backends.device.reading import parse_json
from backends.device.runtimes import Runtime, prepare, real

PROGRESS_SECONDS = 1.0
IMAGES = 1 << 16  # of a query
AXES = 4
WHERE = "standard input: not a query"


class Query(NamedTuple):
    """Indices of a bundle's images, int32 ``(n,)``, and what is pasted on them."""

    number: int
    images: NDArray[np.int32]
    stamps: Stamps

    @classmethod
    def read(cls, line: bytes, bundle: Bundle) -> Query | None:
        """Read a line; None is the end, and anything but a query for this bundle is a `UserError`."""
        raw = parse_json(line, WHERE)
        if raw == {"end": True}:
            return None
        said: QueryLine = typed(QueryLine, raw, WHERE)
        try:
            images = unpacked(said.images, np.int32)
            stamps = unpacked(said.stamps, np.uint8)
            mask = unpacked(said.mask, np.bool_)
            corners = unpacked(said.corners, np.int32)
        except ValueError as error:
            raise UserError(f"{WHERE}: {error}") from error
        number = said.query
        n = len(images) if images.ndim == 1 else 0
        side = stamps.shape[1] if stamps.ndim == 4 else 0
        stamps_fit = side > 0 and stamps.shape in [(k, side, side, 3) for k in (1, n)]
        if not 0 < n <= IMAGES or images.min() < 0 or images.max() >= bundle.n:
            first = images.ravel()[:9].tolist()
            raise UserError(f"query {number}: expected image indices below {bundle.n}, got {n} of them: {first}")
        if not stamps_fit or mask.shape not in [(k, side, side) for k in (1, n)]:
            raise UserError(f"query {number}: stamps {stamps.shape} and mask {mask.shape} do not fit {n} images")
        if corners.shape != (n, 2):
            raise UserError(f"query {number}: expected corners ({n}, 2), got {corners.shape}")
        check_corners(corners, bundle.artifact.input_size, side, f"query {number}")
        return cls(number, images, Stamps(stamps, mask, corners))


def serve(runtime: Runtime, bundle: Bundle, batch: int, outputs: int, lines: Iterable[bytes], send: Send) -> None:
    """Answer queries with a loaded runtime until ``end``, or until standard input ends."""
    last = 0
    for line in lines:
        query = Query.read(line, bundle)
        if query is None:
            return
        if query.number <= last:
            raise UserError(f"standard input: query {query.number} after query {last}")
        last = query.number
        logits, pixels_sha256 = _scores(runtime, bundle, query, batch, outputs, send)
        send("scores", query=query.number, logits=asdict(packed(logits)), pixels_sha256=pixels_sha256)


def packed(array: NDArray[Any]) -> PackedArray:
    """Pack an array for a line of JSON."""
    array = np.ascontiguousarray(array)
    data = base64.b64encode(array.data).decode()
    return PackedArray(array.dtype.name, array.shape, data)


def unpacked(raw: PackedArray, dtype: type[np.generic]) -> NDArray[Any]:
    """Unpack an array; another dtype, or data that do not fill its shape, is a `ValueError`."""
    wanted = np.dtype(dtype)
    if raw.dtype != wanted.name:
        raise ValueError(f"expected {wanted.name}, got {raw.dtype[:20]}")
    data = base64.b64decode(raw.data, validate=True)
    is_shape = len(raw.shape) <= AXES and all(0 <= length < 1 << 31 for length in raw.shape)
    if not is_shape or len(data) != wanted.itemsize * math.prod(raw.shape):
        raise ValueError(f"{len(data)} bytes do not fill {wanted.name} {raw.shape[:AXES]}")
    if wanted == np.bool_ and data.strip(b"\0\1"):
        raise ValueError("a bool that is neither 0 nor 1")
    return np.frombuffer(data, wanted).reshape(raw.shape)


def pasted_sha256(bundle: Bundle, query: Query) -> str:
    """Hash a bundle's images with a query's stamps pasted on them."""
    digest = hashlib.sha256()
    for pixels in pasted(bundle.pixels[query.images], query.stamps, chunk_images(bundle.pixels[0].nbytes)):
        digest.update(pixels.data)
    return digest.hexdigest()


def _scores(
    runtime: Runtime, bundle: Bundle, query: Query, batch: int, outputs: int, send: Send
) -> tuple[NDArray[np.float32], str]:
    digest = hashlib.sha256()
    done = 0
    progress = Progress(send, PROGRESS_SECONDS, case="")
    file = bundle.file
    raws = np.empty((len(query.images), outputs), runtime.output.dtype)
    for pixels in pasted(bundle.pixels[query.images], query.stamps, chunk_images(bundle.pixels[0].nbytes, batch)):
        digest.update(pixels.data)
        x = prepare(runtime.input, bundle.artifact.preproc(pixels), file)
        run_all(runtime, x, batch, raws[done : done + len(x)], f"{file}: query", progress)
        done += len(x)
    return real(runtime.output, raws), digest.hexdigest()

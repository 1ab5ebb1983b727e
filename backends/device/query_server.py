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
import json
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from backends.device.batching import Progress, Send, run_all
from backends.device.bundle import Bundle, Stamps, check_corners, chunk_images, pasted
from backends.device.errors import UserError
from backends.device.protocol import PackedArray
from backends.device.runtimes import Runtime, prepare, real

PROGRESS_SECONDS = 1.0
FIELDS = {"images": np.int32, "stamps": np.uint8, "mask": np.bool_, "corners": np.int32}


class Query(NamedTuple):
    """Indices of a bundle's images, int32 ``(n,)``, and what is pasted on them."""

    number: int
    images: NDArray[np.int32]
    stamps: Stamps

    @classmethod
    def read(cls, line: bytes, bundle: Bundle) -> Query | None:
        """Read a line; None is the end, and anything but a query for this bundle is a `UserError`."""
        try:
            raw: dict[str, Any] = json.loads(line)
            if raw.get("end"):
                return None
            images, stamps, mask, corners = (unpacked(raw[name], dtype) for name, dtype in FIELDS.items())
            number = int(raw["query"])
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise UserError(f"standard input: not a query ({error!r})") from error
        n = len(images)
        side = stamps.shape[1] if stamps.ndim == 4 else 0
        some = (1, n)
        if not n or images.ndim != 1 or images.min() < 0 or images.max() >= bundle.n:
            raise UserError(f"query {number}: expected image indices below {bundle.n}, got {images.tolist()[:9]}")
        if stamps.shape not in [(k, side, side, 3) for k in some] or mask.shape not in [(k, side, side) for k in some]:
            raise UserError(f"query {number}: stamps {stamps.shape} and mask {mask.shape} do not fit {n} images")
        if corners.shape != (n, 2):
            raise UserError(f"query {number}: expected corners ({n}, 2), got {corners.shape}")
        check_corners(corners, bundle.artifact.input_size, side, f"query {number}")
        return cls(number, images, Stamps(stamps, mask, corners))


def serve(runtime: Runtime, bundle: Bundle, batch: int, outputs: int, lines: Iterable[bytes], send: Send) -> None:
    """Answer queries with a loaded runtime until ``end``, or until standard input ends."""
    for line in lines:
        query = Query.read(line, bundle)
        if query is None:
            return
        logits, pixels_sha256 = _scores(runtime, bundle, query, batch, outputs, send)
        send("scores", query=query.number, logits=packed(logits), pixels_sha256=pixels_sha256)


def packed(array: NDArray[Any]) -> PackedArray:
    """Pack an array for a line of JSON."""
    array = np.ascontiguousarray(array)
    data = base64.b64encode(array.data).decode()
    return {"dtype": array.dtype.name, "shape": array.shape, "data": data}


def unpacked(raw: PackedArray, dtype: type[np.generic]) -> NDArray[Any]:
    """Unpack an array; another dtype, or incomplete data, is a `ValueError`."""
    if raw["dtype"] != np.dtype(dtype).name:
        raise ValueError(f"expected {np.dtype(dtype).name}, got {raw['dtype']}")
    return np.frombuffer(base64.b64decode(raw["data"], validate=True), dtype).reshape(raw["shape"])


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

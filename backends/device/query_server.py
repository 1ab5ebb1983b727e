"""A query session, on the device: the file stays loaded, and each line of JSON is a query, until ``end``.

A query carries only what is pasted; the images are the bundle's::

    -> {"query": 1, "images": A, "stamps": A, "mask": A, "corners": A}       as `bundle.Stamps`, on these images
    <- {"event": "scores", "query": 1, "logits": A, "pixels_sha256": "..."}  float32 (n, outputs)
    -> {"end": true}

An array ``A`` is ``{"dtype": "uint8", "shape": [1, 8, 8, 3], "data": BASE64}``. ``pixels_sha256`` is the hash of the
pasted pixels, as the session's defence leaves them; the client pastes and defends them too, and compares. Behind a
defence that runs the network many times, logits are those of the pass that answers.
"""

from __future__ import annotations

import base64
import hashlib
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from backends.device.artifact import Pixels
from backends.device.batching import Progress, Send, run_all
from backends.device.bundle import Bundle, Stamps, check_corners, chunk_images, pasted
from backends.device.defences import defend, many_passes
from backends.device.errors import UserError
from backends.device.json_types import typed
from backends.device.many_passes import answerer, outputs_of
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


def serve(
    runtime: Runtime, bundle: Bundle, batch: int, outputs: int, lines: Iterable[bytes], send: Send, defence: str = ""
) -> None:
    """Answer queries with a loaded runtime, behind a defence if any, until ``end`` or until standard input ends."""
    progress = Progress(send, PROGRESS_SECONDS, case="")
    network = _network(runtime, bundle, batch, outputs, defence, progress)
    last = 0
    for line in lines:
        query = Query.read(line, bundle)
        if query is None:
            return
        if query.number <= last:
            raise UserError(f"standard input: query {query.number} after query {last}")
        last = query.number
        digest = hashlib.sha256()
        logits = [network(pixels) for pixels in _seen(bundle, query, defence, batch, digest.update)]
        scores = asdict(packed(np.concatenate(logits)))
        send("scores", query=query.number, logits=scores, pixels_sha256=digest.hexdigest())


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


def seen_sha256(bundle: Bundle, query: Query, defence: str = "") -> str:
    """Hash a bundle's images with a query's stamps pasted on them, as a defence leaves them."""
    digest = hashlib.sha256()
    for _ in _seen(bundle, query, defence, 1, digest.update):
        pass
    return digest.hexdigest()


def _seen(
    bundle: Bundle, query: Query, defence: str, batch: int, hear: Callable[[memoryview], object]
) -> Iterator[Pixels]:
    """Yield the images of a query as the network sees them, whole batches at a time, after `hear` has had them."""
    for pixels in pasted(bundle.pixels[query.images], query.stamps, chunk_images(bundle.pixels[0].nbytes, batch)):
        seen = defend(defence, pixels) if defence else pixels
        hear(seen.data)
        yield seen


def _network(
    runtime: Runtime, bundle: Bundle, batch: int, outputs: int, defence: str, progress: Progress
) -> Callable[[Pixels], NDArray[np.float32]]:
    """Return a function from images ``(n, h, w, 3)`` to the file's outputs, float32 ``(n, outputs)``."""
    file = bundle.file
    if many_passes(defence):
        answer = answerer(runtime, bundle, batch, outputs, defence, progress)
        return lambda pixels: outputs_of(bundle, [answer(image).logits for image in pixels], outputs)

    def run(pixels: Pixels) -> NDArray[np.float32]:
        raws = np.empty((len(pixels), outputs), runtime.output.dtype)
        x = prepare(runtime.input, bundle.artifact.preproc(pixels), file)
        run_all(runtime, x, batch, raws, f"{file}: query", progress)
        return real(runtime.output, raws)

    return run

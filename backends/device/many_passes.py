"""Cases behind a defence that runs the network many times an image."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backends.device.artifact import Pixels
from backends.device.batching import run_all
from backends.device.bundle import Bundle, Case, Hashes
from backends.device.defences import Answer, Classify, parse_defence
from backends.device.runtimes import Runtime, prepare, real


def run_case(
    runtime: Runtime, bundle: Bundle, case: Case, batch: int, outputs: int, progress: Callable[[int], None]
) -> tuple[dict[str, Any], Hashes]:
    """Answer each image of a case; return the arrays of its file. Only images without a patch can be certified."""
    pasted = hashlib.sha256()

    def images() -> Iterator[Pixels]:
        for pixels in bundle.batches(case.name, 1):
            pasted.update(pixels.data)
            yield pixels[0]

    classify = _classifier(runtime, bundle, batch, outputs, progress)
    is_clean = case.sha256 == bundle.pixels_sha256
    arrays = answer_all(case.defence, images(), bundle.n, classify, is_clean, progress)
    return arrays | {"logits": outputs_of(bundle, arrays["logits"], outputs)}, Hashes(pasted.hexdigest(), "")


def outputs_of(
    bundle: Bundle, logits: NDArray[np.float32] | Sequence[NDArray[np.float32]], outputs: int
) -> NDArray[np.float32]:
    """Return logits as the file's outputs, float32 ``(n, outputs)``: before the first class there is 0."""
    whole = np.zeros((len(logits), outputs), np.float32)
    whole[:, bundle.artifact.class_offset :] = logits
    return whole


def answerer(
    runtime: Runtime,
    bundle: Bundle,
    batch: int,
    outputs: int,
    word: str,
    progress: Callable[[int], None] = lambda _: None,
) -> Callable[[Pixels], Answer]:
    """Return a function that answers one image; `progress` is called with 0 as passes are done."""
    defence = parse_defence(word)
    classify = _classifier(runtime, bundle, batch, outputs, progress)

    def answer(image: Pixels) -> Answer:
        said: Answer = defence.module.answer(image, classify, defence.setting)
        return said

    return answer


def answer_all(
    word: str, images: Iterable[Pixels], n: int, classify: Classify, certify: bool, progress: Callable[[int], None]
) -> dict[str, NDArray[Any]]:
    """Return what a case's file holds, for `n` images ``(h, w, 3)``; `progress` is called after each.

    ``logits`` are float32 ``(n, classes)``; ``verdicts`` uint8, indices of the defence's ``VERDICTS``; ``passes``
    int32, those for the answer; ``certified`` bool, False unless `certify`, which takes passes of its own.
    """
    defence = parse_defence(word)
    ways = defence.many_passes
    assert ways
    logits: list[NDArray[np.float32]] = []
    verdicts = np.empty(n, np.uint8)
    passes = np.empty(n, np.int32)
    certified = np.zeros(n, np.bool_)
    for i, image in enumerate(images):
        said = ways.answer(image, classify, defence.setting)
        logits.append(said.logits)
        verdicts[i] = ways.VERDICTS.index(said.verdict)
        passes[i] = said.passes
        certified[i] = certify and ways.certified(image, classify, defence.setting)
        progress(1)
    return {"logits": np.stack(logits), "verdicts": verdicts, "passes": passes, "certified": certified}


def _classifier(
    runtime: Runtime, bundle: Bundle, batch: int, outputs: int, progress: Callable[[int], None]
) -> Classify:
    """Return a function from images to their logits, without the outputs before the first class."""
    file = bundle.file

    def classify(pixels: Pixels) -> NDArray[np.float32]:
        raws = np.empty((len(pixels), outputs), runtime.output.dtype)
        x = prepare(runtime.input, bundle.artifact.preproc(pixels), file)
        run_all(runtime, x, batch, raws, str(file), lambda _: progress(0))
        return real(runtime.output, raws)[:, bundle.artifact.class_offset :]

    return classify

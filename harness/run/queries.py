"""Query a target for a black-box attack; keep every answer, so that an interrupted search resumes."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from backends.device.artifact import Artifact, Pixels
from backends.device.bundle import Stamps
from backends.device.errors import UserError
from backends.hosts import prepare
from backends.query_client import session
from harness.plan.cells import Case
from harness.plan.steps import PatchStep, SurrogateStep
from harness.run import fleets, stages
from harness.run.bundles import pack

if TYPE_CHECKING:
    from patches.surrogates.device import Device

RECORD = np.dtype([("asked", "V32"), ("answered", "V32"), ("floats", "<u4")])  # two SHA-256
LEAST_PROBABILITY = 2.0**-9  # half a step of an 8-bit softmax, whose 0 is anything below


@contextmanager
def device(work: stages.Work, step: PatchStep, surrogate: SurrogateStep) -> Iterator[Device]:
    """A session on the target that a patch's attack asks, behind the defence that it expects, over its images.

    What was answered before the session broke, or the run was stopped, is not asked again.
    """
    from patches.surrogates.device import Device

    artifact = surrogate.artifact
    target = surrogate.target
    assert artifact is not None
    assert target is not None
    described, _ = stages.artifact(work, artifact)
    root = pack(work, artifact, [Case(step.data, step.split)], lambda case, ids: None)
    with work.display.preparing("prepare", target.name) as tell:
        prepare(target, tell)
    path = work.store.root / "checkpoints" / f"{step.key}.answers"
    with AnswerLog(path) as known, tempfile.TemporaryDirectory(dir=work.store.scratch) as out:
        try:
            board = fleets.one_board(target)
            with session(board, root, Path(out), surrogate.words.defence) as held:
                about = {"target": target.name, "info": held.info, "machine": held.machine}
                ask = known.first(lambda *query: _scores(described, held.scores(Stamps(*query[:3]), query[3])))
                yield Device(ask, about=about | fleets.named(target, board))
        except UserError as error:
            raise UserError(f"{error}\n{known.images} queries are answered and kept: run again to go on") from error
    path.unlink()


class AnswerLog:
    """A device's answers in order, on disk: a search with the same seed asks the same queries, and reads them here."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._stream, self.images = path.open("a+b"), 0

    def __enter__(self) -> AnswerLog:
        """Start at the first answer."""
        self._stream.seek(0)
        return self

    def __exit__(self, *_: object) -> None:
        """Close the file; the answers stay."""
        self._stream.close()

    def first(self, ask: Callable[..., NDArray[np.float32]]) -> Callable[..., NDArray[np.float32]]:
        """Return a function that reads known answers, then asks; from another or a damaged one on, all are dropped."""

        def answer(
            stamps: Pixels, mask: NDArray[np.bool_], corners: NDArray[np.int32], images: NDArray[np.int32]
        ) -> NDArray[np.float32]:
            query = (stamps, mask, corners, images)
            asked = hashlib.sha256(b"".join(np.ascontiguousarray(array).data for array in query)).digest()
            if (found := self._next(asked, len(images))) is None:
                found = ask(*query)
                answered = hashlib.sha256(found.tobytes()).digest()
                self._stream.write(np.array((asked, answered, found.size), RECORD).tobytes() + found.tobytes())
                self._stream.flush()
            self.images += len(images)
            return found

        return answer

    def _next(self, asked: bytes, n: int) -> NDArray[np.float32] | None:
        begin, head = self._stream.tell(), self._stream.read(RECORD.itemsize)
        if len(head) == RECORD.itemsize:
            record = np.frombuffer(head, RECORD)[0]
            size = os.fstat(self._stream.fileno()).st_size
            data = self._stream.read(min(4 * int(record["floats"]), size))
            if record["asked"].tobytes() == asked and record["answered"].tobytes() == hashlib.sha256(data).digest():
                return np.frombuffer(data, np.float32).reshape(n, -1)
        self._stream.truncate(begin)
        self._stream.seek(begin)
        return None


def _scores(artifact: Artifact, outputs: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return logits by class, or the logarithms of probabilities."""
    first = artifact.class_offset
    scores = outputs[:, first : first + artifact.classes]
    return np.log(np.maximum(scores, LEAST_PROBABILITY)) if artifact.output_kind == "softmax" else scores

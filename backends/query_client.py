"""A query session with a target: scores for stamps on a bundle's images, one query at a time."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from backends.answers import check_loaded
from backends.conversation import Conversation
from backends.device.bundle import Bundle, Stamps
from backends.device.errors import UserError
from backends.device.protocol import MachineFacts, QueryLine
from backends.device.query_server import Query, packed, seen_sha256, unpacked
from backends.events import EVENT_BYTES, Loaded, Progress, Scores
from backends.hosts import Target, begin, is_lost, machine_facts, request

E = TypeVar("E", Loaded, Scores)
BYTES_PER_SCORE = 6  # float32, in base64


@dataclass
class Session:
    """A device that keeps its file loaded, behind a defence if any; ``info`` and ``machine`` are as in an outcome.

    A crash, a hang or a broken connection is a `UserError` that names the target.
    """

    target: Target
    bundle: Bundle
    talk: Conversation
    defence: str = ""
    info: dict[str, str] = field(default_factory=dict)
    machine: MachineFacts = field(default_factory=MachineFacts)
    outputs: int = 0  # of the file
    asked: int = 0  # queries sent

    def scores(self, stamps: Stamps, images: NDArray[np.int32]) -> NDArray[np.float32]:
        """Return the file's outputs, float32 ``(n, outputs)``, for images of the bundle with stamps pasted on them.

        `images` are indices ``(n,)``. The hash of the pixels that the device pasted and defended is compared with the
        hash here. Behind a defence that runs the network many times, outputs are those of the pass that answers.
        """
        self.asked += 1
        query = Query(self.asked, images, stamps)
        line = QueryLine(
            query.number, packed(images), packed(stamps.stamps), packed(stamps.mask), packed(stamps.corners)
        )
        self.talk.say(asdict(line))
        expected = seen_sha256(self.bundle, query, self.defence)  # while the device computes
        shape = (len(images), self.outputs)
        answer = self._await(Scores, EVENT_BYTES + BYTES_PER_SCORE * math.prod(shape))
        where = f"{self.target.name}: query {query.number}"
        if answer.query != query.number or answer.pixels_sha256 != expected:
            how = f"pasted pixels, after {self.defence}," if self.defence else "pasted pixels"
            raise UserError(
                f"{where}: the device {how} of sha256 {answer.pixels_sha256} in query {answer.query}, "
                f"expected {expected}"
            )
        if answer.logits.shape != shape:
            raise UserError(f"{where}: expected scores {shape}, got {answer.logits.shape}")
        try:
            scores = unpacked(answer.logits, np.float32)
        except ValueError as error:
            raise UserError(f"{where}: malformed scores: {error}") from error
        if not np.isfinite(scores).all():
            raise UserError(f"{where}: the device's scores are not finite")
        return scores

    def _await(self, kind: type[E], longest: int = EVENT_BYTES) -> E:
        while event := self.talk.hear(longest):
            if isinstance(event, kind):
                return event
            if not isinstance(event, Progress) or event.case:
                raise UserError(f"{self.target.name}: expected an event {kind.__name__}, got {event.event}")
        ending = self.talk.close()
        lost = "the connection broke\n" if is_lost(self.target, ending.code) else ""
        raise UserError(f"{self.target.name}: {lost}{ending.why or 'the device ended the session'}")


@contextmanager
def session(target: Target, bundle_root: Path, out: Path, defence: str = "") -> Iterator[Session]:
    """Hold a session open on a prepared target, behind a defence such as ``jpeg:75``, if any.

    `out` is a folder that hosts need, and stays empty.
    """
    bundle = Bundle.read(bundle_root)
    held = Session(target, bundle, begin(target, bundle_root, out), defence)
    try:
        held.talk.say(request(target, session=True, defence=defence))
        event = held._await(Loaded)
        check_loaded(bundle, event)
        held.machine = machine_facts(target, event)
        held.info = event.info
        held.outputs = event.outputs
        yield held
        held.talk.say({"end": True})
        held.talk.hear()
    finally:
        held.talk.close()

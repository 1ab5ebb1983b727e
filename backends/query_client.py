"""A query session with a target: scores for stamps on a bundle's images, one query at a time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from backends.conversation import Conversation
from backends.device.bundle import Bundle, Stamps
from backends.device.errors import UserError
from backends.device.protocol import Event, MachineFacts
from backends.device.query_server import Query, packed, pasted_sha256, unpacked
from backends.hosts import Target, begin, is_lost, loaded, request


@dataclass
class Session:
    """A device that keeps its file loaded; ``info`` and ``machine`` are as in a replay's outcome.

    A crash, a hang or a broken connection is a `UserError` that names the target.
    """

    target: Target
    bundle: Bundle
    talk: Conversation
    info: dict[str, str] = field(default_factory=dict)
    machine: MachineFacts = field(default_factory=MachineFacts)
    asked: int = 0  # queries sent

    def scores(self, stamps: Stamps, images: NDArray[np.int32]) -> NDArray[np.float32]:
        """Return the file's outputs, float32 ``(n, outputs)``, for images of the bundle with stamps pasted on them.

        `images` are indices ``(n,)``. The hash of the pixels that the device pasted is compared with the hash here.
        """
        self.asked += 1
        query = Query(self.asked, images, stamps)
        arrays = {"images": images, **stamps._asdict()}
        self.talk.say({"query": query.number} | {name: packed(array) for name, array in arrays.items()})
        expected = pasted_sha256(self.bundle, query)  # while the device computes
        answer = self._await("scores")
        if answer["query"] != query.number or answer["pixels_sha256"] != expected:
            raise UserError(
                f"{self.target.name}: query {query.number}: the device pasted pixels of sha256 "
                f"{answer['pixels_sha256']}, expected {expected}"
            )
        return unpacked(answer["logits"], np.float32)

    def _await(self, wanted: str) -> Event:
        while event := self.talk.hear():
            if event["event"] == wanted:
                return event
        ending = self.talk.close()
        lost = "the connection broke\n" if is_lost(self.target, ending.code) else ""
        raise UserError(f"{self.target.name}: {lost}{ending.why or 'the device ended the session'}")


@contextmanager
def session(target: Target, bundle_root: Path, out: Path) -> Iterator[Session]:
    """Hold a session open on a prepared target; `out` is a folder that hosts need, and stays empty."""
    bundle = Bundle.read(bundle_root)
    held = Session(target, bundle, begin(target, bundle_root, out))
    try:
        held.talk.say(request(target, session=True))
        event = loaded(target, bundle, held._await("loaded"))
        held.info, held.machine = event["info"], event["machine"]
        yield held
        held.talk.say({"end": True})
        while held.talk.hear():
            pass
    finally:
        held.talk.close()

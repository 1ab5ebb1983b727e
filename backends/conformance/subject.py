"""A target under test, and the bundle to test it with."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from backends.answers import Outcome
from backends.conformance import networks
from backends.device.artifact import Pixels
from backends.device.bundle import Bundle, Stamps, write_bundle
from backends.device.protocol import LatencyLimits
from backends.device.runtimes import Option
from backends.events import CaseFailed, Event, Loaded
from backends.hosts import Target, prepare, replay

N = 7
LATENCY: LatencyLimits = {"warmup": 2, "runs": 20, "seconds": 0.0}


@dataclass
class Subject:
    """A target under test, with a bundle of its format, and what earlier checks learned."""

    target: Target
    folder: Path
    bundle: Bundle
    silence_seconds: float = 0.0  # until its first event
    packages: Sequence[str] = ()
    replayed: dict[str, Outcome] = field(default_factory=dict)

    @property
    def kind(self) -> str:
        """Which network the file holds; see `backends.conformance.networks`."""
        return self.bundle.artifact.file.partition(".")[2]

    @property
    def first(self) -> Outcome:
        """The first replay, with a latency."""
        if "first" not in self.replayed:
            self.replayed["first"] = self.replay("first", LATENCY)
        return self.replayed["first"]

    def replay(self, name: str, latency: LatencyLimits | None = None, **changes: Any) -> Outcome:
        """Replay all cases, into a folder of its own."""
        begun = time.monotonic()

        def hear(event: Event | CaseFailed) -> None:
            if isinstance(event, Loaded) and not self.silence_seconds:
                self.silence_seconds, self.packages = time.monotonic() - begun, event.packages

        target = replace(self.target, **changes)
        return replay(target, self.bundle.root, self.folder / name, latency=latency, on_event=hear)

    def faulty(self, fault: str, at: Option = N + 3) -> Outcome:
        """Replay on the dummy runtime, with a fault in the second case."""
        limit = 3.0 + 3 * self.silence_seconds
        options: dict[str, Option] = {"fault": fault, "at": at}
        target = replace(self.target, runtime="dummy", version="", options=options, time_limit=limit)
        prepare(target)
        return replay(target, self.bundle.root, self.folder / fault)


def noise() -> Pixels:
    """Return the bundle's images, uint8 ``(N, size, size, 3)``."""
    return np.random.default_rng(2).integers(0, 256, (N, networks.SIZE, networks.SIZE, 3), np.uint8)


def bundle(root: Path, kind: str) -> Bundle:
    """Write a bundle of three cases: clean; a stamp with holes per image; one stamp for all."""
    rng = np.random.default_rng(3)
    cases: dict[str, Stamps | None] = {"none": None}
    for name, count, p in (("each", N, 3), ("same", 1, 2)):
        corners = rng.integers(0, networks.SIZE - p + 1, (N, 2)).astype(np.int32)
        cases[name] = Stamps(rng.integers(0, 256, (count, p, p, 3), np.uint8), rng.random((count, p, p)) < 0.8, corners)
    return write_bundle(root, networks.artifact(networks.file(kind)), networks.file(kind), noise(), cases)

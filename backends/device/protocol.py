"""What the lines of JSON to a device hold; `backends.events` has those that it answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional, TypedDict, Union

Option = Union[str, int, float, bool]


class RunLimits(TypedDict):
    """How long to measure: `warmup` runs, then at least `runs` and at least `seconds`."""

    warmup: int
    runs: int
    seconds: float


class LatencyLimits(RunLimits, total=False):
    """What to measure, and how long; `defence` is timed too."""

    defence: str


class ReplayLine(TypedDict):
    """What every first line to a device has."""

    schema: int
    runtime: str
    options: dict[str, Option]
    threads: int
    batch: int
    cases: list[str]
    attached: bool


class RequestLine(ReplayLine, total=False):
    """The first line to a device; see `backends.device.replay`."""

    latency: Optional[LatencyLimits]
    session: bool
    defence: str


class MachineFacts(TypedDict, total=False):
    """`backends.device.machine.Machine` as JSON, and what only the host knows: `emulated`, `emulator`."""

    arch: str
    cpu: str
    features: list[str]
    detected: list[str]
    cores: int
    memory_bytes: int
    kernel: str
    python: str
    numpy: str
    image: str
    emulated: bool
    emulator: str


@dataclass(frozen=True)
class PackedArray:
    """An array; `data` is base64."""

    dtype: str
    shape: tuple[int, ...]
    data: str


@dataclass(frozen=True)
class QueryLine:
    """A line of a session to a device; see `backends.device.query_server`."""

    query: int
    images: PackedArray
    stamps: PackedArray
    mask: PackedArray
    corners: PackedArray

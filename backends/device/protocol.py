"""The lines of JSON between a replay and the process that asked for it: what each may hold."""

from __future__ import annotations

from typing import NotRequired, Required, TypedDict

Option = str | int | float | bool


class LatencyLimits(TypedDict):
    """How long to measure: `warmup` runs, then at least `runs` and at least `seconds`; `defence` is timed too."""

    warmup: int
    runs: int
    seconds: float
    defence: NotRequired[str]


class RequestLine(TypedDict):
    """The first line to a device; see `backends.device.replay`."""

    schema: int
    runtime: str
    options: dict[str, Option]
    threads: int
    batch: int
    cases: list[str]
    attached: bool
    latency: NotRequired[LatencyLimits | None]
    session: NotRequired[bool]


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


class LatencyFacts(TypedDict, total=False):
    """Percentiles over `n` runs of one image, and how they were measured."""

    p50_ms: float
    p90_ms: float
    p99_ms: float
    n: int
    throughput_per_second: float
    clock_resolution_ns: int
    peak_rss_bytes: int
    preprocessing: str
    threads: int
    cold_start_seconds: float


class PackedArray(TypedDict):
    """An array; `data` is base64."""

    dtype: str
    shape: tuple[int, ...]
    data: str


class Event(LatencyFacts, total=False):
    """A line from a device. `event` names its kind; the other keys are those of that kind."""

    event: Required[str]
    message: str  # error, case_error
    bundle_sha256: str  # loaded: of the list of hashes of the bundle as read there
    info: dict[str, str]
    machine: MachineFacts
    packages: list[str]
    load_seconds: float
    first_run_seconds: float
    case: str  # progress (empty: of the latency or a query), case, case_error
    done: int
    of: int
    file: str  # case, latency
    file_sha256: str
    pixels_sha256: str  # case, scores
    defended_sha256: str
    seconds: float
    cpu_seconds: float
    anonymous_bytes: int | None
    query: int  # scores
    logits: PackedArray

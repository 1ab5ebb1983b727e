"""Read what a device is asked: lines of JSON, of bounded length; anything but that is a `UserError`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import BinaryIO, Optional

from backends.device.artifact import SCHEMA
from backends.device.errors import UserError
from backends.device.json_types import typed
from backends.device.machine import describe
from backends.device.protocol import LatencyLimits, Option
from backends.device.reading import parse_json

LINE_BYTES = 1 << 27
THREADS = 4096
BATCH = 1 << 16
RUNS = 10**8
SECONDS = 7 * 86400
WHERE = "standard input: not a request for a replay"


@dataclass(frozen=True)
class Request:
    """What to run; see `backends.device.replay`. ``threads`` 0 means one per core."""

    runtime: str
    cases: tuple[str, ...]
    options: Mapping[str, Option] = field(default_factory=dict)
    threads: int = 1
    batch: int = 1
    latency: Optional[LatencyLimits] = None
    attached: bool = False
    session: bool = False
    defence: str = ""  # of the session

    @classmethod
    def read(cls, line: bytes) -> Request:
        """Read a line of JSON."""
        raw = parse_json(line, WHERE)
        if isinstance(raw, dict) and raw.pop("schema", None) != SCHEMA:
            raise UserError(f"{WHERE}: expected one of schema {SCHEMA}")
        request: Request = typed(cls, raw, WHERE)
        if len(set(request.cases)) < len(request.cases):
            raise UserError(f"{WHERE}: a case is asked for twice")
        if not 0 <= request.threads <= THREADS or not 1 <= request.batch <= BATCH:
            raise UserError(
                f"{WHERE}: expected threads up to {THREADS} and batch from 1 to {BATCH}, got threads "
                f"{request.threads} and batch {request.batch}"
            )
        if request.latency is not None:
            _check_latency(request.latency)
        return request if request.threads else replace(request, threads=describe().cores)


def _check_latency(latency: LatencyLimits) -> None:
    is_possible = 0 <= latency["warmup"] <= RUNS and 1 <= latency["runs"] <= RUNS
    if not is_possible or not 0 <= latency["seconds"] <= SECONDS:
        raise UserError(f"{WHERE}: latency: expected 1 to {RUNS} runs in up to {SECONDS} s, got {latency}")


def lines(stream: BinaryIO) -> Iterator[bytes]:
    """Yield the lines of a stream; a longer one than `LINE_BYTES` is a `UserError`."""
    while line := stream.readline(LINE_BYTES + 1):
        if len(line) > LINE_BYTES:
            raise UserError(f"standard input: a line of more than {LINE_BYTES:,} bytes")
        yield line

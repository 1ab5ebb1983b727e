"""What a device may answer: a model for each event, and how much a line may hold.

A device is not trusted. `read_event` accepts nothing but these events; whether one fits what was asked is for the
asker to decide, who knows the bundle.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from backends.device.cpu_speed import CpuSpeed
from backends.device.errors import UserError
from backends.device.machine import Machine
from backends.device.protocol import PackedArray

EVENT_BYTES = 1 << 18  # of a line; only `scores` may be longer
OUTPUTS = 1 << 15  # of a classifier
RUNS = 10**8  # of a latency
SHOWN = 200


def printable(text: str) -> str:
    """Replace what would move a terminal's cursor or change its colours."""
    return "".join(c if c.isprintable() or c in "\n\t" else "\N{REPLACEMENT CHARACTER}" for c in text)


def _check_machine(machine: Machine) -> Machine:
    if machine.cores < 1 or not 0 <= machine.memory_bytes < 1 << 63:
        raise ValueError(f"{machine.cores} cores and {machine.memory_bytes} bytes of memory are no machine's")
    if not re.match(r"\d{1,3}\.\d{1,3}", machine.python):
        raise ValueError(f"{machine.python[:SHOWN]!r} is no version of Python")
    return machine._replace(
        arch=printable(machine.arch), cpu=printable(machine.cpu), kernel=printable(machine.kernel),
        python=printable(machine.python), numpy=printable(machine.numpy), image=printable(machine.image),
    )  # fmt: skip


Text = Annotated[str, AfterValidator(printable)]
Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
Count = Annotated[int, Field(ge=0, lt=1 << 63)]
Amount = Annotated[float, Field(ge=0)]
KnownMachine = Annotated[Machine, AfterValidator(_check_machine)]


class Said(BaseModel):
    """A message from elsewhere: no other keys than these, no other types, no NaN."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid", allow_inf_nan=False)


class Loaded(Said):
    """The file of the bundle with this hash is loaded and has run once, with so many outputs."""

    event: Literal["loaded"]
    info: dict[Text, Text]
    machine: KnownMachine
    packages: list[Text]
    load_seconds: Amount
    first_run_seconds: Amount
    outputs: int = Field(ge=1, le=OUTPUTS)
    bundle_sha256: Sha256


class Progress(Said):
    """So many images are done of a case, or, where `case` is empty, runs of the latency or images of a query."""

    event: Literal["progress"]
    case: str
    done: Count
    of: Count | None = None


class Answered(Said):
    """A case is done; its outputs are in a file."""

    event: Literal["case"]
    case: str
    pixels_sha256: Sha256
    defended_sha256: Sha256 | Literal[""] = ""
    seconds: Amount
    cpu_seconds: Amount
    anonymous_bytes: Count | None
    file: str
    file_sha256: Sha256


class Latency(Said):
    """Percentiles over `n` runs of one image, how they were measured, the CPU then, and the file of all runs."""

    event: Literal["latency"]
    p50_ms: Amount
    p90_ms: Amount
    p99_ms: Amount
    n: int = Field(ge=1, le=RUNS)
    throughput_per_second: Amount
    clock_resolution_ns: Count
    peak_rss_bytes: Count
    preprocessing: Literal["excluded", "included"]
    before: CpuSpeed
    after: CpuSpeed
    threads: Count
    cold_start_seconds: Amount
    file: str
    file_sha256: Sha256


class Scores(Said):
    """The answer to a query of a session."""

    event: Literal["scores"]
    query: Count
    logits: PackedArray
    pixels_sha256: Sha256


class End(Said):
    """All is answered."""

    event: Literal["end"]


class Failed(Said):
    """The device gives up, for a reason that the user can mend."""

    event: Literal["error"]
    message: Annotated[Text, Field(min_length=1)]


class CaseFailed(Said):
    """A case has an error; a device cannot say so, the asker does."""

    event: Literal["case_error"] = "case_error"
    case: str
    message: str


Event = Loaded | Progress | Answered | Latency | Scores | End | Failed
_EVENT: TypeAdapter[Event] = TypeAdapter(Annotated[Event, Field(discriminator="event")])


def read_event(line: bytes) -> Event | None:
    """Return the event of a line; None if it comes from elsewhere, such as a login's greeting.

    What begins like an event and is none is a `UserError`.
    """
    if not line.lstrip().startswith(b'{"event"'):
        return None
    try:
        return _EVENT.validate_json(line)
    except ValidationError as error:
        raise UserError(f"malformed event: {fault(error)}") from error


def fault(error: ValidationError) -> str:
    """Return the first fault that a model found, in a line."""
    first = error.errors(include_url=False)[0]
    where = ".".join(str(part) for part in first["loc"])
    what = f"{where}: {first['msg']}" if where else first["msg"]
    return f"{_shown(what)}, got {_shown(repr(first['input']))}"


def _shown(text: str) -> str:
    start = printable(text[:SHOWN]).replace("\n", " ")
    return start if len(text) <= SHOWN else f"{start}…"

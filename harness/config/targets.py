"""The `[[target]]` and `[latency]` tables: where artifacts run, and how they are timed."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from backends.device.errors import UserError
from backends.hosts import Fleet, Target
from backends.target import MOST_BATCH, MOST_SECONDS, MOST_THREADS
from harness.config.values import Addresses, Name
from harness.tables import Axis, Table


class TargetTable(Table):
    """Where artifacts run: a runtime and its options, on a host."""

    name: Name
    """Its name in the results."""

    runtime: str
    """`onnxruntime`, `litert` or another of the runtimes, or one from an installed package."""

    version: str = ""
    """Version of the runtime's package; one that is not installed gets an environment of its own."""

    host: str = "local"
    """`local`, `qemu`, `docker`, `ssh`, or `packed`: reached by files alone."""

    arch: str = ""
    """Architecture as `uname -m` says it: `x86_64`, `aarch64`, `armv7l`. By default, this machine's."""

    cpu: str = ""
    """CPU model that the host knows: `cortex-a53`, `Haswell`."""

    image: str = ""
    """A container image of your own, for the host `docker`."""

    address: Addresses = ""
    """A machine for the host `ssh`: `user@machine`, `ssh://user@machine:port`, or a name from ssh's configuration.
    Several of one kind are a fleet, which shares the replays: `["pi@a", "pi@b"]`."""

    debian: str = ""
    """The Debian that the host `qemu` unpacks for another architecture: `bullseye` (11), `bookworm` (12, the default),
    `trixie` (13), `forky` (14)."""

    options: dict[str, str | int | float | bool] = Field(default_factory=dict)
    """Options of the runtime itself."""

    threads: int = Field(1, ge=1, le=MOST_THREADS)
    """Threads of the runtime during a replay."""

    batch: int = Field(1, ge=1, le=MOST_BATCH)
    """Images per inference."""

    time_limit: float = Field(300.0, gt=0, le=MOST_SECONDS)
    """Seconds without a sign of life after which a replay counts as hung."""

    @model_validator(mode="after")
    def _is_a_target(self) -> TargetTable:
        try:
            self.target()
        except UserError as error:
            raise ValueError(str(error)) from error
        return self

    def target(self) -> Target:
        """Return the target as hosts take it."""
        settings = self.model_dump()
        if isinstance(self.address, str):
            return Target(**settings)
        first, *others = self.address
        return Fleet(**settings | {"address": first, "others": tuple(others)})


class LatencyTable(Table):
    """How targets are timed: a closed loop, one image at a time, once per thread count.

    A target that is emulated or simulated is timed for a few runs only, to see that it can be; its latencies are not
    comparable.
    """

    threads: Axis[Literal["all"] | Annotated[int, Field(ge=1, le=MOST_THREADS)]] = (1, "all")
    """Thread counts; `all` is every core of the target."""

    warmup: int = Field(default=10, ge=0)
    """Runs before the clock starts."""

    runs: int = Field(default=100, ge=1)
    """Runs at least."""

    seconds: float = Field(default=0.5, ge=0)
    """Seconds at least."""

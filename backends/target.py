"""A target: where files run. Whatever a suite or a command line says of it is checked here, before anything uses it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields

from backends.device.errors import UserError
from backends.device.names import shown
from backends.device.runtimes import Option
from backends.words import check_address, check_arch, check_cpu, check_debian, check_image, check_options, check_version

MOST_THREADS = 4096
MOST_BATCH = 1 << 16
MOST_SECONDS = 7 * 86400


@dataclass(frozen=True)
class Target:
    """Where artifacts run: a runtime with its options, on a host.

    An empty ``version`` of the runtime's package is the one installed here, or, on a host with its own packages, the
    one that this project pins. ``threads`` 0 means one per core of the device. ``arch`` is written as by ``uname -m``
    (``x86_64``, ``aarch64``, ``armv7l``), ``cpu`` is a model that the host knows, ``image`` a container image,
    ``debian`` a release of Debian, ``address`` a machine as ``ssh`` takes it, ``time_limit`` the seconds without an
    event that count as a hang.
    """

    name: str
    runtime: str
    version: str = ""
    host: str = "local"
    options: Mapping[str, Option] = field(default_factory=dict)
    threads: int = 1
    batch: int = 1
    time_limit: float = 300.0
    arch: str = ""
    cpu: str = ""
    image: str = ""
    address: str = ""
    debian: str = ""

    def __post_init__(self) -> None:
        for word, check in ((self.version, check_version), (self.arch, check_arch), (self.cpu, check_cpu),
                            (self.image, check_image), (self.address, check_address),
                            (self.debian, check_debian)):  # fmt: skip
            if word:
                check(word)
        check_options(self.options)
        for what, number, most in (("threads", self.threads, MOST_THREADS), ("batch", self.batch, MOST_BATCH),
                                   ("time_limit", self.time_limit, MOST_SECONDS)):  # fmt: skip
            if not 0 <= number <= most:
                raise UserError(f"{what} {number}: expected a number from 0 to {most}")

    @property
    def boards(self) -> tuple[Target, ...]:
        """The machines that answer under its name, each as a target of its own: of a `Fleet` several, else itself."""
        return (self,)

    @property
    def is_packed(self) -> bool:
        """Whether its answers come as files: then it can be asked nothing, and is not timed."""
        return self.host == "packed"

    @property
    def settings(self) -> dict[str, object]:
        """The settings that decide results on every host."""
        chosen = {"runtime": self.runtime, "options": dict(self.options), "host": self.host}
        return chosen | {"threads": self.threads, "batch": self.batch}


@dataclass(frozen=True)
class Fleet(Target):
    """Boards of one kind under one name: ``address`` is the first's, and ``others`` has those of the rest."""

    others: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.host != "ssh":
            raise UserError(f"host {self.host}: a list of addresses is for boards, whose host is ssh")
        seen: set[str] = set()
        for address in (self.address, *self.others):
            bare = check_address(address).removeprefix("ssh://").removesuffix("/").removesuffix(":22")
            if bare in seen:
                raise UserError(f"address {shown(address)}: the same board twice; name each once")
            seen.add(bare)

    @property
    def boards(self) -> tuple[Target, ...]:
        """Each board as a target."""
        common = {one.name: getattr(self, one.name) for one in fields(Target)}
        return tuple(Target(**common | {"address": address}) for address in (self.address, *self.others))

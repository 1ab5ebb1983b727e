"""How fast the CPU may run, how hot it is, and whether it had to slow down: what the kernel tells of it."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple, Optional

PI_SLOWED = 0b1110  # of `vcgencmd get_throttled`: frequency capped, throttled, at the soft limit of temperature


class CpuSpeed(NamedTuple):
    """The CPU at one moment, its fastest core and its hottest sensor; None or empty where the kernel tells nothing.

    `throttlings` counts how often the CPU has slowed itself down since it was started, on x86; `is_slowed` says whether
    a Raspberry Pi does so now.
    """

    governors: tuple[str, ...] = ()
    mhz: Optional[float] = None
    most_mhz: Optional[float] = None
    celsius: Optional[float] = None
    throttlings: Optional[int] = None
    is_slowed: Optional[bool] = None


def cpu_speed(system: Path = Path("/sys")) -> CpuSpeed:
    """Read the CPU's speed; `system` is where the kernel's files are."""
    cores = system / "devices/system/cpu"
    throttlings = _numbers(cores, "cpu[0-9]*/thermal_throttle/*_throttle_count")
    pi = _words(system, "devices/platform/soc/soc:firmware/get_throttled")
    return CpuSpeed(
        governors=tuple(sorted(set(_words(cores, "cpu[0-9]*/cpufreq/scaling_governor")))),
        mhz=_largest(cores, "cpu[0-9]*/cpufreq/scaling_cur_freq"),
        most_mhz=_largest(cores, "cpu[0-9]*/cpufreq/cpuinfo_max_freq"),
        celsius=_largest(system, "class/thermal/thermal_zone*/temp"),
        throttlings=sum(throttlings) if throttlings else None,
        is_slowed=bool(int(pi[0], 16) & PI_SLOWED) if pi else None,
    )


def has_throttled(before: CpuSpeed, after: CpuSpeed) -> bool:
    """Return whether the CPU slowed itself down between two moments, as far as it tells."""
    return bool(before.is_slowed or after.is_slowed) or before.throttlings != after.throttlings


def _largest(root: Path, pattern: str) -> float | None:
    """Return the largest number of some files, in thousands: they hold kHz, or thousandths of a degree."""
    return max((number / 1000 for number in _numbers(root, pattern)), default=None)


def _numbers(root: Path, pattern: str) -> list[int]:
    return [int(word) for word in _words(root, pattern) if word.lstrip("-").isdecimal()]


def _words(root: Path, pattern: str) -> list[str]:
    """Return what the files that match a pattern hold; one that cannot be read is left out."""
    found = []
    for path in root.glob(pattern):
        try:
            found.append(path.read_text().strip())
        except (OSError, UnicodeError):
            continue
    return found

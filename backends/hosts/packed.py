"""A device reached by files alone: ``patchbench pack`` writes what its network gets, ``take`` reads its answers.

Nothing can be asked of it, and nothing is timed.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

from backends.device.errors import UserError
from backends.hosts import Target, Tell


def start(target: Target, bundle: Path, out: Path) -> subprocess.Popen[bytes]:
    """Raise a `UserError`: it cannot be asked."""
    raise UserError(_reached(target))


def fetch(target: Target, out: Path, name: str, most: int) -> None:
    """Raise a `UserError`: it cannot be asked."""
    raise UserError(_reached(target))


def is_lost(code: int | None) -> bool:
    """Return False: there is no connection that could break."""
    return False


def prepare(target: Target, tell: Tell) -> None:
    """Raise a `UserError`: its answers have to be taken first."""
    raise UserError(_reached(target))


def identity(target: Target) -> dict[str, object]:
    """Return the target's settings: what else decides, its answers tell."""
    return target.settings


def availability(target: Target) -> str | None:
    """Return how its answers come."""
    return _reached(target)


def cores(target: Target) -> int:
    """Return 0: it is elsewhere."""
    return 0


def is_emulated(target: Target) -> bool:
    """Return False: whoever carries the files knows."""
    return False


def _reached(target: Target) -> str:
    return (
        f"its answers come as files: patchbench pack SUITE {target.name} --into DIR, run DIR there, then "
        "patchbench take DIR ANSWERS"
    )

"""The conformance suite: what any runtime on any host must do, checked through the replay protocol alone.

``python -m backends.conformance TARGET`` prints one line per check. Faults are provoked in the dummy runtime on the
same host.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from backends.conformance.checks import CHECKS
from backends.conformance.networks import network_for
from backends.conformance.subject import Subject, bundle
from backends.device.errors import UserError
from backends.device.runtimes import engine
from backends.hosts import Target, availability, prepare


class Verdict(NamedTuple):
    """A check, and what is wrong; empty if it passed."""

    check: str
    fault: str


def conform(
    target: Target, checks: Sequence[str] = (), tell: Callable[[str], None] = lambda word: None
) -> Iterator[Verdict]:
    """Run checks (by default all) on a target, in turn; a `UserError` where the target cannot run at all."""
    prepare(target, tell)
    if reason := availability(target):
        raise UserError(f"{target.name}: {reason}")
    with tempfile.TemporaryDirectory() as folder:
        subject = Subject(target, Path(folder), bundle(Path(folder) / "bundle", network_for(engine(target.runtime))))
        for name in checks or CHECKS:
            tell(name)
            try:
                yield Verdict(name, CHECKS[name](subject))
            except UserError as error:
                yield Verdict(name, str(error))

"""Hosts, one a file; the file's name is the registry. A host starts the device side somewhere and speaks with it.

A host's module has three functions: ``start(target, bundle, out)`` gives a process that runs ``backends.device.replay``
in a process group of its own, with pipes for standard input, output and error; ``identity`` and ``availability`` are
what the functions of the same names below say.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

from backends.device.artifact import SCHEMA
from backends.device.bundle import Bundle
from backends.device.errors import UserError
from backends.device.runtimes import Option
from backends.watch import Event, converse


@dataclass(frozen=True)
class Target:
    """Where artifacts run: a runtime with its options, on a host. ``time_limit``: seconds without a sign of life."""

    name: str
    runtime: str
    host: str = "local"
    options: Mapping[str, Option] = field(default_factory=dict)
    threads: int = 1
    batch: int = 1
    time_limit: float = 300.0
    arch: str = ""
    cpu: str = ""


@dataclass
class Outcome:
    """What a replay gave: for each case a file or an error, what ran, on what, and how fast."""

    files: dict[str, Path] = field(default_factory=dict)
    errors: dict[str, str] = field(default_factory=dict)
    info: dict[str, str] = field(default_factory=dict)
    machine: dict[str, Any] = field(default_factory=dict)
    latency: dict[str, Any] | None = None
    latency_error: str | None = None


def identity(target: Target) -> dict[str, Any]:
    """All that decides a target's results, known without running it: two alike may share them. JSON, milliseconds."""
    return dict(_host(target.host).identity(target))


def availability(target: Target) -> str | None:
    """None where the target can run; else why not, and the one command that mends it."""
    try:
        reason: str | None = _host(target.host).availability(target)
    except UserError as error:
        return str(error)
    return reason


def replay(
    target: Target,
    bundle_root: Path,
    out: Path,
    cases: Sequence[str] | None = None,
    latency: Mapping[str, float] | None = None,
    on_event: Callable[[Event], None] = lambda event: None,
) -> Outcome:
    """Replays cases of a bundle (all, by default) on a target, into ``OUT/CASE.npz``; see `backends.device.replay`.

    What the device cannot do is an error in the outcome, never an exception. A case in which it crashes, hangs or
    fails has an error, and a fresh process runs the rest; where not even loading works, all cases have that error.
    `on_event` hears each event of the device as it comes, ``case`` with ``file`` as a path on this machine, and
    ``case_error`` (``case``, ``message``) for each case that has one. An exception, from it or a key, ends the device.
    """
    bundle = Bundle.read(bundle_root)
    expected = {case.name: case.sha256 for case in bundle.cases}
    todo = list(expected if cases is None else cases)
    outcome, wanted = Outcome(), dict(latency) if latency else None
    while True:
        loaded, current = False, ""

        def hear(event: Event) -> None:
            nonlocal loaded, current
            if event["event"] == "loaded":
                loaded, outcome.info, outcome.machine = True, event["info"], event["machine"]
            elif event["event"] == "progress":
                current = event["case"]
            elif event["event"] == "latency":
                outcome.latency = event
            elif event["event"] == "case":
                todo.remove(event["case"])
                event = _accept(event, expected, out, outcome)
            on_event(event)

        request = {
            "schema": SCHEMA,
            "runtime": target.runtime,
            "options": dict(target.options),
            "threads": target.threads,
            "batch": target.batch,
            "cases": todo,
            "latency": wanted,
            "attached": True,
        }
        try:
            why = converse(_host(target.host).start(target, bundle_root, out), request, target.time_limit, hear)
        except UserError as error:
            why = str(error)
        if not why:
            return outcome
        failed = [current] if current in todo else todo[:1]
        if not loaded or not failed:  # the latency loop comes last
            if wanted and not outcome.latency:
                outcome.latency_error = why
            failed, wanted = list(todo), None
        for case in failed:
            todo.remove(case)
            outcome.errors[case] = why
            on_event({"event": "case_error", "case": case, "message": why})
        if not todo and wanted is None:
            return outcome


def _accept(event: Event, expected: Mapping[str, str], out: Path, outcome: Outcome) -> Event:
    """Takes up a finished case, or, where the device pasted other pixels than we did, its error."""
    case, found = event["case"], event["pixels_sha256"]
    if found != expected[case]:
        outcome.errors[case] = f"{case}: the device saw pixels of sha256 {found}, expected {expected[case]}"
        return {"event": "case_error", "case": case, "message": outcome.errors[case]}
    outcome.files[case] = out / f"{case}.npz"
    return event | {"file": str(outcome.files[case])}


def _host(name: str) -> ModuleType:
    if not name.isidentifier() or not find_spec(f"{__name__}.{name}"):
        ours = sorted(path.stem for path in Path(__file__).parent.glob("*.py") if path.stem != "__init__")
        raise UserError(f"no host named {name!r}; there are {', '.join(ours)}")
    return importlib.import_module(f"{__name__}.{name}")

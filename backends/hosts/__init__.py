"""Hosts, one per file, named by it. A host starts the device side somewhere and talks to it.

A host's module has these functions:

- ``start(target, bundle, out)`` returns a process that runs ``backends.device.replay``, in a process group of its own,
  with pipes for standard input, output and error;
- ``fetch(target, out, name)`` brings a result ``OUT/NAME`` of that process to this machine;
- ``is_lost(code)`` tells whether an exit code means that the connection broke, not the device: the case that was
  running is then tried again;
- ``prepare``, ``identity``, ``availability``, ``cores`` and ``is_emulated`` are described by the functions of the same
  names below.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import cast

from backends.conversation import Conversation, Ending
from backends.device.artifact import SCHEMA, sha256_file
from backends.device.bundle import Bundle, Case
from backends.device.errors import UserError, did_you_mean
from backends.device.names import check_name, modules, shown
from backends.device.protocol import Event, LatencyLimits, MachineFacts, RequestLine
from backends.device.runtimes import check_target_options
from backends.target import Target as Target

Tell = Callable[[str], None]  # called with a line of progress
TRIES = 3  # for a case whose connection was lost


@dataclass
class Outcome:
    """The result of a replay: a file or an error for each case, what ran, on which machine, and how fast."""

    files: dict[str, Path] = field(default_factory=dict)
    errors: dict[str, str] = field(default_factory=dict)
    info: dict[str, str] = field(default_factory=dict)
    machine: MachineFacts = field(default_factory=MachineFacts)
    latency: Event | None = None
    latency_error: str | None = None


def identity(target: Target) -> dict[str, object]:
    """Return all that decides a target's results, as JSON, without running it; equal ones may share results."""
    return dict(_host(target.host).identity(target))


def availability(target: Target) -> str | None:
    """Return None where the target can run; else why not, with the command that fixes it."""
    try:
        check_target_options(target.runtime, target.options)
        reason: str | None = _host(target.host).availability(target)
    except UserError as error:
        return str(error)
    return reason


def prepare(target: Target, tell: Tell = lambda word: None) -> None:
    """Install whatever the target is missing (an environment, a sysroot, an image), once; minutes at most.

    A failure is a `UserError`. Concurrent calls are safe.
    """
    _host(target.host).prepare(target, tell)


def cores(target: Target) -> int:
    """Return how many cores of this machine a replay keeps busy; 0 for one that runs elsewhere."""
    return int(_host(target.host).cores(target))


def is_emulated(target: Target) -> bool:
    """Return whether the CPU is emulated, so that latencies are meaningless."""
    return bool(_host(target.host).is_emulated(target))


def begin(target: Target, bundle_root: Path, out: Path) -> Conversation:
    """Start a fresh device process, which waits for a `request` and ends with this process.

    If it cannot be started, that is a `UserError`.
    """
    return Conversation(_host(target.host).start(target, bundle_root, out), target.time_limit)


def request(
    target: Target, cases: Sequence[str] = (), latency: LatencyLimits | None = None, session: bool = False
) -> RequestLine:
    """Return the first line to a device; see `backends.device.replay`."""
    return {
        "schema": SCHEMA,
        "runtime": target.runtime,
        "options": dict(target.options),
        "threads": target.threads,
        "batch": target.batch,
        "cases": list(cases),
        "attached": True,
        "latency": latency,
        "session": session,
    }


def loaded(target: Target, event: Event) -> Event:
    """Complete a ``loaded`` event with what only the host knows; a wrong version is a `UserError`."""
    if target.version and event["info"]["version"] != target.version:
        found = event["info"]["version"]
        raise UserError(f"{target.name}: asked for {target.runtime} {target.version}, found {found} there")
    return event | {"machine": event["machine"] | _emulation(target)}


def is_lost(target: Target, code: int | None) -> bool:
    """Return whether an exit code means that the connection to the device broke, not the device."""
    return bool(_host(target.host).is_lost(code))


def replay(
    target: Target,
    bundle_root: Path,
    out: Path,
    cases: Sequence[str] | None = None,
    latency: LatencyLimits | None = None,
    on_event: Callable[[Event], None] = lambda event: None,
) -> Outcome:
    """Replay cases of a bundle (by default all) on a target, into ``OUT/CASE.npz``; see `backends.device.replay`.

    A failure of the device is an error in the outcome, never an exception. A case in which it crashes, hangs or fails
    gets that error, and a fresh process runs the rest; if loading fails, all cases get the error. `on_event` is called
    with each event of the device, ``case`` with ``file`` as a path on this machine, and with ``case_error`` (``case``,
    ``message``) for each failed case. An exception, also a KeyboardInterrupt, ends the device.
    """
    expected = {case.name: case for case in Bundle.read(bundle_root).cases}
    todo = list(expected if cases is None else cases)
    progress = _Progress(target, out, expected, on_event, todo, latency)
    while True:
        progress.has_loaded = False
        progress.current = ""
        asked = request(target, cases=progress.todo, latency=progress.latency)
        try:
            ending = ask(target, bundle_root, out, asked, progress.hear)
        except UserError as error:
            ending = Ending(str(error))
        if not ending.why or not progress.goes_on(ending):
            return progress.outcome


@dataclass
class _Progress:
    """A replay so far: what is still to do, what came back, and how often the connection may still break."""

    target: Target
    out: Path
    expected: Mapping[str, Case]
    on_event: Callable[[Event], None]
    todo: list[str]
    latency: LatencyLimits | None
    outcome: Outcome = field(default_factory=Outcome)
    tries: int = TRIES
    has_loaded: bool = False
    current: str = ""

    def hear(self, event: Event) -> None:
        """Take up one event of the device, and pass it on."""
        if event["event"] == "loaded":
            event = loaded(self.target, event)
            self.has_loaded = True
            self.outcome.info = event["info"]
            self.outcome.machine = event["machine"]
        elif event["event"] == "progress":
            self.current = event["case"]
        elif event["event"] == "latency":
            self.outcome.latency = event
            _fetched(self.target, self.out, event)
        elif event["event"] == "case":
            self.todo.remove(event["case"])
            event = _accept(self.target, event, self.expected, self.out, self.outcome)
            self.tries = TRIES
        self.on_event(event)

    def goes_on(self, ending: Ending) -> bool:
        """Give the failed cases their error; return whether a fresh device has anything left to do."""
        why = ending.why
        if is_lost(self.target, ending.code):
            self.tries -= 1
            if self.tries:
                return True
            self.tries = TRIES
            why = f"the connection broke {TRIES} times\n{why.partition(chr(10))[2]}"
        failed = [self.current] if self.current in self.todo else self.todo[:1]
        if not self.has_loaded or not failed:  # the latency loop comes last
            if self.latency and not self.outcome.latency:
                self.outcome.latency_error = why
            failed = list(self.todo)
            self.latency = None
        for case in failed:
            self.todo.remove(case)
            self.outcome.errors[case] = why
            self.on_event({"event": "case_error", "case": case, "message": why})
        return bool(self.todo) or self.latency is not None


def ask(target: Target, bundle_root: Path, out: Path, asked: RequestLine, hear: Callable[[Event], None]) -> Ending:
    """Send one request to a fresh device and pass every event to `hear`; the device has ended afterwards."""
    talk = begin(target, bundle_root, out)
    try:
        talk.say(asked)
        while event := talk.hear():
            hear(event)
    finally:
        ending = talk.close()
    return ending


def _emulation(target: Target) -> MachineFacts:
    """Facts that only the host knows: under emulation the kernel still describes the real machine."""
    if not is_emulated(target):
        return {"emulated": False}
    facts = {name: value for name, value in identity(target).items() if name in ("cpu", "emulator") and value}
    return cast(MachineFacts, {"emulated": True} | facts)


def _accept(target: Target, event: Event, expected: Mapping[str, Case], out: Path, outcome: Outcome) -> Event:
    """Accept a finished case; if the device pasted other pixels than we did, record an error instead."""
    case = event["case"]
    found = event["pixels_sha256"]
    defended = event.get("defended_sha256", "")
    wanted = expected[case]
    try:
        if found != wanted.sha256:
            raise UserError(f"{case}: the device pasted pixels of sha256 {found}, expected {wanted.sha256}")
        if defended != wanted.defended_sha256:
            raise UserError(
                f"{case}: after {wanted.defence or 'no defence'} the device has pixels of sha256 {defended}, expected "
                f"{wanted.defended_sha256}"
            )
        outcome.files[case] = _fetched(target, out, event)
    except UserError as error:
        outcome.errors[case] = str(error)
        return {"event": "case_error", "case": case, "message": outcome.errors[case]}
    return event | {"file": str(outcome.files[case])}


def _fetched(target: Target, out: Path, event: Event) -> Path:
    """Fetch a result and check that it has the bytes that the device wrote."""
    path = out / check_name(str(event["file"]), out)
    _host(target.host).fetch(target, out, path.name)
    if not path.is_file() or sha256_file(path) != event["file_sha256"]:
        raise UserError(f"{path}: differs from what the device wrote (sha256 {event['file_sha256']}); replay it again")
    return path


def _host(name: str) -> ModuleType:
    ours = modules(__path__)
    if name not in ours:
        raise UserError(f"no host named {shown(name)}; {did_you_mean(name, ours)}")
    return importlib.import_module(f"{__name__}.{name}")

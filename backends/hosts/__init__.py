"""Hosts, one a file; the file's name is the registry. A host starts the device side somewhere and speaks with it.

A host's module has these functions:

- ``start(target, bundle, out)`` gives a process that runs ``backends.device.replay``, in a process group of its own,
  with pipes for standard input, output and error;
- ``fetch(target, out, name)`` sees to it that a result ``OUT/NAME`` of that process is on this machine;
- ``is_lost(code)`` says whether an exit code means that the way to the device broke, and not the device: the case that
  was running is then tried again;
- ``prepare``, ``identity``, ``availability``, ``cores`` and ``is_emulated`` are what the functions of the same names
  below say.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

from backends.conversation import Conversation, Ending, Event
from backends.device.artifact import SCHEMA, sha256_file
from backends.device.bundle import Bundle, Case, check_name
from backends.device.errors import UserError, did_you_mean
from backends.device.runtimes import Option, check_target_options

Tell = Callable[[str], None]  # hears a word on how long work goes on
TRIES = 3  # for a case whose device was lost on the way


@dataclass(frozen=True)
class Target:
    """Where artifacts run: a runtime with its options, on a host.

    ``version`` of the runtime's package: empty is the one that is installed here, or on a host with packages of its own
    the one that this project pins. ``threads`` 0 are as many as the device has cores. ``arch`` as ``uname -m`` says it
    (``x86_64``, ``aarch64``, ``armv7l``), ``cpu`` a model that the host knows. ``image`` is a container's, ``address``
    a machine's as ``ssh`` takes it. ``time_limit``: seconds without a sign of life.
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
        check_target_options(target.runtime, target.options)
        reason: str | None = _host(target.host).availability(target)
    except UserError as error:
        return str(error)
    return reason


def prepare(target: Target, tell: Tell = lambda word: None) -> None:
    """Brings about what the target needs and lacks (an environment, a sysroot, an image), once; minutes at most.

    `tell` hears how it goes. What cannot be had is a `UserError`. Two at once do not break each other.
    """
    _host(target.host).prepare(target, tell)


def cores(target: Target) -> int:
    """How many cores of this machine a replay keeps busy; 0 for one that runs elsewhere."""
    return int(_host(target.host).cores(target))


def is_emulated(target: Target) -> bool:
    """Whether its CPU is emulated, so that its latencies compare with nothing."""
    return bool(_host(target.host).is_emulated(target))


def begin(target: Target, bundle_root: Path, out: Path) -> Conversation:
    """Starts a fresh device, which ends with this process, and speaks with it; it waits for a `request`.

    One that cannot be started is a `UserError`.
    """
    return Conversation(_host(target.host).start(target, bundle_root, out), target.time_limit)


def request(target: Target, **more: Any) -> dict[str, Any]:
    """The first line for a device: see `backends.device.replay`."""
    return {
        "schema": SCHEMA,
        "runtime": target.runtime,
        "options": dict(target.options),
        "threads": target.threads,
        "batch": target.batch,
        "cases": [],
        "attached": True,
        **more,
    }


def loaded(target: Target, event: Event) -> Event:
    """A device's event of that name, with what only the host knows; another version than asked is a `UserError`."""
    if target.version and event["info"]["version"] != target.version:
        found = event["info"]["version"]
        raise UserError(f"{target.name}: asked for {target.runtime} {target.version}, found {found} there")
    return event | {"machine": event["machine"] | _emulation(target)}


def is_lost(target: Target, code: int | None) -> bool:
    """Whether an exit code means that the way to the device broke, and not the device."""
    return bool(_host(target.host).is_lost(code))


def replay(
    target: Target,
    bundle_root: Path,
    out: Path,
    cases: Sequence[str] | None = None,
    latency: Mapping[str, Any] | None = None,
    on_event: Callable[[Event], None] = lambda event: None,
) -> Outcome:
    """Replays cases of a bundle (all, by default) on a target, into ``OUT/CASE.npz``; see `backends.device.replay`.

    What the device cannot do is an error in the outcome, never an exception. A case in which it crashes, hangs or
    fails has an error, and a fresh process runs the rest; where not even loading works, all cases have that error.
    `on_event` hears each event of the device as it comes, ``case`` with ``file`` as a path on this machine, and
    ``case_error`` (``case``, ``message``) for each case that has one. An exception, from it or a key, ends the device.
    """
    bundle = Bundle.read(bundle_root)
    expected = {case.name: case for case in bundle.cases}
    todo = list(expected if cases is None else cases)
    outcome, wanted, tries = Outcome(), dict(latency) if latency else None, TRIES
    while True:
        has_loaded, current = False, ""

        def hear(event: Event) -> None:
            nonlocal has_loaded, current, tries
            if event["event"] == "loaded":
                event = loaded(target, event)
                has_loaded, outcome.info, outcome.machine = True, event["info"], event["machine"]
            elif event["event"] == "progress":
                current = event["case"]
            elif event["event"] == "latency":
                outcome.latency = event
                _fetched(target, out, event)
            elif event["event"] == "case":
                todo.remove(event["case"])
                event, tries = _accept(target, event, expected, out, outcome), TRIES
            on_event(event)

        try:
            ending = ask(target, bundle_root, out, request(target, cases=todo, latency=wanted), hear)
        except UserError as error:
            ending = Ending(str(error))
        if not ending.why:
            return outcome
        why, lost = ending.why, is_lost(target, ending.code)
        if lost and (tries := tries - 1):
            continue
        if lost:
            why, tries = f"the connection broke {TRIES} times\n{why.partition(chr(10))[2]}", TRIES
        failed = [current] if current in todo else todo[:1]
        if not has_loaded or not failed:  # the latency loop comes last
            if wanted and not outcome.latency:
                outcome.latency_error = why
            failed, wanted = list(todo), None
        for case in failed:
            todo.remove(case)
            outcome.errors[case] = why
            on_event({"event": "case_error", "case": case, "message": why})
        if not todo and wanted is None:
            return outcome


def ask(
    target: Target, bundle_root: Path, out: Path, asked: Mapping[str, Any], hear: Callable[[Event], None]
) -> Ending:
    """One request to a fresh device: `hear` has every event; the device is gone afterwards, whatever happens."""
    talk = begin(target, bundle_root, out)
    try:
        talk.say(asked)
        while event := talk.hear():
            hear(event)
    finally:
        ending = talk.close()
    return ending


def _emulation(target: Target) -> dict[str, Any]:
    """What only the host knows: an emulated kernel tells of the machine that it runs on."""
    known = {name: word for name, word in identity(target).items() if name in ("cpu", "emulator") and word}
    return {"emulated": True} | known if is_emulated(target) else {"emulated": False}


def _accept(target: Target, event: Event, expected: Mapping[str, Case], out: Path, outcome: Outcome) -> Event:
    """Takes up a finished case, or, where the device pasted other pixels than we did, its error."""
    case, found, defended = event["case"], event["pixels_sha256"], event.get("defended_sha256", "")
    try:
        if found != (wanted := expected[case]).sha256:
            raise UserError(f"{case}: the device saw pixels of sha256 {found}, expected {wanted.sha256}")
        if defended != wanted.defended_sha256:
            raise UserError(
                f"{case}: after {wanted.defence or 'no defence'} the device saw pixels of sha256 {defended}, expected "
                f"{wanted.defended_sha256}"
            )
        outcome.files[case] = _fetched(target, out, event)
    except UserError as error:
        outcome.errors[case] = str(error)
        return {"event": "case_error", "case": case, "message": outcome.errors[case]}
    return event | {"file": str(outcome.files[case])}


def _fetched(target: Target, out: Path, event: Event) -> Path:
    """A result on this machine, with the bytes that the device wrote."""
    path = out / check_name(str(event["file"]), out)
    _host(target.host).fetch(target, out, path.name)
    if not path.is_file() or sha256_file(path) != event["file_sha256"]:
        raise UserError(f"{path}: is not what the device wrote (sha256 {event['file_sha256']}); replay it again")
    return path


def _host(name: str) -> ModuleType:
    if not name.isidentifier() or not find_spec(f"{__name__}.{name}"):
        ours = sorted(path.stem for path in Path(__file__).parent.glob("*.py") if path.stem != "__init__")
        raise UserError(f"no host named {name!r}; {did_you_mean(name, ours)}")
    return importlib.import_module(f"{__name__}.{name}")

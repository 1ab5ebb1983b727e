"""Hosts, one per file, named by it. A host starts the device side somewhere and talks to it.

A host's module has these functions:

- ``start(target, bundle, out)`` returns a process that runs ``backends.device.replay``, in a process group of its own,
  with pipes for standard input, output and error;
- ``fetch(target, out, name, most)`` brings a result ``OUT/NAME`` of that process, of at most `most` bytes, here;
- ``is_lost(code)`` tells whether an exit code means that the connection broke, not the device: the case that was
  running is then tried again;
- ``prepare``, ``identity``, ``availability``, ``cores`` and ``is_emulated`` are described by the functions of the same
  names below.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import cast

from backends.answers import Answers, OnEvent, Outcome, WrongFile
from backends.conversation import Conversation, Ending
from backends.device.artifact import SCHEMA
from backends.device.bundle import Bundle
from backends.device.errors import NotWritten, UserError, did_you_mean
from backends.device.names import check_name, modules, shown
from backends.device.protocol import LatencyLimits, MachineFacts, RequestLine
from backends.device.runtimes import check_target_options
from backends.events import Event, Loaded
from backends.fidelity import Fidelity, fidelity
from backends.target import Fleet as Fleet
from backends.target import Target as Target

Tell = Callable[[str], None]  # called with a line of progress


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


def fidelity_of(target: Target) -> Fidelity:
    """Return how true a target is to the device that it stands for, as far as its settings tell."""
    return fidelity(target.runtime, target.host, target.arch, is_emulated(target))


def begin(target: Target, bundle_root: Path, out: Path) -> Conversation:
    """Start a fresh device process, which waits for a `request` and ends with this process.

    If it cannot be started, that is a `UserError`.
    """
    return Conversation(_host(target.host).start(target, bundle_root, out), target.time_limit)


def request(
    target: Target,
    cases: Sequence[str] = (),
    latency: LatencyLimits | None = None,
    session: bool = False,
    defence: str = "",
) -> RequestLine:
    """Return the first line to a device; `defence` is the session's. See `backends.device.replay`."""
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
        "defence": defence,
    }


def machine_facts(target: Target, event: Loaded) -> MachineFacts:
    """Return a device's machine, with what only the host knows; a wrong version of the runtime is a `UserError`."""
    version = event.info.get("version")
    if target.version and version != target.version:
        raise UserError(f"{target.name}: asked for {target.runtime} {target.version}, found {version} there")
    machine = cast(MachineFacts, event.machine._asdict())
    return machine | _emulation(target)


def is_lost(target: Target, code: int | None) -> bool:
    """Return whether an exit code means that the connection to the device broke, not the device."""
    return bool(_host(target.host).is_lost(code))


def replay(
    target: Target,
    bundle_root: Path,
    out: Path,
    cases: Sequence[str] | None = None,
    latency: LatencyLimits | None = None,
    on_event: OnEvent = lambda event: None,
) -> Outcome:
    """Replay cases of a bundle (by default all) on a target, into ``OUT/CASE.npz``; see `backends.device.replay`.

    A failure of the device is an error in the outcome, never an exception. A case in which it crashes, hangs or fails
    gets that error, and a fresh process runs the rest; if loading fails, all cases get the error. `on_event` is called
    with each event of the device, ``case`` with ``file`` as a path on this machine, and with ``case_error`` (``case``,
    ``message``) for each failed case. An exception, also a KeyboardInterrupt, ends the device.
    """
    bundle = Bundle.read(bundle_root)
    answers = Answers(
        bundle=bundle,
        todo=[case.name for case in bundle.cases] if cases is None else list(cases),
        latency=latency,
        time_limit=target.time_limit,
        describe=partial(machine_facts, target),
        fetch=partial(_fetch, target, out),
        on_event=on_event,
    )
    while True:
        answers.begin()
        asked = request(target, cases=answers.todo, latency=answers.latency)
        try:
            ending = ask(target, bundle_root, out, asked, answers.hear)
        except UserError as error:
            ending = Ending(str(error), by_device=not isinstance(error, WrongFile | NotWritten))
        if not answers.goes_on(ending, is_lost(target, ending.code)):
            return answers.outcome


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


def _fetch(target: Target, out: Path, name: str, most: int) -> Path:
    path = out / check_name(name, out)
    _host(target.host).fetch(target, out, name, most)
    return path


def _host(name: str) -> ModuleType:
    ours = modules(__path__)
    if name not in ours:
        raise UserError(f"no host named {shown(name)}; {did_you_mean(name, ours)}")
    return importlib.import_module(f"{__name__}.{name}")

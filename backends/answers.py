"""What a device answers to a replay, held against what was asked; whatever does not fit is a `UserError`."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backends.conversation import Ending
from backends.device.artifact import sha256_file
from backends.device.bundle import Bundle
from backends.device.defences import many_passes
from backends.device.errors import UserError
from backends.device.protocol import LatencyLimits, MachineFacts
from backends.device.reading import ARRAY_BYTES, MEBIBYTE, Axis, Expected, map_npy, read_npz, regular_file
from backends.events import Answered, CaseFailed, Event, Latency, Loaded, Progress

TRIES = 3  # for a case whose connection was lost
OF_MANY_PASSES = {"verdicts": np.uint8, "passes": np.int32, "certified": np.bool_}
INTEGERS = (np.int8, np.uint8, np.int16, np.uint16, np.int32, np.int64)

OnEvent = Callable[[Event | CaseFailed], None]


class WrongFile(UserError):
    """The model file is at fault, not the device that says so."""


@dataclass
class Outcome:
    """The result of a replay: a file or an error for each case, what ran, on which machine, and how fast.

    ``by_device`` are the failed cases that another device of the same kind may well answer: the fault is this one's.
    """

    files: dict[str, Path] = field(default_factory=dict)
    errors: dict[str, str] = field(default_factory=dict)
    by_device: set[str] = field(default_factory=set)
    info: dict[str, str] = field(default_factory=dict)
    machine: MachineFacts = field(default_factory=MachineFacts)
    latency: Latency | None = None
    latency_error: str | None = None


@dataclass
class Answers:
    """A replay so far: what is still to do, what came back, and how often the connection may still break.

    `describe` returns the machine of a ``loaded`` event; `fetch` brings a result of at most so many bytes here.
    """

    bundle: Bundle
    todo: list[str]
    latency: LatencyLimits | None
    time_limit: float
    describe: Callable[[Loaded], MachineFacts]
    fetch: Callable[[str, int], Path]
    on_event: OnEvent
    outcome: Outcome = field(default_factory=Outcome)
    tries: int = TRIES
    outputs: int = 0  # of the file, once it is loaded
    current: str = ""
    latency_begun: float | None = None

    def begin(self) -> None:
        """Expect the events of a fresh device."""
        self.outputs = 0
        self.current = ""
        self.latency_begun = None

    def hear(self, event: Event) -> None:
        """Take up one event of the device, and pass it on."""
        if isinstance(event, Loaded) == bool(self.outputs):
            raise UserError(f"expected one event `loaded`, before all others; got {event.event}")
        told: Event | CaseFailed = event
        if isinstance(event, Loaded):
            check_loaded(self.bundle, event)
            self.outcome.machine = self.describe(event)
            self.outcome.info = event.info
            self.outputs = event.outputs
        elif isinstance(event, Progress):
            self._check_progress(event)
            self.current = event.case
        elif isinstance(event, Answered):
            self._check_asked(event.case)
            self.todo.remove(event.case)
            self.tries = TRIES
            told = self._case(event)
        elif isinstance(event, Latency):
            self._take_latency(event)
        else:
            raise UserError(f"expected a replay's event, got {event.event}")
        self.on_event(told)

    def goes_on(self, ending: Ending, is_lost: bool) -> bool:
        """Give the failed cases their error; return whether a fresh device has anything left to do."""
        left = [*self.todo, *(["the latency"] if self.latency else [])]
        if not left:
            return False
        why = ending.why or f"the device ended without an answer for {', '.join(left[:3])}"
        by_device = is_lost or ending.by_device or not ending.why
        if is_lost:
            self.tries -= 1
            if self.tries:
                return True
            self.tries = TRIES
            why = f"the connection broke {TRIES} times\n{why.partition(chr(10))[2]}"
        failed = [self.current] if self.current in self.todo else self.todo[:1]
        if not self.outputs or not failed:  # the latency loop comes last
            if self.latency:
                self.outcome.latency_error = why
            failed = list(self.todo)
            self.latency = None
        for case in failed:
            self.todo.remove(case)
            self.on_event(self._failed(case, why, by_device=by_device))
        return bool(self.todo) or self.latency is not None

    def _check_asked(self, case: str) -> None:
        if case not in self.todo:
            raise UserError(f"an answer for case {case!r:.80}, which was not asked for or is answered already")

    def _check_progress(self, event: Progress) -> None:
        """Check that progress is of something asked for, and comes to an end."""
        if event.case:
            self._check_asked(event.case)
            if event.done > self.bundle.n:
                raise UserError(f"case {event.case}: {event.done} images are done, of {self.bundle.n}")
            return
        if self.latency is None:
            raise UserError("progress of a latency that was not asked for")
        self.latency_begun = self.latency_begun or time.monotonic()
        most = self.latency["seconds"] + 2 * self.time_limit  # warm-up, and the last run
        if event.done > self.latency["runs"] and time.monotonic() - self.latency_begun > most:
            raise UserError(f"hang: the latency goes on after {event.done} runs and {most:g} s")

    def _case(self, event: Answered) -> Answered | CaseFailed:
        """Accept a finished case; with other pixels or outputs than expected it has an error instead."""
        try:
            self.outcome.files[event.case] = self._file(event)
        except UserError as error:
            return self._failed(event.case, str(error), by_device=True)
        return event.model_copy(update={"file": str(self.outcome.files[event.case])})

    def _file(self, event: Answered) -> Path:
        wanted = self.bundle.case(event.case)
        if event.pixels_sha256 != wanted.sha256:
            raise UserError(
                f"{event.case}: the device pasted pixels of sha256 {event.pixels_sha256}, expected {wanted.sha256}"
            )
        if event.defended_sha256 != wanted.defended_sha256:
            raise UserError(
                f"{event.case}: after {wanted.defence or 'no defence'} the device has pixels of sha256 "
                f"{event.defended_sha256}, expected {wanted.defended_sha256}"
            )
        most = 24 * self.bundle.n * self.outputs + MEBIBYTE
        path = self._fetched(event, f"{event.case}.npz", most)
        check_verdicts(read_answers(path, (self.bundle.n, self.outputs), most), wanted.defence, path)
        return path

    def _take_latency(self, event: Latency) -> None:
        if self.latency is None:
            raise UserError("a latency that was not asked for or is answered already")
        if event.n < self.latency["runs"]:
            raise UserError(f"a latency of {event.n} runs, expected {self.latency['runs']} or more")
        path = self._fetched(event, "latency.npy", 8 * event.n + MEBIBYTE)
        map_npy(path, Expected((np.int64,), (event.n,)))
        self.outcome.latency = event
        self.latency = None

    def _fetched(self, event: Answered | Latency, name: str, most: int) -> Path:
        """Fetch a result and check that it has the bytes that the device wrote."""
        if event.file != name:
            raise UserError(f"expected a result {name}, got {event.file!r:.80}")
        path = self.fetch(name, most)
        if path.is_symlink():
            raise UserError(f"{path}: expected a file, found a link")
        regular_file(path, most)
        try:
            found = sha256_file(path)
        except OSError as error:
            raise UserError(f"{path}: cannot be read ({error.strerror})") from error
        if found != event.file_sha256:
            raise UserError(f"{path}: differs from what the device wrote (sha256 {event.file_sha256}); replay it again")
        return path

    def _failed(self, case: str, why: str, *, by_device: bool) -> CaseFailed:
        self.outcome.errors[case] = why
        if by_device:
            self.outcome.by_device.add(case)
        return CaseFailed(case=case, message=why)


def read_answers(path: Path, shape: Sequence[Axis], most: int = ARRAY_BYTES) -> dict[str, NDArray[Any]]:
    """Read the answers to a case: ``logits``, float32 ``(images, outputs)``; ``integers`` where its file gives them.

    Behind a defence that runs the network many times also ``verdicts``, ``passes`` and ``certified``, one an image.
    """
    expected = {"logits": Expected((np.float32,), shape), "integers": Expected(INTEGERS, shape, required=False)}
    for name, dtype in OF_MANY_PASSES.items():
        expected[name] = Expected((dtype,), shape[:1], required=False)
    return read_npz(path, expected, most)


def check_verdicts(arrays: Mapping[str, NDArray[Any]], defence: str, path: Path) -> None:
    """Check that a defence of many passes has a verdict on each image, and that no other has one."""
    module = many_passes(defence)
    wanted = set(OF_MANY_PASSES) if module else set()
    if found := (set(OF_MANY_PASSES) & set(arrays)) ^ wanted:
        raise UserError(f"{path}: after {defence or 'no defence'}, expected {_list(wanted)}; {_list(found)} is amiss")
    if module and (arrays["verdicts"].max() >= len(module.VERDICTS) or arrays["passes"].min() < 1):
        raise UserError(f"{path}: expected verdicts below {len(module.VERDICTS)}, and 1 pass or more")


def _list(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)) or "no verdicts"


def check_loaded(bundle: Bundle, event: Loaded) -> None:
    """Check that the device read this very bundle, and that the file has enough outputs for the artifact's classes."""
    if event.bundle_sha256 != bundle.sha256:
        raise UserError(f"the device read a bundle of sha256 {event.bundle_sha256}, expected {bundle.sha256}")
    least = bundle.artifact.classes + bundle.artifact.class_offset
    if event.outputs < least:
        raise WrongFile(f"{bundle.file}: the device reports {event.outputs} outputs, expected {least} or more")

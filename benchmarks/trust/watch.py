"""Watch one case: what it raises, how long it takes, how much memory, and which files it touches."""

from __future__ import annotations

import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

import harness
from backends.device.errors import UserError

HANG_SECONDS = 10.0
MOST_MEMORY = 512 << 20
ROOT = Path(harness.__file__).resolve().parents[1]
OURS = tuple(f"{ROOT}/{package}/" for package in ("backends", "exporters", "patches", "harness"))
READABLE = (sys.prefix, sys.base_prefix, str(ROOT), "/proc/", "/sys/", "/dev/null", "/dev/urandom", "/usr/")
# Audit events whose first argument, or first two, is a path that changes.
CHANGING = {"os.mkdir": 1, "os.rename": 2, "os.remove": 1, "os.rmdir": 1, "os.link": 2, "os.symlink": 2, "os.chmod": 1,
            "os.truncate": 1, "os.chown": 1, "os.utime": 1, "shutil.rmtree": 1}  # fmt: skip
PROGRAMS = ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "socket.connect")


class Hang(BaseException):
    """A case takes longer than it may."""


class Seen(NamedTuple):
    """What became of a case: ``accepted``, ``refused`` by a UserError, or a fault; and in which words."""

    outcome: str
    says: str = ""


class Watch:
    """Runs cases in folders of their own, and holds each against what an unfuzzed one did."""

    def __init__(self, folders: Sequence[Path], trusted: bool) -> None:
        self.folders = tuple(os.path.realpath(folder) for folder in folders)
        self.trusted = trusted  # may read any file, and finds no program installed
        self.known: set[str] = set()  # what an unfuzzed case touched
        self.learning = True
        self.running = False
        self.escapes: list[str] = []
        self.usual = 0
        self._until = 0.0
        sys.addaudithook(self._audit)
        signal.signal(signal.SIGALRM, self._alarm)

    def learn(self, case: Callable[[], object]) -> None:
        """Run an unfuzzed case, which is how it should be."""
        for _ in range(2):
            with self._running(alarm=False):
                case()
        self.usual = _peak_memory()
        self.learning = False

    def run(self, case: Callable[[], object]) -> Seen:
        """Run a case."""
        self.escapes.clear()
        seen = Seen("accepted")
        try:
            with self._running():
                case()
        except UserError as error:
            seen = Seen("refused", str(error))
        except Hang as hang:
            seen = Seen("hang", _place(hang))
        except Exception as error:
            seen = Seen("traceback", f"{_place(error)}: {error!r}")
        if self.escapes:
            return Seen("escape", "; ".join(self.escapes[:3]))
        if (more := _peak_memory() - self.usual) > MOST_MEMORY:
            return Seen("memory", f"{more >> 20} MB more; {seen.says}")
        return seen

    @contextmanager
    def _running(self, alarm: bool = True) -> Iterator[None]:
        Path("/proc/self/clear_refs").write_text("5")  # the peak of memory starts anew
        self._until = _own_time() + HANG_SECONDS
        signal.setitimer(signal.ITIMER_REAL, HANG_SECONDS if alarm else 0)
        self.running = True
        try:
            yield
        finally:
            self.running = False
            signal.setitimer(signal.ITIMER_REAL, 0)

    def _alarm(self, signum: int, frame: FrameType | None) -> None:
        if (left := self._until - _own_time()) <= 0:
            raise Hang
        signal.setitimer(signal.ITIMER_REAL, max(left, 0.1))

    def _audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.running:
            return
        if event == "open":
            path, _, flags = arguments
            self._touch(path, bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC)), event)
        elif event in ("os.listdir", "os.scandir"):
            self._touch(arguments[0], False, event)
        elif event in CHANGING:
            for path in arguments[: CHANGING[event]]:
                self._touch(path, True, event)
        elif event in PROGRAMS:
            self._start(event, str(arguments[:2]))

    def _touch(self, path: object, changes: bool, event: str) -> None:
        if not isinstance(path, str | bytes | os.PathLike):
            return  # a descriptor, of what was opened before
        self.running = False  # while we look ourselves
        real = os.path.realpath(os.fsdecode(path))
        self.running = True
        if f"{real}/".startswith(tuple(f"{folder}/" for folder in self.folders)):
            return
        if self.learning:
            self.known.add(real)
        elif real not in self.known and (changes or not (self.trusted or real.startswith(READABLE))):
            self.escapes.append(f"{event} {real}")

    def _start(self, event: str, what: str) -> None:
        program = what.partition(",")[0]
        if self.learning:
            self.known.add(program)
        elif self.trusted:
            raise FileNotFoundError(f"{what}: no program is installed here")
        elif program not in self.known:
            self.escapes.append(f"{event} {what}")


def _own_time() -> float:
    """Return a time that stands still while this process waits for a processor that others keep busy."""
    waited = int(Path("/proc/self/schedstat").read_text().split()[1])
    return time.monotonic() - waited / 1e9


def _peak_memory() -> int:
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) << 10


def _place(error: BaseException) -> str:
    """Return the innermost line of ours that an exception went through."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if frame.filename.startswith(OURS)]
    last = (ours or frames)[-1]
    return f"{type(error).__name__} at {last.filename.removeprefix(str(ROOT))}:{last.lineno}"

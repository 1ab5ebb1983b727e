"""A cluster of a scheduler and two workers, a store on an S3 server, and what stands between them to break."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import psutil
from processes import descendants

START = ("env", "--default-signal=INT", sys.executable, "-m")
SCHEDULER = "distributed.cli.dask_scheduler"
WORKER = "distributed.cli.dask_worker"
HERE = "127.0.0.1"
WORKERS = 2
UP_SECONDS = 60.0  # until a scheduler or a worker is there
PIECE = 1 << 16
T = TypeVar("T")
THREADS = {"OMP_NUM_THREADS": "1"}  # of the command, and so of the workers


class Link:
    """Passes on what a worker and its scheduler say, unless it is cut, or keeps what they say to itself."""

    def __init__(self, behind: int) -> None:
        self._behind = behind
        self._listener = socket.create_server((HERE, 0))
        self.port: int = self._listener.getsockname()[1]
        self._sockets: set[socket.socket] = set()
        self._is_cut = False
        self._passes = threading.Event()
        self._passes.set()
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """Break all connections, and refuse new ones."""
        self._is_cut = True
        for one in list(self._sockets):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def silence(self) -> None:
        """Keep what is said, on connections that stay."""
        self._passes.clear()

    def mend(self) -> None:
        """Pass everything on again."""
        self._is_cut = False
        self._passes.set()

    def _accept(self) -> None:
        while True:
            near, _ = self._listener.accept()
            try:
                far = socket.create_connection((HERE, self._behind))
            except OSError:
                near.close()
                continue
            self._sockets |= {near, far}
            for one, other in ((near, far), (far, near)):
                threading.Thread(target=self._pump, args=(one, other), daemon=True).start()
            if self._is_cut:
                self.cut()

    def _pump(self, one: socket.socket, other: socket.socket) -> None:
        with suppress(OSError):
            while piece := one.recv(PIECE):
                self._passes.wait()
                other.sendall(piece)
        for end in (one, other):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        self._sockets.discard(one)
        one.close()


class Cluster:
    """Processes of Dask's own command line; each worker has a nanny, and a link to the scheduler."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as free:
            free.bind((HERE, 0))
            self._port: int = free.getsockname()[1]
        self._folder = folder
        self.links = [Link(self._port) for _ in range(WORKERS)]
        self._started: list[subprocess.Popen[bytes]] = []
        self.start_scheduler()
        self.nannies = [self.start_worker(link) for link in self.links]

    @property
    def address(self) -> str:
        """What is given to ``--cluster``."""
        return f"tcp://{HERE}:{self._port}"

    def start_scheduler(self) -> None:
        """Start a scheduler at the address, and wait until it listens."""
        self.scheduler = self._start(SCHEDULER, "--host", HERE, "--port", self._port, "--no-dashboard")
        _until(lambda: _listens(self._port))

    def start_worker(self, link: Link, environment: Mapping[str, str] | None = None) -> subprocess.Popen[bytes]:
        """Start a nanny, which starts a worker of one core."""
        where = f"tcp://{HERE}:{link.port}"
        words = ("--nthreads", 1, "--host", HERE, "--no-dashboard", "--local-directory", self._folder / "dask")
        return self._start(WORKER, where, *words, environment=environment)

    def worker(self, nanny: subprocess.Popen[bytes]) -> psutil.Process:
        """Return the worker of a nanny."""
        return _until(lambda: next((one for one, line in descendants(nanny.pid) if "spawn_main" in str(line)), None))

    def devices(self) -> list[psutil.Process]:
        """Return what runs of the device side below the workers."""
        return [
            one for nanny in self.nannies for one, line in descendants(nanny.pid) if "backends.device" in " ".join(line)
        ]

    def refresh(self) -> None:
        """See to it that everything runs again, as who keeps a cluster would."""
        for link in self.links:
            link.mend()
        if self.scheduler.poll() is not None:
            self.start_scheduler()
        for number, nanny in enumerate(self.nannies):
            if nanny.poll() is not None:
                self.nannies[number] = self.start_worker(self.links[number])

    def close(self) -> None:
        """End all, whatever state it is in."""
        for process in self._started:
            for child, _ in descendants(process.pid):
                with suppress(psutil.NoSuchProcess):
                    child.kill()
            process.kill()
            process.wait()

    def _start(
        self, module: str, *words: object, environment: Mapping[str, str] | None = None
    ) -> subprocess.Popen[bytes]:
        with (self._folder / "dask.log").open("ab") as log:
            process = subprocess.Popen(
                [*START, module, *map(str, words)], cwd=self._folder, env=os.environ | THREADS | (environment or {}),
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        self._started.append(process)
        return process


def kill_with_children(process: subprocess.Popen[bytes]) -> None:
    """End a process and all below it at once, as a machine that is switched off does."""
    below = [child for child, _ in descendants(process.pid)]
    process.send_signal(signal.SIGKILL)
    for child in below:
        with suppress(psutil.NoSuchProcess):
            child.kill()
    process.wait()


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return not probe.connect_ex((HERE, port))


def _until(found: Callable[[], T | None]) -> T:
    end = time.monotonic() + UP_SECONDS
    while not (one := found()):
        if time.monotonic() > end:
            raise TimeoutError(f"nothing within {UP_SECONDS:g} s")
        time.sleep(0.05)
    return one

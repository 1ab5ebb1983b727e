"""File exchange, the board's end of host ``ssh``: receive files, store them by hash, and send results back.

A board has nothing of ours at first, so the sources of `machine`, `cpu_speed` and this module are sent to the board's
Python and run there: they must not import any other module of ours, nor numpy. Messages are lines of JSON under the key
``board``, which tells them from a login's greeting::

    <- {"home": "/home/pi/.cache/patchbench", "machine": {...}, "speed": {...}, "version": "2.3.0"}
    -> {"trees": {NAME: {PATH: [sha256, bytes]}}, "kill": WORD}                           to send files
    <- {"missing": [sha256, ...]}, then -> the bytes of these, one after the other
    <- {"ready": true}
    -> {"give": PATH}                                                                     to get a result
    <- {"bytes": 1234}, then the bytes; -> {"done": true}, and the file is removed
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TypedDict, cast

KEPT_SECONDS = 7 * 86400  # for results that nobody fetched
PIECE = 1 << 20


class Message(TypedDict, total=False):
    """A message in either direction; see above for which keys go together."""

    home: str
    machine: object  # `machine.Machine` as a dictionary
    speed: object  # `cpu_speed.CpuSpeed` as a dictionary
    version: str | None
    trees: dict[str, dict[str, tuple[str, int]]]  # sha256 and size, by path, by tree
    kill: str
    missing: list[str]
    ready: bool
    give: str
    bytes: int
    done: bool
    error: str


def answer(machine: object, speed: object, version: str | None) -> None:
    """Answer one request; a failure is sent as ``error``."""
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "patchbench"
    try:
        _say({"home": str(home), "machine": machine, "speed": speed, "version": version})
        request = _hear()
        if "trees" in request:
            _end_others(request["kill"])
            _take(home, request["trees"])
        elif "give" in request:
            _give(home / request["give"])
    except OSError as error:
        _say({"error": f"{error.filename or home}: {error.strerror or error}"})


def _take(home: Path, trees: dict[str, dict[str, tuple[str, int]]]) -> None:
    """Ask for the files that are missing here, and build the trees out of links to them."""
    files = home / "files"
    for folder in ("files", "trees", "runs"):
        (home / folder).mkdir(parents=True, exist_ok=True)
    for run in (home / "runs").iterdir():
        if time.time() - run.stat().st_mtime > KEPT_SECONDS:
            shutil.rmtree(run, ignore_errors=True)
    trees = {name: tree for name, tree in trees.items() if not (home / "trees" / name).is_dir()}
    wanted = {sha256: size for tree in trees.values() for sha256, size in tree.values()}
    missing = [sha256 for sha256 in sorted(wanted) if not (files / sha256).is_file()]
    _say({"missing": missing})
    for sha256 in missing:
        _receive(files / sha256, wanted[sha256])
    for name, tree in trees.items():
        _link(files, tree, home / "trees" / name)
    _say({"ready": True})


def _link(files: Path, tree: dict[str, tuple[str, int]], into: Path) -> None:
    """Build a tree beside its place, and rename it."""
    beside = into.with_name(f".{into.name}.{os.getpid()}")
    try:
        for path, (sha256, _) in tree.items():
            (beside / path).parent.mkdir(parents=True, exist_ok=True)
            try:
                os.link(files / sha256, beside / path)
            except OSError:  # the file system has no links
                shutil.copyfile(files / sha256, beside / path)
        try:
            beside.rename(into)
        except OSError:
            if not into.is_dir():  # no other process was faster
                raise
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _receive(path: Path, size: int) -> None:
    """Receive a file from standard input; write it beside, and rename it once its hash matches its name."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    digest = hashlib.sha256()
    try:
        with beside.open("wb") as stream:
            while size:
                piece = sys.stdin.buffer.read(min(size, PIECE))
                if not piece:
                    raise OSError("the connection broke while receiving files")
                digest.update(piece)
                size -= stream.write(piece)
        if digest.hexdigest() != path.name:
            raise OSError(f"received sha256 {digest.hexdigest()}, expected {path.name}")
        beside.rename(path)
    finally:
        with suppress(OSError):
            beside.unlink()


def _give(path: Path) -> None:
    _say({"bytes": path.stat().st_size})
    with path.open("rb") as stream:
        shutil.copyfileobj(stream, sys.stdout.buffer)
    sys.stdout.buffer.flush()
    if _hear().get("done"):
        path.unlink()
        with suppress(OSError):
            path.parent.rmdir()


def _end_others(word: str) -> None:
    """Kill what still runs of an earlier try: the board may not have noticed yet that the connection is gone."""
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if word.encode() in (process / "cmdline").read_bytes():
                os.kill(int(process.name), signal.SIGKILL)


def _say(what: Message) -> None:
    sys.stdout.buffer.write(b"\n" + json.dumps({"board": what}).encode() + b"\n")
    sys.stdout.buffer.flush()


def _hear() -> Message:
    line = sys.stdin.buffer.readline()
    return cast(Message, json.loads(line) if line.endswith(b"\n") else {})

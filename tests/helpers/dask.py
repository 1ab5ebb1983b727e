"""Dask's own processes, for tests: started, listened to, and ended."""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

import psutil
import pytest

from helpers.command import INTERRUPTIBLE, environ

SECONDS = 240  # for what takes ten
T = TypeVar("T")


@contextmanager
def started(command: list[object], suite: Path, **environment: str) -> Iterator["subprocess.Popen[str]"]:
    """A process of ours; it and its children end with the block."""
    process = subprocess.Popen(
        [*INTERRUPTIBLE, sys.executable, "-m", *map(str, command)],
        cwd=suite.parent, env=environ(PATCHBENCH_DATA=".", **environment), stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True, start_new_session=True,
    )  # fmt: skip
    try:
        yield process
    finally:
        for one in family(process.pid):
            with suppress(psutil.NoSuchProcess):
                one.kill()
        process.kill()
        process.communicate(timeout=SECONDS)


def family(pid: int) -> list[psutil.Process]:
    with suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).children(recursive=True)
    return []


def line(process: "subprocess.Popen[str]", words: str) -> str:
    """The next line with these words."""
    assert process.stdout is not None
    said = ""
    for one in process.stdout:
        said += one
        if words in one:
            return one
    pytest.fail(said)


def until(found: Callable[[], T]) -> T:
    end = time.monotonic() + SECONDS
    while not (one := found()):
        assert time.monotonic() < end
        time.sleep(0.1)
    return one

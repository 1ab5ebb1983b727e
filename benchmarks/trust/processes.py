"""Processes below a command, and what is left of them."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import psutil


def descendants(pid: int) -> list[tuple[psutil.Process, list[str]]]:
    """List the processes below one, with their command lines."""
    found = []
    with suppress(psutil.NoSuchProcess):
        for process in psutil.Process(pid).children(recursive=True):
            with suppress(psutil.NoSuchProcess):
                found.append((process, process.cmdline()))
    return found


def alive(processes: list[psutil.Process]) -> list[psutil.Process]:
    """Choose those that run."""
    found = []
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            if process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def naming(folder: Path) -> list[psutil.Process]:
    """List the processes whose command line names a folder."""
    processes = psutil.process_iter(["cmdline"])
    return alive(
        [process for process in processes if any(str(folder) in word for word in process.info["cmdline"] or [])]
    )

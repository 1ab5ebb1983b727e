"""What is dear to make, made once in a run of the tests and read by all its processes."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock


class Once:
    """Folders by name: the first process of xdist that asks for one makes it, the others wait; all only read it."""

    def __init__(self, factory: pytest.TempPathFactory) -> None:
        own = factory.getbasetemp()
        self.root = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "once"
        self.root.mkdir(exist_ok=True)

    def __call__(self, name: str, make: Callable[[Path], object]) -> Path:
        folder = self.root / name
        finished = self.root / f"{name}.finished"
        with FileLock(self.root / f"{name}.lock"):
            if not finished.exists():
                shutil.rmtree(folder, ignore_errors=True)  # a test that failed in the middle of it
                folder.mkdir()
                make(folder)
                finished.touch()
        return folder

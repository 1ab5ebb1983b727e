"""Fixtures that every test may use."""

import os
from collections.abc import Iterator
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as the command line has it; before anything loads OpenMP

import pytest

from backends.hosts import Target, availability
from backends.hosts.qemu import EMULATORS

REQUIRED = {name for name in os.environ.get("PATCHBENCH_REQUIRE", "").split(",") if name}


def absent(what: str, why: str) -> None:
    """Skips, saying why; where PATCHBENCH_REQUIRE names it, fails instead."""
    if what in REQUIRED:
        pytest.fail(f"{what} is required here: {why}")
    pytest.skip(f"{what}: {why}")


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Torch with one thread: what is small is not worth sharing out, and gives the same bytes wherever it runs."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of real images and networks."""
    path = os.environ.get("PATCHBENCH_DATA")
    if not path or not Path(path).is_dir():
        absent("data", "PATCHBENCH_DATA is unset or no folder; real images and networks are left out")
    return Path(path)


@pytest.fixture(scope="session")
def qemu() -> None:
    """Emulators of every architecture, and what makes their systems."""
    for arch in EMULATORS:
        if why_not := availability(Target("t", "tflite_runtime", host="qemu", arch=arch)):
            absent("qemu", why_not)

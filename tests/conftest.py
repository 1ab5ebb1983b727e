"""Fixtures that every test may use."""

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from helpers.once import Once
from helpers.required import absent

# before anything loads OpenMP: as the command line has it, and so that the processes of xdist share out the cores
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
if processes := int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", 0)):
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // processes)))

import numpy as np
import pytest
from helpers import board
from hypothesis import HealthCheck, settings

from backends.hosts import Target, availability
from backends.hosts.qemu import EMULATORS

pytest_plugins = ["helpers.left_out"]
settings.register_profile("busy", suppress_health_check=[HealthCheck.too_slow])  # as machines of CI may be
settings.load_profile("busy")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with the most slow tests go first: so both processes of xdist are busy to the end."""
    slow = Counter(item.path for item in items if item.get_closest_marker("slow") or item.get_closest_marker("data"))
    items.sort(key=lambda item: -slow[item.path])


def pytest_runtest_setup(item: pytest.Item) -> None:
    """A test that starts no server of its own is left out by its mark."""
    if item.get_closest_marker("ssh"):
        board.programs()


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Torch with one thread: what is small is not worth sharing out, and gives the same bytes wherever it runs."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def once(tmp_path_factory: pytest.TempPathFactory) -> Once:
    """Folders that are made once for all processes of this run."""
    return Once(tmp_path_factory)


@pytest.fixture(scope="session")
def exported(once: Once) -> Callable[..., Path]:
    """Gives the file of one of the small networks by its name, format and spec, beside it its ``net.json``."""
    from helpers import small_networks as small

    def file(name: str, format: str, quant: Any = small.SPEC) -> Path:
        spec = hashlib.sha256(repr(quant).encode()).hexdigest()[:8]
        folder = once(
            f"{name}-{format}-{spec}", lambda folder: small.write(folder, getattr(small, name)(), format, quant)
        )
        return folder / f"net.{format}"

    return file


@pytest.fixture(scope="session")
def quick(once: Once) -> Path:
    """A folder with the quick suite, run once: copy it before another run."""
    from helpers.command import patchbench
    from helpers.suites import write

    def run(folder: Path) -> None:
        done = patchbench("run", write(folder), cwd=folder)
        assert done.returncode == 0, done.stdout + done.stderr

    return once("quick", run)


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of real images and networks."""
    path = os.environ.get("PATCHBENCH_DATA")
    if not path or not Path(path).is_dir():
        absent("data", "PATCHBENCH_DATA is unset or no folder; real images and networks are left out")
    return Path(path)


@pytest.fixture(scope="session")
def cifar(data_dir: Path) -> dict[str, np.ndarray]:
    """CIFAR-10: x_train, y_train, x_test, y_test."""
    with np.load(data_dir / "cifar10" / "cifar10.npz", allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


@pytest.fixture(scope="session")
def qemu() -> None:
    """Emulators of every architecture, and what makes their systems."""
    for arch in EMULATORS:
        if why_not := availability(Target("t", "tflite_runtime", host="qemu", arch=arch)):
            absent("qemu", why_not)


# A third party's runtime: ours that goes wrong on request, which also tells when it starts and prints where it can.
FAULTY = """
import os
from backends.device.runtimes import dummy

print("garbage at import")

class Engine(dummy.Engine):
    package = "numpy"

    def load(self, path, options, threads):
        with open(os.environ["FAULTY_LOG"], "a") as log:
            log.write(f"{os.getpid()}\\n")
        print('{"event": "garbage at load"}', flush=True)
        super().load(path, options, threads)
"""


@pytest.fixture
def faulty(tmp_path, monkeypatch):
    """Installs the faulty runtime as a distribution of its own; gives the log of its starts, a process id each."""
    site, log = tmp_path / "site", tmp_path / "log"
    info = site / "faulty-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: faulty\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[patchbench.runtimes]\nfaulty = faulty_runtime:Engine\n")
    (site / "faulty_runtime.py").write_text(FAULTY)
    monkeypatch.setenv("PYTHONPATH", str(site))
    monkeypatch.setenv("FAULTY_LOG", str(log))
    monkeypatch.syspath_prepend(str(site))
    return log


@pytest.fixture
def bundle(tmp_path):
    """The small network's bundle: six images clean, with a patch for each, and with the same for all."""
    from helpers import tiny

    return tiny.bundle(tmp_path / "bundle", tiny.onnx_file(tmp_path / "tiny.onnx"))

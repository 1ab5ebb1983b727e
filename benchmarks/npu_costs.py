"""What each simulator of an NPU passes and needs: ``python benchmarks/npu_costs.py --data DIR [FORMAT ...]``.

For each runtime the checks of `backends.conformance`, and what pip downloads and installs; for each format of its
files, with the ResNet-20 for CIFAR-10, CPU time and the largest resident memory of a process, of an export and of a
replay. CPU time stands on a busy machine too. DIR has ``cifar10/``. What ``benchmarks/results/npus/costs.json`` has is
not measured again; ``costs.md`` beside it is the table. Qualcomm's and Rockchip's take part where
PATCHBENCH_ACCEPT_LICENCE has ``qualcomm`` and ``rockchip``.
"""

import argparse
import json
import re
import subprocess
import tempfile
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import suppress
from multiprocessing import get_context
from pathlib import Path
from resource import RUSAGE_CHILDREN, RUSAGE_SELF, getrusage
from threading import Event
from typing import NamedTuple

import psutil

from backends import environments
from backends.conformance import conform
from backends.device.artifact import Pixels, QuantSpec
from backends.device.runtimes import engine
from backends.hosts import Target
from harness import config
from harness.api import exporting, replaying
from harness.data import datasets
from harness.networks.architectures import build
from harness.networks.victims import Normalised
from harness.networks.weights import load_weights, read_weights

# how Arm's and Qualcomm's read a file of LiteRT's and onnxruntime's, and what each compiler takes
RUNTIMES = {
    "tflite": "tosa", "onnx": "qnn", "bmodel": "tpu_mlir", "cvimodel": "tpu_mlir", "rknn": "rknn", "kmodel": "nncase",
    "espdl": "esp_ppq",
}  # fmt: skip
SYMMETRIC, UNSIGNED = ("bmodel", "cvimodel", "espdl"), ("onnx", "kmodel")
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CALIBRATION, FEW, MANY = 64, 10, 50  # images
MEBIBYTE = 1 << 20
SAMPLE_SECONDS = 0.02
RESULTS = Path(__file__).parent / "results" / "npus"
FOUND, TABLE = RESULTS / "costs.json", RESULTS / "costs.md"
Found = dict[str, dict[str, float]]  # by runtime, and by suffix of files, what `of_runtime` and `of_format` say


class Cost(NamedTuple):
    """CPU seconds of a process and of what it started, and the largest resident memory of one of them, in MiB."""

    seconds: float
    memory: float


def main(data_dir: Path, formats: list[str]) -> None:
    """Measure each format, and write the table of all that were measured."""
    RESULTS.mkdir(exist_ok=True)
    found: Found = json.loads(FOUND.read_text()) if FOUND.is_file() else {}
    for kind in formats:
        for name, measure in ((RUNTIMES[kind], of_runtime), (f".{kind}", of_format)):
            if name not in found:
                print(name)
                found[name] = measure(name, data_dir)
                FOUND.write_text(json.dumps(found, indent=1) + "\n")
    TABLE.write_text(table(found))


def of_runtime(runtime: str, data_dir: Path) -> dict[str, float]:
    """Return how many checks a runtime passes, of how many, and the MiB that its environment takes."""
    verdicts = list(conform(Target(runtime, runtime)))
    for one in verdicts:
        if one.fault:
            print(f"{runtime} fails {one.check}: {one.fault}")
    requirements = environments.pinned(engine(runtime).package)
    return {
        "passed": sum(not one.fault for one in verdicts),
        "checks": len(verdicts),
        "download": downloaded(requirements) / MEBIBYTE,
        "disk": size(environments.python(requirements).parents[1]) / MEBIBYTE,
    }


def of_format(suffix: str, data_dir: Path) -> dict[str, float]:
    """Return what an export of the network to a format takes, and an image of its replay: MiB and CPU time."""
    with tempfile.TemporaryDirectory() as name:
        file = Path(name) / f"resnet20{suffix}"
        exported = apart(export, data_dir, file)
        few, many = (apart(replay, data_dir, file, n) for n in (FEW, MANY))
    return {
        "export_seconds": exported.seconds,
        "export_memory": exported.memory,
        "image_milliseconds": 1000 * (many.seconds - few.seconds) / (MANY - FEW),
        "replay_memory": many.memory,
    }


def apart(work: Callable[..., bool], *arguments: object) -> Cost:
    """Run a function in a process of its own; where it returns True, what that starts is counted alone."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(_cost, work, *arguments).result()


def _cost(work: Callable[..., bool], *arguments: object) -> Cost:
    done = Event()
    with ThreadPoolExecutor(1) as watcher:
        started = watcher.submit(_largest, done)
        try:
            alone = work(*arguments)
        finally:
            done.set()
    used = [getrusage(one) for one in ((RUSAGE_CHILDREN,) if alone else (RUSAGE_SELF, RUSAGE_CHILDREN))]
    memory = started.result() if alone else max(started.result(), _high_water("self"))
    return Cost(sum(one.ru_utime + one.ru_stime for one in used), memory)


def _largest(done: Event) -> float:
    """Return the most memory that a process started here has, until `done`.

    `getrusage` knows it too, but counts this process's own for each that it starts. So does the kernel for what has not
    become another program yet, which still has this one's command line.
    """
    this, most = psutil.Process(), 0.0
    line = this.cmdline()
    while not done.wait(SAMPLE_SECONDS):
        for one in this.children(recursive=True):
            with suppress(psutil.Error, OSError):
                most = max(most, _high_water(str(one.pid)) if one.cmdline() != line else 0.0)
    return most


def _high_water(process: str) -> float:
    """Return the most memory that a process, by its number, has had so far, in MiB."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc", process, "status").read_text())
    return int(found[1]) / 1024 if found else 0.0


def export(data_dir: Path, file: Path) -> bool:
    """Export the network; the process itself counts, with what it imports."""
    kind = file.suffix[1:]
    network = build("resnet20", 10)
    load_weights(network, read_weights(data_dir / "cifar10/resnet20.th"), file)
    quant = QuantSpec(symmetric_activations=kind in SYMMETRIC, activation_signed=kind not in UNSIGNED)
    exporting.export(Normalised(network, MEAN, STD).eval(), images(data_dir, CALIBRATION), quant, file)
    return False


def replay(data_dir: Path, file: Path, n: int) -> bool:
    """Replay images; the device side counts alone."""
    replaying.replay(file, images(data_dir, n), RUNTIMES[file.suffix[1:]], timed_runs=0)
    return True


def images(data_dir: Path, n: int) -> Pixels:
    """Return test images."""
    spec = config.DataTable(name="cifar10")
    return datasets.load(spec, (32, 32), data_dir, data_dir)["test"].pixels[:n]


def downloaded(requirements: tuple[str, ...]) -> int:
    """Return how many bytes pip downloads for an environment."""
    python = environments.python(requirements)
    with tempfile.TemporaryDirectory() as folder:
        for words in environments.in_turn(requirements):
            command = [python, "-I", "-m", "pip", "download", "--quiet", "--dest", folder, *words]
            subprocess.run(command, check=True)
        return size(Path(folder))


def size(folder: Path) -> int:
    """Return the bytes of the files in a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink())


def table(found: Found) -> str:
    """Return what was found as Markdown, a row for each format."""
    lines = [
        "| runtime | files | checks passed | download, MiB | on disk, MiB | export, s of CPU | its memory, MiB "
        "| an image, ms of CPU | memory of a replay, MiB |",
        "|---|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for kind, runtime in RUNTIMES.items():
        if f".{kind}" in found:
            passed, checks, *takes = found[runtime].values()
            counts = f"{passed:.0f} of {checks:.0f}"
            figures = [f"{value:.{0 if value >= 10 else 1}f}" for value in (*takes, *found[f".{kind}"].values())]
            lines.append(f"| `{runtime}` | `.{kind}` | {counts} | {' | '.join(figures)} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("formats", metavar="FORMAT", nargs="*", choices=[*RUNTIMES, []], default=list(RUNTIMES))
    parser.add_argument("--data", type=Path, required=True, metavar="DIR")
    given = parser.parse_args()
    main(given.data, given.formats)

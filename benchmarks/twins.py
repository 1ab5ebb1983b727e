"""Measure how far twins agree with the runtimes: ``python benchmarks/twins.py MODELS --data DIR [--only PATTERN]``.

MODELS holds what these two write (``-o MODELS`` each, ``--data DIR``), and a patch::

    patchbench export benchmarks/suites/cifar10.toml --only '*s8s8*' --only '*u8s8*'
    patchbench export benchmarks/suites/imagenet.toml --only '*s8s8*'
    patchbench craft benchmarks/suites/cifar10.toml --only 'gap-float-resnet20-c3-*'

Adds what is missing to ``benchmarks/results/twins.csv``, so that a second run continues where the first stopped, and
writes ``twins.md`` from it. The reference kernels are slow: on ImageNet they see the first 100 images.
"""

import csv
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import Annotated, NamedTuple

import numpy as np
import typer

from backends.device.artifact import Artifact, sha256_file
from backends.device.bundle import paste
from exporters.files import describe
from harness import config
from harness.data import datasets as data
from harness.run.arithmetic import compare_with_runtime
from patches import placement
from patches.patch import Patch
from patches.twins import KERNELS

RESULTS = Path(__file__).parent / "results"
CIFAR10 = config.DataTable(name="cifar10", calibration=1, craft=1, evaluate=1000)
SLOW = 100  # images


class Row(NamedTuple):
    """One comparison, as text, as it stands in the CSV."""

    file: str
    sha256: str
    kernels: str
    images: str
    patch: str
    n: str
    outputs: str
    top1: str
    equal: str
    within_one: str
    largest: str


class Job(NamedTuple):
    """A file, the kernels to compare it with, and the patch on the images, if any."""

    file: Path
    kernels: str
    patch: Path | None

    @property
    def on_cifar10(self) -> bool:
        """Whether the file classifies CIFAR-10; otherwise it classifies ImageNet."""
        return "resnet" in self.file.name

    def is_done(self, rows: list[Row]) -> bool:
        """Whether the table has this comparison, of this very file."""
        wanted = (self.file.name, self.kernels, self.patch.stem if self.patch else "", sha256_file(self.file))
        return any((row.file, row.kernels, row.patch, row.sha256) == wanted for row in rows)


def main(
    models: Path,
    data_dir: Annotated[Path, typer.Option("--data")],
    only: Annotated[str, typer.Option()] = "*",
    rows_file: Annotated[Path, typer.Option("--rows")] = RESULTS / "twins.csv",
) -> None:
    """Compare every file with all the kernels that run it, then write the table."""
    rows = []
    if rows_file.is_file():
        rows = [Row(**row) for row in csv.DictReader(rows_file.open())]
    for job in jobs(models, data_dir, only):
        if not job.is_done(rows):
            rows.append(compare(job, data_dir))
            print(*rows[-1], flush=True)
            with rows_file.open("w", newline="") as stream:
                writer = csv.writer(stream, lineterminator="\n")
                writer.writerows([Row._fields, *rows])
    (RESULTS / "twins.md").write_text(table(rows))


def jobs(models: Path, data_dir: Path, only: str) -> Iterator[Job]:
    """Yield all comparisons, the slow kernels last."""
    vendor = data_dir / "vendor"
    files = [*sorted(models.glob("*.onnx")), *sorted(models.glob("*.tflite"))]
    files += [*sorted(vendor.glob("*mobilenet*.tflite")), vendor / "mlperf_tiny_resnet8_int8.tflite"]
    pairs = [(file, kernels) for file in files for kernels in KERNELS[file.suffix]]
    patch = min(models.glob("*.npz"))
    for file, kernels in sorted(pairs, key=lambda pair: (pair[1] == "reference", pair[1] == "builtin")):
        if fnmatch(f"{file.name}:{kernels}", only):
            clean = Job(file, kernels, None)
            yield clean
            if clean.on_cifar10:
                yield Job(file, kernels, patch)


def compare(job: Job, data_dir: Path) -> Row:
    """Compare a file's twin with the kernels of a runtime."""
    pixels = images(job, data_dir)
    if job.kernels == "reference" and not job.on_cifar10:
        pixels = pixels[:SLOW]
    description = job.file.with_suffix(".json")
    preproc = Artifact.read(description).preproc if description.is_file() else None
    _, found = compare_with_runtime(job.file, job.kernels, preproc, pixels)
    return Row(
        job.file.name,
        sha256_file(job.file),
        job.kernels,
        "CIFAR-10" if job.on_cifar10 else "ImageNet",
        job.patch.stem if job.patch else "",
        str(found.images),
        str(found.outputs),
        f"{found.top1:.6f}",
        f"{found.equal:.6f}",
        f"{found.within_one:.6f}",
        str(found.largest),
    )


def images(job: Job, data_dir: Path) -> np.ndarray:
    """Return the images of a comparison at the size of the file's input."""
    shape = describe(job.file).inputs[0].shape or ()
    size = (shape[1], shape[2]) if job.file.suffix == ".tflite" else (shape[2], shape[3])
    if not job.on_cifar10:
        crop = None if "squeezenet" in job.file.name else 0.875
        spec = config.DataTable(name="imagenet", crop=crop, resize=None if crop else 256)
        return data.load(spec, size, data_dir, Path("out"))["all"].pixels
    chosen = data.split(data.load(CIFAR10, size, data_dir, Path("out")), CIFAR10)["evaluate"]
    if job.patch is None:
        return chosen.pixels
    return paste(chosen.pixels, *placement.stamps_for(Patch.read(job.patch), "random", list(chosen.ids), size))


def table(rows: list[Row]) -> str:
    """Return the rows as a Markdown table."""
    lines = ["| file | kernels | images | top-1 | integers equal | within one step | largest difference |"]
    lines.append("|---|---|---|---:|---:|---:|---:|")
    kernels = [name for names in KERNELS.values() for name in names]
    for row in sorted(rows, key=lambda row: (row.images, row.file, kernels.index(row.kernels), row.patch)):
        about = f"{row.n} {row.images}, {'patched' if row.patch else 'clean'}"
        shares = " | ".join(f"{100 * float(share):.2f} %" for share in (row.top1, row.equal, row.within_one))
        lines.append(f"| {row.file} | {row.kernels} | {about} | {shares} | {row.largest} |")
    head = (
        "Twins against the runtimes whose kernels they follow, by `benchmarks/twins.py`: the integers before\n"
        "any final softmax; of classes with the same integer the lowest counts.\n\n"
    )
    return head + "\n".join(lines) + "\n"


if __name__ == "__main__":
    typer.run(main)

"""How far twins agree with the runtimes: ``python benchmarks/twins.py MODELS --data DIR [--only PATTERN]``.

MODELS holds what these two write (``-o MODELS`` each, ``--data DIR``), and a patch::

    patchbench export benchmarks/suites/cifar10.toml --only '*s8s8*' --only '*u8s8*'
    patchbench export benchmarks/suites/imagenet.toml --only '*s8s8*'
    patchbench craft benchmarks/suites/cifar10.toml --only 'gap-float-resnet20-c3-*'

Adds what is missing to ``benchmarks/results/twins.csv``, so that a second run goes on where one stopped, and writes
``twins.md`` from it. The reference kernels are slow: on ImageNet they see the first 100 images.
"""

import csv
from fnmatch import fnmatch
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from backends.device.artifact import Artifact, sha256_file
from backends.device.bundle import paste
from exporters.files import describe
from harness import config
from harness.data import datasets as data
from harness.run.twins import agreement
from patches import placement
from patches.patch import Patch
from patches.twins import KERNELS

RESULTS = Path(__file__).parent / "results"
COLUMNS = ("file", "sha256", "kernels", "images", "patch", "n", "outputs", "top1", "equal", "within_one", "largest")
CIFAR10 = config.DataTable(name="cifar10", calibration=1, craft=1, evaluate=1000)
SLOW = 100  # images


def main(
    models: Path,
    data_dir: Annotated[Path, typer.Option("--data")],
    only: Annotated[str, typer.Option()] = "*",
    rows_file: Annotated[Path, typer.Option("--rows")] = RESULTS / "twins.csv",
) -> None:
    """Compares every file with all the kernels that run it, then writes the table."""
    rows = list(csv.DictReader(rows_file.open())) if rows_file.is_file() else []
    patch = next(iter(sorted(models.glob("*.npz"))))
    vendor = sorted((data_dir / "vendor").glob("*mobilenet*.tflite"))
    files = [*sorted(models.glob("*.onnx")), *sorted(models.glob("*.tflite")), *vendor]
    files.append(data_dir / "vendor" / "mlperf_tiny_resnet8_int8.tflite")
    jobs = [
        (file, kernels) for file in files for kernels in KERNELS[file.suffix] if fnmatch(f"{file.name}:{kernels}", only)
    ]
    for file, kernels in sorted(jobs, key=lambda job: (job[1] == "reference", job[1] == "builtin")):
        on_cifar10 = "resnet" in file.name
        for pasted in (None, patch) if on_cifar10 else (None,):
            known = [row for row in rows if (row["file"], row["kernels"]) == (file.name, kernels)]
            name, digest = pasted.stem if pasted else "", sha256_file(file)
            if any((row["patch"], row["sha256"]) == (name, digest) for row in known):
                continue
            pixels = _images(file, data_dir, on_cifar10, pasted)
            pixels = pixels[:SLOW] if kernels == "reference" and not on_cifar10 else pixels
            beside = file.with_suffix(".json")
            _, found = agreement(file, kernels, Artifact.read(beside).preproc if beside.is_file() else None, pixels)
            what = ("CIFAR-10" if on_cifar10 else "ImageNet", name, found.images, found.outputs)
            figures = (f"{found.top1:.6f}", f"{found.equal:.6f}", f"{found.within_one:.6f}", found.largest)
            row = dict(zip(COLUMNS, map(str, (file.name, digest, kernels, *what, *figures)), strict=True))
            rows.append(row)
            print(*row.values(), flush=True)
            with rows_file.open("w", newline="") as stream:
                writer = csv.DictWriter(stream, COLUMNS, lineterminator="\n")
                writer.writeheader()
                writer.writerows(rows)
    (RESULTS / "twins.md").write_text(_table(rows))


def _images(file: Path, data_dir: Path, on_cifar10: bool, patch_file: Path | None) -> np.ndarray:
    shape = describe(file).inputs[0].shape or ()
    size = (shape[1], shape[2]) if file.suffix == ".tflite" else (shape[2], shape[3])
    if not on_cifar10:
        crop = None if "squeezenet" in file.name else 0.875
        spec = config.DataTable(name="imagenet", crop=crop, resize=None if crop else 256)
        return data.load(spec, size, data_dir, Path("out"))["all"].pixels
    images = data.split(data.load(CIFAR10, size, data_dir, Path("out")), CIFAR10)["evaluate"]
    if patch_file is None:
        return images.pixels
    patch = Patch.read(patch_file)
    return paste(images.pixels, *placement.stamps_for(patch, "random", list(images.ids), size))


def _table(rows: list[dict[str, str]]) -> str:
    lines = ["| file | kernels | images | top-1 | integers equal | within one step | largest difference |"]
    lines.append("|---|---|---|---:|---:|---:|---:|")
    order = {kernels: i for i, kernels in enumerate(k for known in KERNELS.values() for k in known)}
    for row in sorted(rows, key=lambda row: (row["images"], row["file"], order[row["kernels"]], row["patch"])):
        images = f"{row['n']} {row['images']}, {'patched' if row['patch'] else 'clean'}"
        shares = " | ".join(f"{100 * float(row[name]):.2f} %" for name in ("top1", "equal", "within_one"))
        lines.append(f"| {row['file']} | {row['kernels']} | {images} | {shares} | {row['largest']} |")
    head = "Twins against the runtimes whose kernels they follow, by `benchmarks/twins.py`: the integers before\n"
    head += "any final softmax; of classes with the same integer the lowest counts.\n\n"
    return head + "\n".join(lines) + "\n"


if __name__ == "__main__":
    typer.run(main)

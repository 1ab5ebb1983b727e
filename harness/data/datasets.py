"""Load data sets at one size, split them, and name their classes."""

from __future__ import annotations

import hashlib
import re
from importlib.metadata import version
from pathlib import Path

from backends.device.artifact import sha256_file
from backends.device.errors import UserError
from backends.device.reading import DamagedFile
from harness import config
from harness.data.counts import shares
from harness.data.readers import (
    Images,
    Size,
    class_folders,
    download_cifar10,
    find_root,
    hashed_order,
    labelled_files,
    read_digits,
    read_files,
    read_labels,
    read_pools,
    sized,
)
from harness.sealed import read_sealed, write_sealed

__all__ = ["Images", "class_names", "default_size", "fingerprint", "load", "short_side", "split", "training_images"]

CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
Remembered = tuple[int, int, str]  # a file's size in bytes, modification time in nanoseconds, sha256


def short_side(spec: config.DataTable, size: Size) -> int | None:
    """Return the pixels that an image's short side is resized to; None without. Too few for a size: a `UserError`."""
    pixels = spec.resize if spec.crop is None else round(min(size) / spec.crop)
    if pixels is not None and pixels < max(size):
        given = f"data.crop = {spec.crop:g}: a short side of {pixels}" if spec.crop else f"data.resize = {pixels}"
        raise UserError(f"{given} is less than the input size {size[0]}x{size[1]}")
    return pixels


def load(spec: config.DataTable, size: Size, data_dir: Path | None, cache: Path) -> dict[str, Images]:
    """Load all images of a data set at a size (height, width): pools ``train`` and ``test``, or one pool ``all``.

    With ``spec.resize`` the short side is resized to it, antialiased, and the centre cropped; without, the image is
    resized to the size unless it has it. ``cache`` is the folder for torchvision's download.
    """
    spec = spec.model_copy(update={"resize": short_side(spec, size), "crop": None})
    root = find_root(spec, data_dir)
    if spec.name == "digits":
        pools = read_digits(size)
    elif root is None:
        pools = {pool: sized(spec, size, *arrays, pool) for pool, arrays in download_cifar10(cache).items()}
    elif root.is_dir():
        pools = {"all": read_files(spec, size, root)}
    else:
        pools = {pool: sized(spec, size, *arrays, pool) for pool, arrays in read_pools(root).items()}
    count = len(class_names(spec, data_dir))
    for pool, images in pools.items():
        low, high = images.labels.min(), images.labels.max()
        if not 0 <= low <= high < count:
            raise UserError(f"{root}: expected labels from 0 to {count - 1}, got {low} to {high} in pool {pool!r}")
    return pools


def split(pools: dict[str, Images], spec: config.DataTable) -> dict[str, Images]:
    """Split the pools into evaluate, calibration, craft and select: disjoint shares of a hashed order of the ids.

    Which is taken from where is `counts.shares`'s to say. Too few images are a `UserError`.
    """
    order = {name: hashed_order(pool.ids, str(spec.seed)) for name, pool in pools.items()}
    parts = shares({name: len(pool.ids) for name, pool in pools.items()}, spec)
    return {name: pools[pool].take(order[pool][part]) for name, (pool, part) in parts.items()}


def training_images(pools: dict[str, Images], splits: dict[str, Images]) -> Images:
    """Return the images that a network may see: the train pool, or the craft split where there is only one pool."""
    return pools["train"] if "train" in pools else splits["craft"]


def class_names(spec: config.DataTable, data_dir: Path | None) -> list[str]:
    """Return the class names in the order of their labels; the suite's own take precedence."""
    names = _own_class_names(spec, data_dir)
    if spec.classes and names and spec.name != "npz" and len(spec.classes) != len(names):
        raise UserError(f"data.classes has {len(spec.classes)} names; {spec.name} has {len(names)} classes")
    return list(spec.classes or names)


def default_size(spec: config.DataTable) -> Size | None:
    """Return the (height, width) of a data set with one native size; None where the victim must say."""
    return (32, 32) if spec.name in ("digits", "cifar10") else None


def fingerprint(spec: config.DataTable, data_dir: Path | None, cache: Path | None = None) -> str:
    """Return the sha256 over labels, names and contents of the image files, in hex.

    With a folder ``cache``, a file is hashed again only if its size or modification time changed.
    """
    root = find_root(spec, data_dir)
    if spec.name == "digits":
        return hashlib.sha256(f"scikit-learn {version('scikit-learn')}".encode()).hexdigest()
    if root is None:  # torchvision verifies its download against this
        return hashlib.sha256(b"cifar-10-python.tar.gz md5 c58f30108f718f92721af3b95e74349a").hexdigest()
    files = labelled_files(spec, root) if root.is_dir() else [(root, 0)]
    memory = cache / "fingerprints.json" if cache else None
    before = _remembered(memory)
    now: dict[str, Remembered] = {}
    for file, _ in files:
        status = file.stat()
        name = str(file.absolute())
        stamp = (status.st_size, status.st_mtime_ns)
        old = before.get(name)
        now[name] = old if old and old[:2] == stamp else (*stamp, sha256_file(file))
    if memory and any(before.get(name) != value for name, value in now.items()):
        write_sealed(memory, {"schema": 1, "files": before | now})
    lines = [f"{label} {file.relative_to(root)} {now[str(file.absolute())][2]}" for file, label in files]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _remembered(memory: Path | None) -> dict[str, Remembered]:
    """Return what is known of files; nothing where it is not known, or damaged."""
    try:
        files = read_sealed(memory, 1, "hash them again")["files"] if memory else {}
    except DamagedFile:
        return {}
    return {name: (size, changed, sha256) for name, (size, changed, sha256) in files.items()}


def _own_class_names(spec: config.DataTable, data_dir: Path | None) -> list[str]:
    root = find_root(spec, data_dir)
    if spec.name == "digits":
        return [str(digit) for digit in range(10)]
    if spec.name == "cifar10":
        return list(CIFAR10)
    if root and spec.name == "imagenet":
        return [re.sub(r"^n\d+_", "", file.stem).replace("_", " ") for file, _ in labelled_files(spec, root)]
    if root and spec.name == "folder":
        return [folder.name for folder in class_folders(root)]
    if spec.classes or root is None:
        return []
    highest = max(int(labels.max(initial=0)) for labels in read_labels(root).values())
    return [str(label) for label in range(highest + 1)]

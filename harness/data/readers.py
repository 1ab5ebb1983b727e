"""Read data sets: files and arrays become pools of images of one size."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from backends.device import reading
from backends.device.artifact import Pixels
from backends.device.errors import UserError
from backends.device.pictures import PICTURE_PIXELS, read_picture
from backends.device.reading import INTEGERS, DamagedFile, Expected
from harness import config

Size = tuple[int, int]
Labels = NDArray[np.int64]
USUAL_PATHS = {"cifar10": "cifar10/cifar10.npz", "imagenet": "imagenet/images"}
SUFFIXES = (".jpeg", ".jpg", ".png", ".bmp", ".webp", ".tif", ".tiff")
DIGITS = 1797
DIGITS_TRAIN = 1200  # the rest are the test pool
# The arrays of an npz: images and labels of each pool.
NPZ_POOLS = {"all": ("x", "y"), "train": ("x_train", "y_train"), "test": ("x_test", "y_test")}
MOST_CLASSES = 100_000
MOST_COMPRESSED = 100  # times; digits on black compress three times
CIFAR10_POOLS = {"train": 50_000, "test": 10_000}


class Images(NamedTuple):
    """Images uint8 ``(n, h, w, 3)`` RGB, labels int64 ``(n,)``, and ids that are stable over runs."""

    pixels: Pixels
    labels: Labels
    ids: tuple[str, ...]

    def take(self, positions: Sequence[int]) -> Images:
        """Return the images at these positions, in this order."""
        chosen = np.asarray(positions, np.int64)
        return Images(self.pixels[chosen], self.labels[chosen], tuple(self.ids[i] for i in positions))


def find_root(spec: config.DataTable, data_dir: Path | None) -> Path | None:
    """Return the file or folder of a data set; None for one that is embedded or can be downloaded."""
    path = spec.path or USUAL_PATHS.get(spec.name)
    if spec.name == "digits":
        return None
    if path is None:
        raise UserError(f'data {spec.name!r} needs a path under --data: [data] path = "..."')
    found = (data_dir or Path()) / path
    if data_dir and found.exists():
        if found.is_dir() != (spec.name in ("imagenet", "folder")):
            raise UserError(f"{found}: expected {'a file' if found.is_dir() else 'a folder'} for data {spec.name!r}")
        return found
    if spec.name == "cifar10" and spec.path is None:
        return None
    where = f"not under --data {data_dir}" if data_dir else "--data (or PATCHBENCH_DATA) is not given"
    raise UserError(f"{path}: {where}; pass --data DIR, the folder that holds it ({spec.name} has no download)")


def labelled_files(spec: config.DataTable, root: Path) -> list[tuple[Path, int]]:
    """Return the image files of a folder in the order of their names, each with its label."""
    if spec.name == "imagenet":
        files = _image_files(root)
        if len(files) != 1000:
            raise UserError(f"{root}: expected 1000 images, one per class in order of name; got {len(files)}")
        return [(file, label) for label, file in enumerate(files)]
    found = [(file, label) for label, folder in enumerate(class_folders(root)) for file in _image_files(folder)]
    if not found:
        raise UserError(f"{root}: expected a folder for each class with images ({', '.join(SUFFIXES)}); got none")
    return found


def class_folders(root: Path) -> list[Path]:
    """Return the folders of a `folder` data set in the order of the classes."""
    return sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))


def _image_files(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES and not p.name.startswith("."))


def read_files(spec: config.DataTable, size: Size, root: Path) -> Images:
    """Read the images under a folder, with relative paths as ids; an unreadable one is a `UserError`."""
    labelled = labelled_files(spec, root)
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # decoding releases Python's lock
        pixels = list(pool.map(partial(_read_image, size=size, resize=spec.resize), [file for file, _ in labelled]))
    ids = tuple(file.relative_to(root).as_posix() for file, _ in labelled)
    return Images(np.stack(pixels), np.array([label for _, label in labelled], np.int64), ids)


def _read_image(path: Path, size: Size, resize: int | None) -> Pixels:
    picture = read_picture(path, "RGB")
    if resize is not None and resize**2 * max(picture.size) // min(picture.size) > PICTURE_PIXELS:
        raise UserError(f"{path}: {picture.width}x{picture.height} is too long and narrow to resize")
    return _fit(picture, size, resize)


def _fit(image: Image.Image, size: Size, resize: int | None) -> Pixels:
    """Resize (bilinear, antialiased) and crop, to the pixel as torchvision's Resize and CenterCrop."""
    height, width = size
    if resize is None:
        return np.asarray(image.resize((width, height), Image.Resampling.BILINEAR))
    short = min(image.size)
    image = image.resize((resize * image.width // short, resize * image.height // short), Image.Resampling.BILINEAR)
    top, left = round((image.height - height) / 2), round((image.width - width) / 2)
    return np.asarray(image.crop((left, top, left + width, top + height)))


def sized(spec: config.DataTable, size: Size, x: Pixels, y: Labels, pool: str) -> Images:
    """Return arrays as a pool of the right size, with ids by position: ``test/00017``."""
    if x.shape[1:3] != size or spec.resize is not None:
        x = np.stack([_fit(Image.fromarray(image), size, spec.resize) for image in x])
    return Images(x, y, tuple(f"{pool}/{i:05d}" for i in range(len(y))))


def read_pools(path: Path) -> dict[str, tuple[Pixels, Labels]]:
    """Read the pools of an npz: x_train, y_train, x_test, y_test, or x and y; anything else is a `UserError`."""
    expected: dict[str, Expected] = {}
    for x, y in NPZ_POOLS.values():
        expected |= {x: Expected((np.uint8,), required=False), y: Expected(INTEGERS, required=False)}
    arrays = reading.read_npz(path, expected, _most_bytes(path))
    return {
        pool: _checked(path, pool, *(arrays[name] for name in NPZ_POOLS[pool]))
        for pool in _pools(path, arrays, NPZ_POOLS)
    }


def read_labels(path: Path) -> dict[str, Labels]:
    """Read the labels of an npz's pools alone: of `read_pools`, without unpacking an image."""
    names = {pool: (y,) for pool, (_, y) in NPZ_POOLS.items()}
    expected = {y: Expected(INTEGERS, required=False) for (y,) in names.values()}
    arrays = reading.read_npz(path, expected, _most_bytes(path))
    return {pool: _labels(path, pool, arrays[names[pool][0]]) for pool in _pools(path, arrays, names)}


def _pools(path: Path, arrays: Mapping[str, NDArray[Any]], names: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
    """Return the pools that a file has all arrays of: train and test, or all."""
    for pools in (("train", "test"), ("all",)):
        if all(name in arrays for pool in pools for name in names[pool]):
            return pools
    raise DamagedFile(f"{path}: expected arrays x_train, y_train, x_test, y_test or x, y")


def _most_bytes(path: Path) -> int:
    """Return what images of a file's size may take in memory: more is no picture that anybody took."""
    size = reading.regular_file(path, reading.ARRAY_BYTES)
    return min(reading.ARRAY_BYTES, 64 * reading.MEBIBYTE + MOST_COMPRESSED * size)


def _checked(path: Path, pool: str, x: NDArray[Any], y: NDArray[Any]) -> tuple[Pixels, Labels]:
    if x.ndim not in (3, 4) or (x.ndim == 4 and x.shape[3] != 3) or 0 in x.shape:
        expected = f"{pool} images as uint8 (n, h, w, 3) or grey (n, h, w)"
        raise UserError(f"{path}: expected {expected}, got {x.dtype} {x.shape}")
    if y.shape not in ((len(x),), (len(x), 1)):
        raise UserError(f"{path}: expected {pool} labels as integers ({len(x)},), got {y.dtype} {y.shape}")
    return np.repeat(x[..., None], 3, axis=3) if x.ndim == 3 else x, _labels(path, pool, y)


def _labels(path: Path, pool: str, y: NDArray[Any]) -> Labels:
    if y.max(initial=0) >= MOST_CLASSES:
        raise UserError(f"{path}: expected {pool} labels below {MOST_CLASSES:,}, got {y.max()}")
    return y.reshape(-1).astype(np.int64)


def download_cifar10(cache: Path) -> dict[str, tuple[Pixels, Labels]]:
    """Download CIFAR-10 with torchvision, which verifies it, to `cache`, and return its arrays."""
    from harness.torchvision_import import import_torchvision

    try:
        datasets = import_torchvision().datasets
        both = {pool: datasets.CIFAR10(str(cache), train=pool == "train", download=True) for pool in ("train", "test")}
    except Exception as error:  # urllib's, the file system's, torchvision's own
        raise UserError(
            f"{USUAL_PATHS['cifar10']}: not under --data, and CIFAR-10 cannot be downloaded ({error}); "
            "put the file under --data (or PATCHBENCH_DATA), or go online"
        ) from error
    return {pool: (part.data, np.asarray(part.targets, np.int64)) for pool, part in both.items()}


def read_digits(size: Size) -> dict[str, Images]:
    """Read scikit-learn's digits, 8x8 in 17 greys, enlarged; the pools do not depend on the suite's seed."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    grey = np.round(digits.images * (255 / 16)).astype(np.uint8)
    enlarged = [np.asarray(Image.fromarray(g).resize((size[1], size[0]), Image.Resampling.BICUBIC)) for g in grey]
    ids = tuple(f"digit/{i:05d}" for i in range(len(grey)))
    every = Images(np.repeat(np.stack(enlarged)[..., None], 3, axis=3), digits.target.astype(np.int64), ids)
    order = hashed_order(ids, "pool")
    return {"train": every.take(sorted(order[:DIGITS_TRAIN])), "test": every.take(sorted(order[DIGITS_TRAIN:]))}


def hashed_order(ids: Sequence[str], seed: str) -> list[int]:
    """Return positions in the order of the sha256 of ``seed:id``, which is independent of the other ids."""
    return sorted(range(len(ids)), key=lambda i: hashlib.sha256(f"{seed}:{ids[i]}".encode()).digest())

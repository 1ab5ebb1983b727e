"""A bundle: the directory sent to a device, with a model file, clean pixels, and the stamps of each case."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike, NDArray

from backends.device import defences
from backends.device.artifact import SCHEMA, Artifact, Pixels
from backends.device.checksums import SUMS, read_sums, verify, write_sums
from backends.device.errors import UserError, did_you_mean
from backends.device.files import replacing
from backends.device.json_types import read_as
from backends.device.names import check_name, inside
from backends.device.reading import Axis, DamagedFile, Expected, map_npy

MEND = "copy the bundle again, or write it again"
IMAGES = 1_000_000  # of a bundle


class Stamps(NamedTuple):
    """What a case pastes: uint8 ``(n or 1, p, p, 3)``, where it covers, bool ``(n or 1, p, p)``, int32 ``(n, 2)``.

    One stamp or mask is the same for all images; `corners` are row and column of the top left pixel.
    """

    stamps: Pixels
    mask: NDArray[np.bool_]
    corners: NDArray[np.int32]

    def of(self, images: slice | NDArray[np.integer]) -> Stamps:
        """Select some of the images."""
        stamps, mask, corners = self
        return Stamps(
            stamps if len(stamps) == 1 else stamps[images],
            mask if len(mask) == 1 else mask[images],
            corners[images],
        )


@dataclass(frozen=True)
class Case:
    """A stack of images to replay, with the sha256 of its pixels after pasting, and after its defence if any."""

    name: str
    sha256: str
    defence: str = ""
    defended_sha256: str = ""


@dataclass(frozen=True)
class Described:
    """``bundle.json``: the number of images, and the name of the file that describes the artifact."""

    artifact: str
    n: int
    pixels_sha256: str
    cases: tuple[Case, ...]


def paste(pixels: Pixels, stamps: Pixels, mask: NDArray[np.bool_], corners: NDArray[np.int32]) -> Pixels:
    """Return a copy of `pixels` ``(n, h, w, 3)`` with stamps pasted where their masks are set.

    Shapes as in `Stamps`. A stamp that is not entirely inside its image is a `UserError`.
    """
    (n, h, w, _), p = pixels.shape, stamps.shape[1]
    check_corners(corners, (h, w), p, "corners")
    pasted: Pixels = np.array(pixels)
    places = zip(pasted, np.broadcast_to(stamps, (n, p, p, 3)), corners.tolist())
    if mask.all():
        for image, stamp, (row, column) in places:
            image[row : row + p, column : column + p] = stamp
    else:
        for (image, stamp, (row, column)), covers in zip(places, np.broadcast_to(mask, (n, p, p))):
            np.copyto(image[row : row + p, column : column + p], stamp, where=covers[..., None])
    return pasted


def chunk_images(image_bytes: int, batch: int = 1) -> int:
    """Return how many images to paste and hash at once: whole batches, about 128 KiB, which fit a cache as float32."""
    return batch * max(1, (1 << 17) // (image_bytes * batch))


@dataclass(frozen=True)
class Bundle:
    """A verified bundle. Its arrays stay on disk, memory-mapped.

    ``root`` holds ``bundle.json``, ``artifact.json``, the model file, ``pixels.npy`` (the clean uint8 ``(n, h, w, 3)``)
    and ``cases/NAME/{stamps,mask,corners}.npy``. A case whose hash is that of the clean pixels has no folder. The
    hashes of all files are in ``SHA256SUMS``, whose own is `sha256`.
    """

    root: Path
    artifact: Artifact
    n: int
    cases: tuple[Case, ...]
    pixels_sha256: str
    sha256: str = ""

    @classmethod
    def read(cls, root: Path) -> Bundle:
        """Read a bundle and check its schema, names, shapes, dtypes and corners, then the hash of every file.

        Anything wrong, or outside `root`, is a `UserError` naming the file.
        """
        bundle = cls._read(root)
        return replace(bundle, sha256=verify(root, MEND))

    @classmethod
    def _read(cls, root: Path) -> Bundle:
        path = inside(root, "bundle.json")
        described = read_as(Described, path, SCHEMA)
        if not 1 <= described.n <= IMAGES:
            raise DamagedFile(f"{path}: n: expected 1 to {IMAGES:,}, got {described.n}")
        artifact = Artifact.read(inside(root, described.artifact))
        bundle = cls(root, artifact, described.n, described.cases, described.pixels_sha256)
        file = bundle.file
        if (listed := read_sums(root, MEND).get(file.name)) != artifact.sha256:
            raise UserError(f"{file}: expected sha256 {artifact.sha256}, but {SUMS} has {listed}; {MEND}")
        if len({case.name for case in bundle.cases}) != len(bundle.cases):
            raise UserError(f"{path}: two cases of the same name")
        for case in bundle.cases:
            check_name(case.name, path)
            if case.defence:
                defences.parse_defence(case.defence)
            bundle.stamps(case.name)
        _ = bundle.pixels
        return bundle

    @property
    def file(self) -> Path:
        """Path of the model file."""
        return inside(self.root, str(self.artifact.file))

    @cached_property
    def pixels(self) -> Pixels:
        """The clean pixels, uint8 ``(n, h, w, 3)``, memory-mapped."""
        height, width = self.artifact.input_size
        return _array(self.root, "pixels.npy", np.uint8, (self.n, height, width, 3))

    def case(self, name: str) -> Case:
        """Return a case by name; an unknown one is a `UserError`."""
        for case in self.cases:
            if case.name == name:
                return case
        raise UserError(f"{self.root}: no case {name!r}; {did_you_mean(name, [case.name for case in self.cases])}")

    def stamps(self, name: str) -> Stamps | None:
        """Return what a case pastes, memory-mapped; None where it pastes nothing."""
        if self.case(name).sha256 == self.pixels_sha256:
            return None
        folder, some = f"cases/{name}", (1, self.n)
        stamps = _array(self.root, f"{folder}/stamps.npy", np.uint8, (some, None, None, 3))
        side = stamps.shape[1]
        mask = _array(self.root, f"{folder}/mask.npy", np.bool_, (some, side, side))
        corners = _array(self.root, f"{folder}/corners.npy", np.int32, (self.n, 2))
        if stamps.shape[2] != side:
            raise UserError(f"{self.root / folder / 'stamps.npy'}: expected squares, got {stamps.shape}")
        check_corners(corners, self.artifact.input_size, side, str(self.root / folder / "corners.npy"))
        return Stamps(stamps, mask, corners)

    def batches(self, case: str, batch: int) -> Iterator[Pixels]:
        """Yield the pasted pixels of a case, `batch` images at a time."""
        return pasted(self.pixels, self.stamps(case), batch)


def write_bundle(
    root: Path,
    artifact: Artifact,
    artifact_file: Path,
    pixels: Pixels | Path,
    cases: Mapping[str, Stamps | None],
    defended: Mapping[str, str] | None = None,
) -> Bundle:
    """Write a bundle beside `root`, check it, and rename it to `root`, replacing what was there.

    `pixels` are the clean ones, or an ``.npy`` of them. The model file and such an ``.npy`` are hard-linked, or copied
    where the file system has no links. A case of None pastes nothing; `defended` names the defence of a case.
    """
    with replacing(root) as draft:
        (draft / "cases").mkdir(parents=True)
        _link(artifact_file, draft / check_name(artifact.file, artifact_file))
        artifact.save(draft / "artifact.json")
        if isinstance(pixels, Path):
            _link(pixels, draft / "pixels.npy")
        else:
            np.save(draft / "pixels.npy", np.ascontiguousarray(pixels), allow_pickle=False)
        for name, stamps in cases.items():
            if stamps is not None:
                folder = draft / "cases" / check_name(name, root)
                folder.mkdir()
                for field, array in stamps._asdict().items():
                    np.save(folder / f"{field}.npy", np.ascontiguousarray(array), allow_pickle=False)
        height, width = artifact.input_size
        clean = _array(draft, "pixels.npy", np.uint8, (None, height, width, 3))
        clean_sha256 = hash_pixels(pasted(clean, None, 64)).pixels
        chunk = chunk_images(clean[0].nbytes)
        unhashed = tuple(
            Case(name, clean_sha256 if stamps is None else "", (defended or {}).get(name, ""))
            for name, stamps in cases.items()
        )
        bundle = Bundle(draft, artifact, len(clean), unhashed, clean_sha256)
        hashed = [_hashed(case, bundle.batches(case.name, chunk)) for case in unhashed]
        facts = {"schema": SCHEMA, "artifact": "artifact.json", "n": bundle.n, "pixels_sha256": clean_sha256}
        described = json.dumps(facts | {"cases": [_described(case) for case in hashed]}, indent=1)
        (draft / "bundle.json").write_text(described + "\n")
        sha256 = write_sums(draft)
        written = Bundle._read(draft)
        shutil.rmtree(root, ignore_errors=True)
    return replace(written, root=root, sha256=sha256)


def _array(root: Path, name: str, dtype: DTypeLike, shape: Sequence[Axis]) -> NDArray[Any]:
    return map_npy(inside(root, name), Expected((dtype,), shape))


def check_corners(corners: NDArray[np.int32], size: tuple[int, int], p: int, where: str) -> None:
    """Raise a `UserError` for a stamp of side `p` that is not entirely inside its image (height, width)."""
    furthest = np.array(size) - p
    if (outside := ((corners < 0) | (corners > furthest)).any(axis=1)).any():
        i = int(outside.argmax())
        raise UserError(f"{where}: stamp {i} of side {p} at {corners[i].tolist()} lies outside its image {tuple(size)}")


def pasted(pixels: Pixels, stamps: Stamps | None, batch: int) -> Iterator[Pixels]:
    """Yield copies of `pixels`, `batch` images at a time, with the stamps pasted, if any."""
    for i in range(0, len(pixels), batch):
        part = slice(i, i + batch)
        if stamps is None:
            yield np.array(pixels[part])
        else:
            yield paste(pixels[part], *stamps.of(part))


def _described(case: Case) -> dict[str, str]:
    return {key: value for key, value in asdict(case).items() if value}


class Hashes(NamedTuple):
    """The sha256 of a stack of images as pasted, and as a defence leaves it; empty where it leaves no such stack."""

    pixels: str
    defended: str


def hash_pixels(parts: Iterable[Pixels], defence: str = "") -> Hashes:
    """Hash a stack of images that comes in parts."""
    pixels, defended = hashlib.sha256(), hashlib.sha256()
    is_transformed = bool(defence) and not defences.many_passes(defence)
    for part in parts:
        pixels.update(part.data)
        if is_transformed:
            defended.update(defences.defend(defence, part).data)
    return Hashes(pixels.hexdigest(), defended.hexdigest() if is_transformed else "")


def _hashed(case: Case, parts: Iterable[Pixels]) -> Case:
    pixels, defended = hash_pixels(parts, case.defence)
    return replace(case, sha256=pixels, defended_sha256=defended)


def _link(source: Path, beside: Path) -> None:
    try:
        os.link(source.resolve(), beside)
    except OSError:
        shutil.copyfile(source, beside)

"""Read what ``torch.save`` wrote: weights, the state of a training. Only tensors and plain values are unpickled."""

from __future__ import annotations

import warnings
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from backends.device.reading import MEBIBYTE, DamagedFile, first_line, open_zip, regular_file

CHECKPOINT_BYTES = 8192 * MEBIBYTE


def read_checkpoint(path: Path) -> Mapping[Any, Any]:
    """Read a mapping whose tensors are dense and on the CPU; anything else is a `DamagedFile`.

    An archive's checksums are verified: torch does not.
    """
    regular_file(path, CHECKPOINT_BYTES)
    try:
        if zipfile.is_zipfile(path):
            _check_archive(path)
        with warnings.catch_warnings():  # a refusal stays one line
            warnings.simplefilter("ignore")
            content = torch.load(path, map_location="cpu", weights_only=True)
    except DamagedFile:
        raise
    except Exception as error:  # zip, pickle and torch each have their own for what they cannot read
        expected = "expected a state dict saved by torch.save and nothing else"
        raise DamagedFile(f"{path}: {expected} ({first_line(error)})") from error
    if not isinstance(content, dict):
        raise DamagedFile(f"{path}: expected a state dict, got {type(content).__name__}")
    for tensor in _tensors(content):
        if not _is_plain(tensor):
            raise DamagedFile(f"{path}: expected dense tensors, got one of {tensor.dtype} {tuple(tensor.shape)}")
    return content


def _check_archive(path: Path) -> None:
    """Refuse an archive that unpacks to more than its own size, which torch never writes, or is damaged."""
    with open_zip(path) as archive:
        if any(member.compress_type != zipfile.ZIP_STORED for member in archive.infolist()):
            raise DamagedFile(f"{path}: expected an archive without compression, as torch.save writes it")
        if damaged := archive.testzip():
            raise DamagedFile(f"{path}: damaged: the checksum of {damaged} differs")


def _tensors(content: object) -> Iterator[Tensor]:
    left = [content]
    while left:
        one = left.pop()
        if isinstance(one, Tensor):
            yield one
        elif isinstance(one, dict):
            left.extend(one.values())
        elif isinstance(one, list | tuple):
            left.extend(one)


def _is_plain(tensor: Tensor) -> bool:
    """Whether a tensor has a byte in the file for each of its own: an expanded one claims more than there is."""
    if tensor.layout != torch.strided or tensor.device.type != "cpu" or tensor.is_quantized:
        return False
    return tensor.numel() * tensor.element_size() <= tensor.untyped_storage().nbytes()

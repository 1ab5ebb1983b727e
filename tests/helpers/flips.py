"""One flipped bit in a file."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np


def damaged(content: bytes, seed: int, cut_each: int = 0) -> bytes:
    """Flip a random bit of some bytes; of one in `cut_each` seeds, keep only the beginning."""
    chance = random.Random(seed)
    flipped = bytearray(content)
    flipped[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    is_cut = cut_each and seed % cut_each == 0
    return bytes(flipped[: chance.randrange(len(content))] if is_cut else flipped)


def flip(file: Path, seed: int) -> None:
    """Flip a random bit, in a copy that shares no link."""
    content = bytearray(file.read_bytes())
    bit = int(np.random.default_rng(seed).integers(8 * len(content)))
    content[bit // 8] ^= 1 << bit % 8
    file.unlink()
    file.write_bytes(content)


@contextmanager
def flipped(file: Path, seed: int) -> Iterator[None]:
    """Flip a random bit for the block, then put the file back."""
    content = file.read_bytes()
    flip(file, seed)
    try:
        yield
    finally:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)

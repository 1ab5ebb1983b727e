"""One flipped bit in a file, and the file as it was."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np


@contextmanager
def flipped(file: Path, seed: int) -> Iterator[None]:
    """Flip a random bit of a file, in a copy that shares no link; put the file back afterwards."""
    content = file.read_bytes()
    bit = int(np.random.default_rng(seed).integers(8 * len(content)))
    changed = bytearray(content)
    changed[bit // 8] ^= 1 << bit % 8
    file.unlink()
    file.write_bytes(changed)
    try:
        yield
    finally:
        file.unlink(missing_ok=True)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)

"""Small files that unpack to much."""

import math
import zipfile
from pathlib import Path

import numpy as np

from backends.device.reading import MEBIBYTE


def npz(file: Path, name: str, shape: tuple[int, ...], mebibytes: int | None = None, **others: np.ndarray) -> Path:
    """An archive with one array of zero bytes, or which holds that many mebibytes whatever its header claims."""
    size = math.prod(shape) if mebibytes is None else mebibytes * MEBIBYTE
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        with archive.open(f"{name}.npy", "w") as member:
            header = {"descr": "|u1", "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(member, header)
            for start in range(0, size, MEBIBYTE):
                member.write(bytes(min(MEBIBYTE, size - start)))
        for other, array in others.items():
            with archive.open(f"{other}.npy", "w") as member:
                np.lib.format.write_array(member, array)
    return file

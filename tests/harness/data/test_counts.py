"""Images are counted as they will be read."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from harness.config import DataTable
from harness.data.counts import pool_sizes
from harness.data.datasets import load


def folder(root: Path) -> None:
    for name, n in (("cat", 3), ("dog", 2)):
        (root / "pets" / name).mkdir(parents=True)
        for i in range(n):
            Image.new("RGB", (8, 8)).save(root / "pets" / name / f"{i}.png")


def npz(root: Path) -> None:
    np.savez(root / "pets", x=np.zeros((7, 8, 8, 3), np.uint8), y=np.zeros(7, int))
    (root / "pets.npz").rename(root / "pets")


def npz_of_pools(root: Path) -> None:
    parts = {"train": 5, "test": 2}
    arrays = {f"x_{pool}": np.zeros((n, 8, 8), np.uint8) for pool, n in parts.items()}
    np.savez(root / "pets.npz", **arrays, **{f"y_{pool}": np.zeros(n, int) for pool, n in parts.items()})
    (root / "pets.npz").rename(root / "pets")


@pytest.mark.parametrize(
    ("name", "make"), [("folder", folder), ("npz", npz), ("npz", npz_of_pools), ("digits", lambda root: None)]
)
def test_pools_have_as_many_images_as_are_counted(tmp_path: Path, name: str, make) -> None:
    make(tmp_path)
    spec = DataTable(name=name, path=None if name == "digits" else "pets")
    pools = load(spec, (8, 8), tmp_path, tmp_path)
    assert pool_sizes(spec, tmp_path) == {pool: len(images.ids) for pool, images in pools.items()}

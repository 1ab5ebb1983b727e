"""Count images without decoding any, and share them out to the splits."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from backends.device.errors import UserError
from harness import config
from harness.data.readers import CIFAR10_POOLS, DIGITS, DIGITS_TRAIN, find_root, labelled_files, read_labels


def shares(sizes: Mapping[str, int], spec: config.DataTable) -> dict[str, tuple[str, slice]]:
    """Return the pool that each split comes from, and its part of the pool's order; too few images are a `UserError`.

    Evaluate comes first, so that it depends on nothing but the seed and its own size, and from the test pool where
    there is one; the others come from train. More calibration images keep the fewer.
    """
    wanted = {"evaluate": spec.evaluate, "calibration": spec.calibration, "craft": spec.craft, "select": spec.select}
    taken = dict.fromkeys(sizes, 0)
    parts = {}
    for name, count in wanted.items():
        pool = "test" if name == "evaluate" else "train"
        if "all" in sizes:
            pool = "all"
        if taken[pool] + count > sizes[pool]:
            left = f"{sizes[pool] - taken[pool]} are left of the {sizes[pool]} in pool {pool!r}"
            raise UserError(f"data.{name} asks for {count} images; {left} of {spec.name}")
        parts[name] = (pool, slice(taken[pool], taken[pool] + count))
        taken[pool] += count
    return parts


def pool_sizes(spec: config.DataTable, data_dir: Path | None) -> dict[str, int]:
    """Return how many images each pool of a data set has: ``train`` and ``test``, or ``all``."""
    root = find_root(spec, data_dir)
    if spec.name == "digits":
        return {"train": DIGITS_TRAIN, "test": DIGITS - DIGITS_TRAIN}
    if root is None:
        return dict(CIFAR10_POOLS)
    if root.is_dir():
        return {"all": len(labelled_files(spec, root))}
    return {pool: len(labels) for pool, labels in read_labels(root).items()}

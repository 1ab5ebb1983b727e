"""Count images without decoding any, and share them out to the splits."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from backends.device.errors import UserError
from harness import config
from harness.data.readers import CIFAR10_POOLS, DIGITS, DIGITS_TRAIN, find_root, labelled_files, read_labels

POOLS = {"all": "images", "train": "training images", "test": "test images"}


def shares(sizes: Mapping[str, int], spec: config.DataTable) -> dict[str, tuple[str, slice]]:
    """Return the pool that each split comes from, and its part of the pool's order; too few images are a `UserError`.

    Evaluate comes first, so that it depends on nothing but the seed and its own size, and from the test pool where
    there is one; the others come from train. More calibration images keep the fewer.
    """
    wanted = {"evaluate": spec.evaluate, "calibration": spec.calibration, "craft": spec.craft, "select": spec.select}
    pools = {name: "all" if "all" in sizes else "test" if name == "evaluate" else "train" for name in wanted}
    taken = dict.fromkeys(sizes, 0)
    parts = {}
    for name, count in wanted.items():
        pool = pools[name]
        parts[name] = (pool, slice(taken[pool], taken[pool] + count))
        taken[pool] += count
    for pool, size in sizes.items():
        if taken[pool] > size:
            raise _too_few(spec, pool, size, {name: count for name, count in wanted.items() if pools[name] == pool})
    return parts


def _too_few(spec: config.DataTable, pool: str, size: int, wanted: Mapping[str, int]) -> UserError:
    """Return the error for splits that together ask for more than a pool has: what the largest of them can have."""
    largest = max(wanted, key=lambda name: wanted[name])
    others = " + ".join(f"{name} {count}" for name, count in wanted.items() if name != largest and count)
    left = size - sum(wanted.values()) + wanted[largest]
    has = f"{spec.path or spec.name} has {size} {POOLS[pool]}"
    if not others:
        return UserError(f"data.{largest} = {wanted[largest]}: {has}")
    room = f"at most {left}" if left > 0 else "none"
    return UserError(f"data.{largest} = {wanted[largest]}: {has}: {others} leave {room} for {largest}")


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

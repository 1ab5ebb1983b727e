"""Count images without decoding any, to refuse splits that ask for too many before work starts."""

from __future__ import annotations

from pathlib import Path

from backends.device.errors import UserError
from backends.device.reading import INTEGERS, Expected, read_npz
from harness import config
from harness.data.readers import CIFAR10_POOLS, DIGITS, DIGITS_TRAIN, find_root, labelled_files


def check_splits(spec: config.DataTable, data_dir: Path | None) -> None:
    """Raise a `UserError` where the splits ask for more images than the data has."""
    sizes = pool_sizes(spec, data_dir)
    left = dict(sizes)
    for name, wanted in (
        ("evaluate", spec.evaluate),
        ("calibration", spec.calibration),
        ("craft", spec.craft),
        ("select", spec.select),
    ):
        pool = "all" if "all" in sizes else "test" if name == "evaluate" else "train"
        if wanted > left[pool]:
            raise UserError(
                f"data.{name} asks for {wanted} images; {left[pool]} are left of the {sizes[pool]} in pool {pool!r} "
                f"of {spec.name}"
            )
        left[pool] -= wanted


def pool_sizes(spec: config.DataTable, data_dir: Path | None) -> dict[str, int]:
    """Return how many images each pool of a data set has: ``train`` and ``test``, or ``all``."""
    root = find_root(spec, data_dir)
    if spec.name == "digits":
        return {"train": DIGITS_TRAIN, "test": DIGITS - DIGITS_TRAIN}
    if root is None:
        return dict(CIFAR10_POOLS)
    if root.is_dir():
        return {"all": len(labelled_files(spec, root))}
    names = {"all": "y", "train": "y_train", "test": "y_test"}
    labels = read_npz(root, {name: Expected(INTEGERS, required=False) for name in names.values()})
    pools = ("train", "test") if {"y_train", "y_test"} <= labels.keys() else ("all",)
    return {pool: len(labels.get(names[pool], ())) for pool in pools}

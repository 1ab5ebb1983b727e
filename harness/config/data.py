"""The `[data]` table: which images, and how they are split."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from harness.config.values import DataPath, Pixels, Seed
from harness.tables import Table


class DataTable(Table):
    """Which images to use, and how many go into each split.

    The four splits are disjoint; a seeded hash of each image's id decides which split it belongs to.
    """

    name: Literal["digits", "cifar10", "imagenet", "folder", "npz"]
    """`digits` is scikit-learn's. `cifar10` is an npz under `path` (`x_train`, `y_train`, `x_test`, `y_test`) or
    torchvision's download. `imagenet` is a folder of 1000 images, one per class in the order of their names. `folder`
    has one sub-folder per class. `npz` has `x` and `y`, or the four arrays of `cifar10`."""

    path: DataPath | None = None
    """File or folder of the images, relative to `--data`."""

    classes: tuple[str, ...] | None = None
    """Names of the classes, in the order of their labels."""

    resize: Pixels | None = None
    """Resize the short side to this many pixels, then crop the centre to a victim's input size. By default, resize
    straight to that size."""

    crop: float | None = Field(None, gt=0, le=1)
    """The same as a share: what the centre crop keeps of the short side. Many networks were trained with 0.875."""

    seed: Seed = 0
    """Another seed draws other splits."""

    calibration: int = Field(128, ge=0)
    """Images that set the activation ranges; 0 where nothing is exported."""

    craft: int = Field(512, ge=1)
    """Images that patches are made on."""

    select: int = Field(0, ge=0)
    """Images held back for choosing between patches."""

    evaluate: int = Field(1000, ge=1)
    """Images that are counted."""

    sanity: bool = False
    """Also report clean accuracy over every image, those used for crafting included, as rows with `split = "all"`."""

    note: str = ""
    """What the networks were trained on; shown in the report."""

    @model_validator(mode="after")
    def _one_way_to_the_size(self) -> DataTable:
        if self.resize is not None and self.crop is not None:
            raise ValueError("give either resize (short side in pixels) or crop (share of it), not both")
        return self

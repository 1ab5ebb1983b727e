"""Small data sets on disk."""

import numpy as np
import pytest
from helpers.datasets import some_images
from PIL import Image


@pytest.fixture
def npz(tmp_path):
    arrays = {
        "x_train": some_images(20),
        "y_train": np.arange(20) % 4,
        "x_test": some_images(10),
        "y_test": np.arange(10) % 4,
    }
    np.savez(tmp_path / "some.npz", **arrays)
    return arrays


@pytest.fixture
def imagenet(tmp_path):
    (tmp_path / "imagenet/images").mkdir(parents=True)
    for i in range(1000):
        Image.new("RGB", (8, 8), (i // 4, 0, 0)).save(tmp_path / f"imagenet/images/n{i:08d}_sea_lion_{i}.JPEG")
    return tmp_path

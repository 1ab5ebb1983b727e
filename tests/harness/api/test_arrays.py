"""Arrays that a caller passes: pixels and classes, or an error whose mend works."""

import numpy as np
import patchbench
import pytest
import torch

from harness.api.arrays import check_images, check_labels

PIXELS = np.random.default_rng(0).integers(0, 256, (4, 6, 5, 3), np.uint8)
NCHW = PIXELS.transpose(0, 3, 1, 2)


@pytest.mark.parametrize(
    "images",
    [
        PIXELS.astype(np.float32),
        PIXELS / 255,
        NCHW,
        torch.from_numpy(NCHW.copy()).float() / 255,
        torch.from_numpy(PIXELS),
    ],
    ids=["float levels", "float shares", "channels first", "a batch of torch", "a tensor of pixels"],
)
def test_images_that_are_no_pixels_are_refused_with_an_expression_that_makes_them_so(images):
    with pytest.raises(patchbench.UserError, match="expected a numpy array, uint8") as caught:
        check_images(images)
    mend = str(caught.value).partition("; try ")[2]
    assert (check_images(eval(mend, {"images": images})) == PIXELS).all()


def test_a_single_image_is_refused_with_its_mend():
    with pytest.raises(patchbench.UserError, match=r"got uint8 \(6, 5, 3\); try images\[None\]"):
        check_images(PIXELS[0])


@pytest.mark.parametrize("images", [[[1, 2]], None, "images", PIXELS[..., :2], PIXELS[..., 0], PIXELS[:0]])
def test_what_cannot_be_images_is_told_as_what_it_is(images):
    with pytest.raises(patchbench.UserError, match=r"^images: expected .*, got "):
        check_images(images)


@pytest.mark.parametrize("labels", [[0, 1], [0.0, 1.0, 2.0, 3.0], [0, 1, 2, -1], np.zeros((4, 10), int), None, "cats"])
def test_labels_are_a_class_for_each_image(labels):
    with pytest.raises(patchbench.UserError, match=r"^labels: expected a class, from 0, for each of 4 images"):
        check_labels(labels, 4)


def test_labels_may_be_a_list_or_a_tensor():
    assert check_labels([3, 1, 2, 0], 4).tolist() == [3, 1, 2, 0]
    assert check_labels(torch.tensor([3, 1, 2, 0]), 4).dtype == np.int64

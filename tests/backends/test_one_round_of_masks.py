"""Why one round of masks certifies nothing: whatever rule reads its labels, a patch beats it.

CertMask (Lyu et al. 2025, arXiv 2511.09834) covers each patch position by at least k of n masks, and answers from the n
labels alone. Below are two images whose labels are the same under all masks, the strongest evidence that there is, and
a patch on each, such that the two patched images have the same n labels. Their right answers differ, so that any rule,
and any certificate that accepts images with one label, is wrong about one of them.
"""

from itertools import product

import numpy as np
import pytest

from backends.device.defences.patchcleanser import Masks, double_masking, mask_set, masked, two_mask_agreement

SIDE, PATCH, PX = 12, 2, 255  # red levels: 0 and 1 are the two images, PX and PX - 1 the patches
HERE, THERE = (0, 0), (9, 9)  # where the patches lie, under masks that have nothing in common


def network(pixels):
    """Two classes, of which each patch in sight forces one.

    The first patch forces class 1. The second forces 1 too, except while `HERE` is grey: then it forces 0.
    """
    red = pixels[..., 0]
    first = (red == PX).any(axis=(1, 2))
    second = (red == PX - 1).any(axis=(1, 2))
    is_hidden = red[:, HERE[0], HERE[1]] == 128
    is_one = (red == 1).mean(axis=(1, 2)) > 0.3
    labels = np.select([first, second], [1, ~is_hidden], is_one)
    return np.eye(2, dtype=np.float32)[labels.astype(int)]


def image(level):
    return np.full((SIDE, SIDE, 3), level, np.uint8)


def patched(clean, corner, level):
    attacked = clean.copy()
    attacked[corner[0] : corner[0] + PATCH, corner[1] : corner[1] + PATCH] = level
    return attacked


def labels(picture, masks):
    return tuple(network(masked(picture, masks)).argmax(axis=1).tolist())


def twice(masks):
    """Masks of which each patch position is under at least two: those of the set, and the same moved by a pixel."""
    limits = [SIDE - side for side in masks.size]
    moved = [
        tuple(min(max(at + 1, 0), most) for at, most in zip(corner, limits, strict=True)) for corner in masks.corners
    ]
    return Masks(masks.size, [*masks.corners, *moved, *masks.corners])


@pytest.mark.parametrize("cover", [lambda masks: masks, twice], ids=["k = 1", "k >= 2"])
def test_two_certified_images_of_different_labels_look_the_same_under_attack(cover):
    masks = cover(mask_set((SIDE, SIDE), PATCH, along=3))
    zero, one = image(0), image(1)
    assert set(labels(zero, masks)) == {0}
    assert set(labels(one, masks)) == {1}
    attacked_zero = patched(zero, HERE, PX)
    attacked_one = patched(one, THERE, PX - 1)
    assert labels(attacked_zero, masks) == labels(attacked_one, masks)
    assert set(labels(attacked_zero, masks)) == {0, 1}


def test_the_second_round_of_patchcleanser_tells_them_apart():
    masks = mask_set((SIDE, SIDE), PATCH, along=3)
    for label, clean in enumerate((image(0), image(1))):
        assert two_mask_agreement(clean, network, masks)
        for corner in product(range(SIDE - PATCH + 1), repeat=2):
            for level in (0, 1, 128, PX, PX - 1):
                attacked = patched(clean, corner, level)
                assert double_masking(attacked, network, masks).logits.argmax() == label

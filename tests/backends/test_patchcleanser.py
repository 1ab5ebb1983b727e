"""PatchCleanser against every patch there is, on networks small enough to try them all."""

from itertools import combinations_with_replacement, product

import numpy as np
import pytest

from backends.device.defences.patchcleanser import (
    Masks,
    certified,
    double_masking,
    mask_set,
    masked,
    two_mask_agreement,
)
from backends.device.defences.patchcleanser import answer as clean
from backends.device.errors import UserError

SIDE, PATCH = 5, 2
LEVELS = (0, 128, 255)  # all that the networks below tell apart


class Tiny:
    """A random network of two layers that sees three levels of grey, and counts its passes."""

    def __init__(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self.first = rng.normal(size=(SIDE * SIDE, 12))
        self.second = rng.normal(size=(12, 3))
        self.passes = 0

    def __call__(self, pixels):
        self.passes += len(pixels)
        seen = np.digitize(pixels[..., 0].reshape(len(pixels), -1), (64, 192)) - 1.0
        return np.maximum(seen @ self.first, 0) @ self.second


def image(seed):
    grey = np.random.default_rng(seed).choice(LEVELS, (SIDE, SIDE, 1)).astype(np.uint8)
    return np.repeat(grey, 3, axis=2)


def patched(clean):
    """The image with every patch of the three levels at every place."""
    for top, left in product(range(SIDE - PATCH + 1), repeat=2):
        for content in product(LEVELS, repeat=PATCH * PATCH):
            attacked = clean.copy()
            attacked[top : top + PATCH, left : left + PATCH] = np.reshape(content, (PATCH, PATCH, 1))
            yield attacked


def test_no_patch_changes_the_answer_to_a_certified_image_and_some_patch_that_to_others():
    masks = mask_set((SIDE, SIDE), PATCH, along=2)
    assert masks == Masks((3, 3), [(0, 0), (0, 2), (2, 0), (2, 2)])
    held = fell = 0
    for seed in range(200):
        network, picture = Tiny(seed), image(seed)
        label = double_masking(picture, network, masks).logits.argmax()
        if two_mask_agreement(picture, network, masks):
            if held < 6:
                answers = {double_masking(one, network, masks).logits.argmax() for one in patched(picture)}
                assert answers == {label}
            held += 1
        elif fell < 3:
            fell += any(double_masking(one, network, masks).logits.argmax() != label for one in patched(picture))
    assert held >= 6
    assert fell == 3


class Shades:
    """A random network of two layers that sees every level of grey."""

    def __init__(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self.first = rng.normal(size=(SIDE * SIDE, 12)).astype(np.float32)
        self.second = rng.normal(size=(12, 3)).astype(np.float32)

    def __call__(self, pixels):
        seen = pixels[..., 0].reshape(len(pixels), -1).astype(np.float32) / 128 - 1
        return np.maximum(seen @ self.first, 0) @ self.second


def every_table(clean, network, masks):
    """For each place, an image with a patch for each table of labels that some patch of ten levels leads to.

    Double masking reads nothing but the labels under all pairs of masks: patches with one table have one answer.
    """
    contents = np.array(list(product(range(0, 256, 28), repeat=4)), np.uint8).reshape(-1, PATCH, PATCH, 1)
    assert len(contents) == 10**4
    for top, left in product(range(SIDE - PATCH + 1), repeat=2):
        attacked = np.repeat(clean[None], len(contents), axis=0)
        attacked[:, top : top + PATCH, left : left + PATCH] = contents
        table = np.zeros(len(contents), np.int64)
        for pair in combinations_with_replacement(masks.corners, 2):
            seen = attacked[..., :1].copy()
            for row, column in pair:
                seen[:, row : row + masks.size[0], column : column + masks.size[1]] = 128
            table = 3 * table + network(seen).argmax(axis=1)
        yield from attacked[np.unique(table, return_index=True)[1]]


def test_none_of_ten_thousand_patches_at_any_place_changes_a_certified_answer():
    masks = mask_set((SIDE, SIDE), PATCH, along=2)
    verdicts = set()
    held = fell = 0
    for seed in range(300):
        network = Shades(seed)
        picture = np.random.default_rng(seed).integers(0, 256, (SIDE, SIDE, 1), np.uint8).repeat(3, axis=2)
        label = network(masked(picture, masks)).argmax(axis=1)[0]
        is_certified = two_mask_agreement(picture, network, masks)
        if (held if is_certified else fell) == 2:
            continue
        answers = [double_masking(one, network, masks) for one in every_table(picture, network, masks)]
        if is_certified:
            assert {one.logits.argmax() for one in answers} == {label}
            verdicts |= {one.verdict for one in answers}
            held += 1
        else:
            fell += len({one.logits.argmax() for one in answers}) > 1
    assert (held, fell) == (2, 2)
    assert "disagreer" in verdicts, "some patch won most masks"


@pytest.mark.parametrize("size", [(32, 32), (7, 31), (224, 224), (6, 6)])
@pytest.mark.parametrize("patch_px", [1, 3, 5, 6])
def test_some_mask_covers_a_patch_wherever_it_lies(size, patch_px):
    masks = mask_set(size, patch_px)
    assert len(masks.corners) <= 36
    covered = set()
    for row, column in masks.corners:
        assert 0 <= row <= size[0] - masks.size[0]
        assert 0 <= column <= size[1] - masks.size[1]
        tops = range(row, row + masks.size[0] - patch_px + 1)
        lefts = range(column, column + masks.size[1] - patch_px + 1)
        covered |= set(product(tops, lefts))
    assert covered == set(product(range(size[0] - patch_px + 1), range(size[1] - patch_px + 1)))


def test_the_papers_masks():
    """Section 5: ImageNet at 224 pixels, a patch of 2 % of the area, 32 pixels, six masks along an axis."""
    masks = mask_set((224, 224), 32)
    assert masks.size == (64, 64)
    assert sorted({row for row, _ in masks.corners}) == [0, 33, 66, 99, 132, 160]


def test_verdicts_and_passes_are_those_of_the_paper():
    """An image whose first masks all agree takes 36 passes; each label that dissents takes 36 more."""
    picture = np.zeros((13, 13, 3), np.uint8)

    def constant(pixels):
        return np.tile(np.float32([0, 1]), (len(pixels), 1))

    assert clean(picture, constant, 3)[1:] == ("agreement", 36)
    assert certified(picture, constant, 3)

    picture[0, 0] = 255  # what a patch would show: with it in sight the label is 1, under any mask that hides it 0

    def sees_it(pixels):
        return np.eye(2, dtype=np.float32)[(pixels[:, 0, 0, 0] == 255).astype(int)]

    said = clean(picture, sees_it, 3)
    assert (said.verdict, said.logits.argmax(), said.passes) == ("disagreer", 0, 72)
    assert not certified(picture, sees_it, 3)

    def hesitates(pixels):
        hidden = (pixels == 128).all(axis=3).sum(axis=(1, 2))
        return np.eye(2, dtype=np.float32)[((pixels[:, 0, 0, 0] == 255) | (hidden > hidden.min() + 3)).astype(int)]

    assert clean(picture, hesitates, 3).verdict == "majority"


def test_a_certificate_takes_all_pairs():
    network = Tiny(0)
    constant = lambda pixels: network(pixels) * 0  # noqa: E731
    assert certified(image(0), constant, 1)
    n = len(mask_set((SIDE, SIDE), 1).corners)
    assert network.passes == n * (n + 1) // 2


def test_a_patch_larger_than_the_image_is_refused():
    with pytest.raises(
        UserError, match=r"patchcleanser:9: a patch of that side does not fit into an image of \(5, 5\)"
    ):
        clean(image(0), Tiny(0), 9)

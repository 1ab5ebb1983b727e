"""PatchCleanser's answers and certificates against a second implementation, from its paper alone, on float networks.

Xiang et al. 2022, section 3.2: the set of masks; algorithm 1: double masking; theorem 1: its certificate.
"""

import math
from collections import Counter

import numpy as np
import pytest
import torch
from helpers.cifar import cifar_resnet

from backends.device.defences.patchcleanser import VERDICTS
from backends.device.many_passes import answer_all
from harness.networks.victims import logits

pytestmark = pytest.mark.usefixtures("one_thread")
GREY = 128 / 255


def mask_positions(n, p, k=6):
    """Positions along an axis of n pixels, and the mask's side, for patches of p pixels and k masks."""
    stride = math.ceil((n - p + 1) / k)
    side = p + stride - 1
    return sorted({i * stride for i in range((n - side) // stride + 1)} | {n - side}), side


def mask_set(height, width, p):
    rows, tall = mask_positions(height, p)
    columns, wide = mask_positions(width, p)
    masks = []
    for row in rows:
        for column in columns:
            mask = torch.ones(1, height, width)
            mask[:, row : row + tall, column : column + wide] = 0
            masks.append(mask)
    return masks


def predictions(x, network, masks):
    """MaskPred: the label under each mask, and that of most."""
    with torch.no_grad():
        labels = network(torch.stack([x * mask + GREY * (1 - mask) for mask in masks])).argmax(dim=1).tolist()
    counts = Counter(labels)
    return labels, max(sorted(counts), key=counts.__getitem__)


def double_masking(x, network, masks):
    labels, majority = predictions(x, network, masks)
    disagreers = [(mask, label) for mask, label in zip(masks, labels, strict=True) if label != majority]
    if not disagreers:
        return majority, "agreement", len(masks)
    for tried, (mask, label) in enumerate(disagreers, 2):
        again, _ = predictions(x * mask + GREY * (1 - mask), network, masks)
        if len(set(again)) == 1:
            return label, "disagreer", tried * len(masks)
    return majority, "majority", (1 + len(disagreers)) * len(masks)


def two_mask_correctness(x, label, network, masks):
    return all(set(predictions(x * mask + GREY * (1 - mask), network, masks)[0]) == {label} for mask in masks)


def assert_equal(network, pixels, p, labels=None):
    """Both implementations, image by image; return the verdicts and, of images without a patch, certified accuracy."""
    is_clean = labels is not None
    ours = answer_all(
        f"patchcleanser:{p}", pixels, len(pixels), lambda seen: logits(network, seen), is_clean, lambda done: None
    )
    masks = mask_set(*pixels.shape[1:3], p)
    verdicts, certified = set(), []
    for i, image in enumerate(pixels):
        x = torch.from_numpy(image).permute(2, 0, 1) / 255
        label, verdict, passes = double_masking(x, network, masks)
        assert ours["logits"][i].argmax() == label
        assert VERDICTS[ours["verdicts"][i]] == verdict
        assert ours["passes"][i] == passes
        verdicts.add(verdict)
        if is_clean:
            assert ours["certified"][i] == two_mask_correctness(x, label, network, masks)
            certified.append(bool(ours["certified"][i]) and label == labels[i])
    return verdicts, np.mean(certified) if is_clean else None


def with_noise(pixels, p):
    """Noise of p pixels at a place that each image draws."""
    random = np.random.default_rng(0)
    out = pixels.copy()
    for image in out:
        row, column = (random.integers(length - p + 1) for length in image.shape[:2])
        image[row : row + p, column : column + p] = random.integers(0, 256, (p, p, 3))
    return out


def test_on_digits(digits):
    pixels, labels = digits.judge[0][:40], digits.judge[1][:40]
    verdicts, accuracy = assert_equal(digits.network, pixels, 2, labels)
    patched, _ = assert_equal(digits.network, with_noise(pixels, 2), 2)
    assert verdicts | patched == set(VERDICTS)
    assert 0 < accuracy < 1


@pytest.mark.data
def test_on_cifar10(data_dir, cifar):
    network = cifar_resnet(data_dir, 20)
    pixels, labels = cifar["x_test"][:16], cifar["y_test"][:16]
    verdicts, accuracy = assert_equal(network, pixels, 4, labels)
    patched, _ = assert_equal(network, with_noise(pixels, 4), 4)
    assert verdicts | patched == set(VERDICTS)
    assert 0 < accuracy < 0.5

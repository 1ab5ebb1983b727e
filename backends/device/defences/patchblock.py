"""PatchBlock: chunks of an image that are easy to isolate from the rest are blurred.

Chattopadhyay et al. 2026, "PatchBlock: a lightweight defense against adversarial patches for embedded EdgeAI devices",
arXiv 2601.00367, as far as its abstract defines it: the image is split into chunks, an isolation forest finds those
that are outliers among them, and these are reduced in dimension. The setting is a chunk's side.

Ours: chunks overlap by half, and are compared by the values of all their pixels. The forest is the plain one of Liu et
al. 2008, "Isolation forest", without the paper's targeted cuts; an outlier's score (equation 2 there) is above 0.55. An
outlier keeps one dimension, its mean colour: a truncated singular value decomposition ends in other bits on other CPUs,
and devices have to agree on every pixel.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from backends.device.artifact import Pixels
from backends.device.defences import starts
from backends.device.errors import UserError

SETTING = "CHUNK"
SETTINGS = range(2, 65, 2)
TREES = 64
DEPTH = 8  # that of Liu et al., whose trees have 256 samples
SCORE = 0.55  # above which a chunk is an outlier
EULER = 0.5772156649


def transform(pixels: Pixels, side: int) -> Pixels:
    """Replace the outliers among an image's chunks by their mean colours."""
    out: Pixels = pixels.copy()
    for image, seen in zip(pixels, out):
        for row, column in outliers(image, side):
            total = image[row : row + side, column : column + side].sum(axis=(0, 1), dtype=np.int64)
            seen[row : row + side, column : column + side] = (2 * total + side * side) // (2 * side * side)
    return out


def outliers(image: Pixels, side: int) -> list[tuple[int, int]]:
    """Return the upper left corners of the chunks of one image ``(h, w, 3)`` that are outliers, row by row."""
    if side > min(image.shape[:2]):
        raise UserError(f"patchblock:{side}: a chunk of that side does not fit into an image of {image.shape[:2]}")
    rows, columns = (starts(length, side, side // 2) for length in image.shape[:2])
    corners = [(row, column) for row in rows for column in columns]
    chunks = [image[row : row + side, column : column + side] for row, column in corners]
    scores = outlier_scores(np.stack(chunks).reshape(len(chunks), -1))
    return [corners[i] for i in np.flatnonzero(scores > SCORE)]


def outlier_scores(points: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return how easily each point ``(n, values)`` is isolated by random cuts, from 0 to 1; the same in every run.

    All trees grow at once, a level at a time: `node` is the node of each point in each tree.
    """
    n, values = points.shape
    rng = np.random.default_rng(0)
    node = np.zeros((TREES, n), np.int64)
    depth = np.zeros((TREES, n))
    tree = np.arange(TREES)[:, None]
    for level in range(DEPTH):
        feature = (rng.random((TREES, 2**level)) * values).astype(np.int64)
        share = rng.random((TREES, 2**level))
        value = points[np.arange(n), feature[tree, node]].astype(np.float64)
        at = (tree * 2**level + node).ravel()
        least, most = np.full(TREES * 2**level, 255.0), np.zeros(TREES * 2**level)
        np.minimum.at(least, at, value.ravel())
        np.maximum.at(most, at, value.ravel())
        cut = least + share.ravel() * (most - least)
        size = np.bincount(at, minlength=len(cut))
        depth += (size > 1)[at].reshape(TREES, n)
        node = 2 * node + (value >= cut[at].reshape(TREES, n))
    left = np.bincount((tree * 2**DEPTH + node).ravel(), minlength=TREES * 2**DEPTH)
    depth += _expected_depth(left)[tree * 2**DEPTH + node]
    scores: NDArray[np.float64] = np.exp2(-depth.sum(axis=0) / TREES / _expected_depth(np.array([n]))[0])
    return scores


def _expected_depth(n: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the mean depth of a point in a random tree of n points, c(n) of Liu et al."""
    harmonic = np.array([math.log(max(one - 1, 1)) + EULER for one in n.ravel().tolist()])
    return np.where(n > 2, 2 * harmonic - 2 * (n - 1) / np.maximum(n, 1), n == 2)

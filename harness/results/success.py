"""From outputs to an answer, and from answers to success: the one module that knows the victims are classifiers.

The answer to an image is the class of the largest output, the lower one of equals; `NO_ANSWER` where an output is
infinite or NaN. Every function works elementwise on arrays that broadcast; a target class of -1 is none.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

Kind = Literal["clean", "targeted", "untargeted"]
Ints = NDArray[np.signedinteger[Any]]
Bools = NDArray[np.bool_]
NO_ANSWER = -1


class Answer(NamedTuple):
    """The class int64 ``(n,)``, and its ``margin``: the label's output less the best other; below 0 it is wrong."""

    pred: NDArray[np.int64]
    margin: NDArray[np.float64]


def top1(outputs: NDArray[Any]) -> NDArray[np.int64]:
    """Return the class of the largest output of each image, from ``(n, classes)``."""
    return np.asarray(outputs.argmax(axis=1), np.int64)


def answer(outputs: NDArray[np.floating[Any]], labels: Ints) -> Answer:
    """Return the answers to images with these labels, from float ``(n, classes)``."""
    values = outputs.astype(np.float64)
    rows = np.arange(len(labels))
    others = values.copy()
    others[rows, labels] = -np.inf
    with np.errstate(invalid="ignore"):
        margin = values[rows, labels] - others.max(axis=1)
    finite = np.isfinite(values).all(axis=1)
    return Answer(np.where(finite, top1(values), NO_ANSWER), np.where(finite, margin, np.nan))


def is_right(preds: Ints, labels: Ints) -> Bools:
    """Return which answers are the image's label."""
    return np.asarray(preds == labels)


def counts(kind: Kind, clean: Ints, labels: Ints, goals: Ints | int) -> Bools:
    """Return which images a rate is over, given the answers without the patch.

    Clean accuracy is over all. Success is over images that are classified correctly without the patch; targeted success
    over those of them that are not of the target class, so that neither the network's own mistakes nor its right
    answers count as hits.
    """
    if kind == "clean":
        return np.ones(len(labels), bool)
    right = is_right(clean, labels)
    if kind == "untargeted":
        return right
    return np.asarray(right & (labels != goals) & (np.asarray(goals) >= 0))


def hits(kind: Kind, preds: Ints, labels: Ints, goals: Ints | int) -> Bools:
    """Return which answers a rate counts: right without a patch, the target class, or wrong."""
    if kind == "targeted":
        return np.asarray(preds == goals)
    right = is_right(preds, labels)
    return right if kind == "clean" else ~right

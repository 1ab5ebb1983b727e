"""Do two targets that ran the same file on the same pixels agree? Predictions and integers that differ, by pairs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]


class Ran(NamedTuple):
    """What one target gave for one case of one artifact: logits ``(n, classes)``, and the file's own output integers.

    ``steps`` are those integers, where the file has any: read from its output, or counted from logits that are whole
    multiples of its last scale.
    """

    artifact: str
    target: str
    case: str
    patched: bool
    logits: Floats
    steps: NDArray[np.int64] | None


def steps_of(logits: Floats, integers: NDArray[Any] | None, scale: float | None) -> NDArray[np.int64] | None:
    """The integers behind logits; None where the file's output is float, so that logits lie on no grid."""
    if integers is not None:
        return integers.astype(np.int64)
    if scale is None or not np.isfinite(logits).all():
        return None
    counted = np.rint(logits / np.float32(scale))
    on_grid = np.abs(logits / np.float32(scale) - counted).max(initial=0) < 0.01
    return counted.astype(np.int64) if on_grid else None


def agreement(ran: Sequence[Ran]) -> Iterator[dict[str, Any]]:
    """A row for each artifact, pair of targets, and ``images`` clean or patched: counts, over cases that both ran.

    ``n`` images (cases x images), ``predictions_differ`` the share of them whose prediction differs (ties to the lower
    class), ``values`` integers or logits that were compared, ``values_differ`` the share of them that differ,
    ``largest`` and ``mean`` the largest and the mean difference (of those that differ), in ``unit`` step or logit.
    """
    artifacts = dict.fromkeys(one.artifact for one in ran)
    for artifact in artifacts:
        here = [one for one in ran if one.artifact == artifact]
        targets = list(dict.fromkeys(one.target for one in here))
        by = {(one.target, one.case): one for one in here}
        for a, b in combinations(targets, 2):
            for patched in (False, True):
                cases = [one.case for one in here if one.target == a and one.patched == patched]
                pairs = [(by[a, case], by[b, case]) for case in cases if (b, case) in by]
                if pairs:
                    images = "patched" if patched else "clean"
                    yield {"artifact": artifact, "a": a, "b": b, "images": images} | _compare(pairs)


def _compare(pairs: Sequence[tuple[Ran, Ran]]) -> dict[str, Any]:
    in_steps = all(one.steps is not None for pair in pairs for one in pair)
    differ = np.concatenate([a.logits.argmax(1) != b.logits.argmax(1) for a, b in pairs])
    gaps = np.concatenate([_gaps(a, b, in_steps) for a, b in pairs])
    apart = gaps[gaps > 0]
    return {
        "n": len(differ),
        "predictions_differ": float(differ.mean()),
        "values": len(gaps),
        "values_differ": float((gaps > 0).mean()),
        "largest": float(gaps.max(initial=0)),
        "mean": float(apart.mean()) if len(apart) else 0.0,
        "unit": "step" if in_steps else "logit",
    }


def _gaps(a: Ran, b: Ran, in_steps: bool) -> NDArray[np.float64]:
    """Absolute differences, flat."""
    x, y = (one.steps if in_steps and one.steps is not None else one.logits for one in (a, b))
    gaps: NDArray[np.float64] = np.abs(x.astype(np.float64) - y.astype(np.float64))
    return gaps.ravel()

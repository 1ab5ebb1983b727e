"""Agreement between targets that ran the same file on the same pixels: predictions and integers that differ."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness.results.measured import AgreementEntry
from harness.results.success import top1

Floats = NDArray[np.float32]


class Replayed(NamedTuple):
    """What a target gave for one case of a file: logits ``(n, classes)``, and the file's own output integers if any."""

    artifact: str
    target: str
    case: str
    patched: bool
    logits: Floats
    integers: NDArray[np.int64] | None


def output_integers(
    logits: Floats, integers: NDArray[Any] | None, scale: float | None, zero_point: int = 0
) -> NDArray[np.int64] | None:
    """Return a file's output integers: its own, or those that its logits, multiples of ``scale``, stand for.

    None where the file's output is float, so that the logits lie on no grid.
    """
    if integers is not None:
        return integers.astype(np.int64)
    if scale is None or not np.isfinite(logits).all():
        return None
    counted = np.rint(logits / np.float32(scale))
    on_grid = np.abs(logits / np.float32(scale) - counted).max(initial=0) < 0.01
    return counted.astype(np.int64) + zero_point if on_grid else None


def agreement(replayed: Sequence[Replayed]) -> Iterator[AgreementEntry]:
    """Compare every two targets of each artifact, on clean and on patched images, over the cases that both ran.

    ``n`` images (cases times images), ``predictions_differ`` the share of them whose prediction differs, ``values``
    integers or logits compared, ``values_differ`` the share of them that differ, ``largest`` and ``mean`` the largest
    and the mean difference (of those that differ), in ``unit`` step or logit.
    """
    of_artifact: dict[str, dict[str, dict[str, Replayed]]] = {}
    for one in replayed:
        of_artifact.setdefault(one.artifact, {}).setdefault(one.target, {})[one.case] = one
    for targets in of_artifact.values():
        for a, b in combinations(targets.values(), 2):
            for patched in (False, True):
                pairs = [(one, b[case]) for case, one in a.items() if one.patched == patched and case in b]
                if pairs:
                    yield _compare(pairs, patched)


def _compare(pairs: Sequence[tuple[Replayed, Replayed]], patched: bool) -> AgreementEntry:
    in_integers = all(one.integers is not None for pair in pairs for one in pair)
    other_class = np.concatenate([top1(a.logits) != top1(b.logits) for a, b in pairs])
    differences = np.concatenate([_differences(a, b, in_integers) for a, b in pairs])
    nonzero = differences[differences > 0]
    return AgreementEntry(
        artifact=pairs[0][0].artifact,
        a=pairs[0][0].target,
        b=pairs[0][1].target,
        images="patched" if patched else "clean",
        n=len(other_class),
        predictions_differ=float(other_class.mean()),
        values=len(differences),
        values_differ=float((differences > 0).mean()),
        largest=float(differences.max(initial=0)),
        mean=float(nonzero.mean()) if len(nonzero) else 0.0,
        unit="step" if in_integers else "logit",
    )


def _differences(a: Replayed, b: Replayed, in_integers: bool) -> NDArray[np.float64]:
    """Return absolute differences, flat."""
    x, y = (one.integers if in_integers and one.integers is not None else one.logits for one in (a, b))
    differences: NDArray[np.float64] = np.abs(x.astype(np.float64) - y.astype(np.float64))
    return differences.ravel()

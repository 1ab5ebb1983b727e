"""Rewrite a graph of torch's operators to those that XNNPACK's delegate takes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

aten = torch.ops.aten
SPATIAL = {2, 3}  # axes of a 4-dimensional tensor


def as_xnnpack_takes_it(module: Any) -> Any:
    """Rewrite an exported module in place: the same numbers, by other operators.

    A mean over height and width keeps its axes, which are dropped after it; a slice that takes every n-th element
    becomes one of its rows of n.
    """
    for node in list(module.graph.nodes):
        if (rule := RULES.get(node.target)) and (steps := rule(node)):
            found = node.args[0]
            with module.graph.inserting_before(node):
                for function, *arguments in steps:
                    found = module.graph.call_function(function, (found, *arguments))
            found.meta = node.meta
            node.replace_all_uses_with(found)
            module.graph.erase_node(node)
    module.recompile()
    return module


Steps = list[tuple[Any, ...]]


def _mean(node: Any) -> Steps:
    shape, axes = _shape(node.args[0]), node.args[1]
    keeps = len(node.args) > 2 and node.args[2]
    if len(shape) != 4 or {axis % 4 for axis in axes} != SPATIAL:
        return []
    mean = (aten.mean.dim, [-1, -2], True)
    return [mean] if keeps else [mean, (aten.flatten.using_ints, 1)]


def _slice(node: Any) -> Steps:
    """Cut rows of n elements, of which each keeps one; the slice has to reach the end, and rows to come out even."""
    shape = _shape(node.args[0])
    settings = dict(zip(("axis", "start", "end", "step"), node.args[1:], strict=False))
    axis, step = settings.get("axis", 0) % len(shape), settings.get("step", 1)
    start, end, _ = slice(settings.get("start"), settings.get("end")).indices(shape[axis])
    if step == 1 or shape[axis] % step or start >= step or end < shape[axis]:
        return []
    before, after, rows = shape[:axis], shape[axis + 1 :], shape[axis] // step
    return [
        (aten.view.default, [*before, rows, step, *after]),
        (aten.slice.Tensor, axis + 1, start, start + 1),
        (aten.view.default, [*before, rows, *after]),
    ]


def _shape(node: Any) -> list[int]:
    return list(node.meta["val"].shape)


RULES: dict[Any, Callable[[Any], Steps]] = {aten.mean.dim: _mean, aten.slice.Tensor: _slice}

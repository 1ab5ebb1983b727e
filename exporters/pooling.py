"""Pooling of torch that would be exported to operators without integer kernels, written with others."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

Pair = int | tuple[int, ...]
_adaptive, _average = functional.adaptive_avg_pool2d, functional.avg_pool2d


@contextmanager
def rewritten(*functions: Callable[..., Tensor]) -> Iterator[None]:
    """Let networks call these functions in place of those of `torch.nn.functional` of the same names."""
    kept = {function.__name__: getattr(functional, function.__name__) for function in functions}
    try:
        for function in functions:
            setattr(functional, function.__name__, function)
        yield
    finally:
        for name, function in kept.items():
            setattr(functional, name, function)


def adaptive_avg_pool2d(input: Tensor, output_size: Any) -> Tensor:
    """Return the pooled images; where a side is no multiple of its output's, windows overlap or repeat.

    torch exports those as gathered elements. Here they are average pooling of each size of window that occurs, of which
    slices are joined, one axis after the other. Images of the size that is wanted are left alone: of the mean of one
    pixel LiteRT's converter makes a sum, which LiteRT's reference kernels compute wrong.
    """
    wanted = (output_size, output_size) if isinstance(output_size, int) else tuple(output_size)
    sizes = [side if n is None else n for side, n in zip(input.shape[-2:], wanted, strict=True)]
    if sizes == list(input.shape[-2:]):
        return input
    for axis, n in zip((2, 3), sizes, strict=True):
        if input.shape[axis] % n:
            input = _pooled(input, axis, n)
    return _adaptive(input, sizes)  # type: ignore[arg-type]


def _pooled(x: Tensor, axis: int, n: int) -> Tensor:
    side = x.shape[axis]
    starts = [i * side // n for i in range(n)]
    sizes = [-(-(i + 1) * side // n) - start for i, start in enumerate(starts)]
    windows = {size: (size, 1) if axis == 2 else (1, size) for size in set(sizes)}
    means = {size: x if size == 1 else _average(x, window, 1) for size, window in windows.items()}
    return torch.cat([means[size].narrow(axis, start, 1) for start, size in zip(starts, sizes, strict=True)], axis)


def avg_pool2d(
    input: Tensor,
    kernel_size: Pair,
    stride: Pair | None = None,
    padding: Pair = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Tensor:
    """Return the pooled images; the padding that does not count is counted, and each mean then multiplied."""
    given = kernel_size, stride, padding, ceil_mode
    pads = _pair(padding)
    if count_include_pad or divisor_override or not any(pads):
        return _average(input, *given, count_include_pad, divisor_override)  # type: ignore[arg-type]
    pooled = _average(input, *given, True)  # type: ignore[arg-type]
    windows, steps = _pair(kernel_size), _pair(kernel_size if stride is None else stride)
    rows, columns = (
        torch.tensor([_share(i * step - pad, window, side, pad) for i in range(n)])
        for n, side, window, step, pad in zip(pooled.shape[-2:], input.shape[-2:], windows, steps, pads, strict=True)
    )
    return pooled * (rows[:, None] * columns)


def _share(start: int, window: int, side: int, pad: int) -> float:
    """Return how many elements of a window are counted with padding, for each without."""
    end = start + window
    return (min(end, side + pad) - start) / (min(end, side) - max(start, 0))


def _pair(given: Pair) -> tuple[int, int]:
    one, other = (given, given) if isinstance(given, int) else given
    return one, other

"""Surrogates: differentiable models whose gradients make patches. One a file; the file's name is the registry."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING

from harness.schema import UserError

if TYPE_CHECKING:
    from torch import nn


def known() -> tuple[str, ...]:
    """Names of all surrogates: the files of this folder, then entry points of the group ``patchbench.surrogates``."""
    ours = sorted(path.stem for path in Path(__file__).parent.glob("*.py") if path.stem != "__init__")
    return (*ours, *sorted(set(entry_points(group="patchbench.surrogates").names) - set(ours)))


def build(kind: str, network: nn.Module) -> nn.Module:
    """The surrogate of a kind for a victim's network: frozen, in eval mode, from pixels in [0, 1] to logits."""
    if kind not in known():
        raise UserError(f"no surrogate named {kind!r}; there are {', '.join(known())}")
    for entry in entry_points(group="patchbench.surrogates", name=kind):
        third_party: Callable[[nn.Module], nn.Module] = entry.load()
        return third_party(network)
    ours: Callable[[nn.Module], nn.Module] = importlib.import_module(f"{__name__}.{kind}").surrogate
    return ours(network)

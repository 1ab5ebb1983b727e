"""Surrogates: differentiable models whose gradients make patches. One a file; the file's name is the registry."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING

from backends.device.errors import UserError

if TYPE_CHECKING:
    from torch import nn

    from patches.fake_quant import Source

OF_ARTIFACTS = ("twin", "device")  # these are made of a file, the others of a network
SIMULATED = ("fake_quant", "qat")  # at a precision, rounded or trained to it; both are built as fake_quant
EXACT = ("twin", *SIMULATED)  # these have levels that bfloat16 would blur
IN_FLOAT32 = "the levels of a twin, and of what is rounded or trained to few bits, need float32; leave it out"


def known() -> tuple[str, ...]:
    """Names of all surrogates: the files of this folder, then entry points of the group ``patchbench.surrogates``."""
    ours = _files()
    return (*ours, *sorted(set(entry_points(group="patchbench.surrogates").names) - set(ours)))


def build(kind: str, source: nn.Module | Path | Source | Sequence[nn.Module]) -> nn.Module:
    """The surrogate of a kind: frozen, in eval mode, from pixels in [0, 1] to logits.

    `source` is a victim's network; for kinds that are made of an artifact (`OF_ARTIFACTS`) the path of its description,
    for ``fake_quant`` a `patches.fake_quant.Source`, for ``ensemble`` the surrogates that it is made of.
    After a colon the kind may name a variant, as ``twin:builtin``.
    """
    name, _, variant = kind.partition(":")
    if name not in known():
        raise UserError(f"no surrogate named {name!r}; there are {', '.join(known())}")
    ours = importlib.import_module(f"{__name__}.{name}").surrogate if name in _files() else None
    third_parties = entry_points(group="patchbench.surrogates", name=name)
    make: Callable[..., nn.Module] = ours or next(iter(third_parties)).load()
    return make(source, variant) if variant else make(source)


def _files() -> list[str]:
    return sorted(path.stem for path in Path(__file__).parent.glob("*.py") if path.stem != "__init__")

"""Surrogates: the models that patches are crafted on, one kind per file; the file's name is the registry."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING

from backends.device.errors import UserError, did_you_mean

if TYPE_CHECKING:
    from torch import nn

    from patches.fake_quant import Source

IN_FLOAT32 = "quantized surrogates need float32 to compute their levels exactly; leave bfloat16 out"


def kinds() -> tuple[str, ...]:
    """Return all kinds: the files of this folder, then entry points of the group ``patchbench.surrogates``."""
    ours = _files()
    return (*ours, *sorted(set(entry_points(group="patchbench.surrogates").names) - set(ours)))


def build(kind: str, source: nn.Module | Path | Source | Sequence[nn.Module], variant: str = "") -> nn.Module:
    """Build a surrogate: frozen, in eval mode, from pixels in [0, 1] to logits.

    `source` is a victim's network; for a ``twin``, the path of an artifact's description; for ``fake_quant``, a
    `patches.fake_quant.Source`; for an ``ensemble``, its members. `variant` names a twin's kernels.
    """
    if kind not in kinds():
        raise UserError(f"no surrogate named {kind!r}; {did_you_mean(kind, kinds())}")
    ours = importlib.import_module(f"{__name__}.{kind}").surrogate if kind in _files() else None
    third_parties = entry_points(group="patchbench.surrogates", name=kind)
    make: Callable[..., nn.Module] = ours or next(iter(third_parties)).load()
    return make(source, variant) if variant else make(source)


def _files() -> list[str]:
    return sorted(path.stem for path in Path(__file__).parent.glob("*.py") if path.stem != "__init__")

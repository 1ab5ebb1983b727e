"""Import torchvision with any build of torch."""

from __future__ import annotations

import importlib
import sys
from functools import cache
from typing import Any

_KEPT: list[Any] = []  # a torch.library.Library that is garbage-collected takes its operators with it


@cache
def import_torchvision() -> Any:
    """Import torchvision, whatever build of torch is installed.

    The wheel on PyPI is linked to CUDA. With a CPU-only torch its operators do not load, and the import fails where it
    registers their shapes. Declaring the two operators, only where they are missing, is enough for models, transforms
    and data sets.
    """
    try:
        return importlib.import_module("torchvision")
    except RuntimeError as error:
        if "torchvision::" not in str(error):
            raise
    import torch

    for half_imported in [m for m in sys.modules if m.split(".")[0] == "torchvision"]:
        del sys.modules[half_imported]
    library: Any = torch.library.Library("torchvision", "FRAGMENT")  # type: ignore[no-untyped-call]
    for name in ("nms", "qnms"):
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _KEPT.append(library)
    return importlib.import_module("torchvision")

"""A device that is not the CPU, for machines without one: it computes on the CPU and says that its tensors lie there.

As on CUDA the operands of an operator lie on one device, but for scalars and for indices; a mixture is refused.
"""

from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

DEVICE = "lazy"  # a type that torch knows, which needs neither a driver nor a thread of its own for gradients
aten = torch.ops.aten
MOVES = {aten._to_copy.default, aten.copy_.default}
INDEXING = {aten.index.Tensor, aten.index_put.default, aten.index_put_.default}


class There(Tensor):
    """A tensor on the device; ``inner`` is what the CPU computes with."""

    inner: Tensor

    @staticmethod
    def __new__(cls, inner: Tensor) -> "There":
        made = Tensor._make_wrapper_subclass(
            cls,
            inner.shape,
            strides=inner.stride(),
            storage_offset=inner.storage_offset(),
            dtype=inner.dtype,
            device=DEVICE,
        )
        made.inner = inner
        return made

    @property
    def data(self) -> Tensor:
        return self.detach()

    @data.setter
    def data(self, other: "There") -> None:
        self.inner = other.inner

    @classmethod
    def __torch_dispatch__(cls, function: Any, types: Any, arguments: Any = (), named: Any = None) -> Any:
        return _run(function, arguments, named or {})


class Accelerator(TorchDispatchMode):
    """Within it the device can be asked for by its name."""

    def __torch_dispatch__(self, function: Any, types: Any, arguments: Any = (), named: Any = None) -> Any:
        return _run(function, arguments, named or {})


def _run(function: Any, arguments: Any, named: Any) -> Any:
    tensors = [x for x in tree_leaves((arguments, named)) if isinstance(x, Tensor)]
    there = any(isinstance(x, There) for x in tensors)
    if there and function not in MOVES:
        asked = tree_leaves((arguments[0], arguments[2:])) if function in INDEXING else tensors
        if strays := [x for x in asked if isinstance(x, Tensor) and not isinstance(x, There) and x.ndim]:
            raise RuntimeError(f"{function}: expected all tensors on {DEVICE}, got one {tuple(strays[0].shape)} on cpu")
    if (device := named.get("device")) is not None:
        named, there = named | {"device": "cpu"}, torch.device(device).type == DEVICE
    found = function(*tree_map(_inner, arguments), **tree_map(_inner, named))
    first = function._schema.arguments[0] if arguments else None
    if first and first.alias_info and first.alias_info.is_write:
        return arguments[0]
    return tree_map(lambda x: There(x) if isinstance(x, Tensor) else x, found) if there else found


def _inner(x: Any) -> Any:
    return x.inner if isinstance(x, There) else x

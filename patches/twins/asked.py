"""Operators that the runtime itself computes for a twin: its kernel forward, the real function's derivative backward.

That is how a twin follows what a runtime computes in float, such as layer normalisation, and integer kernels that go
through float inside. Values cross to the CPU and back.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from patches.twins.network import REALS, Quant

Real = Callable[..., Tensor]


class Kernel(Protocol):
    """One operator of a file, on its runtime."""

    def __call__(self, *operands: NDArray[Any]) -> NDArray[Any]:
        """Return the output for these inputs, constants left out."""


class OnnxKernel:
    """An operator on onnxruntime, from a model of it alone; its session opens when it is first asked."""

    def __init__(self, model: bytes) -> None:
        self.model = model
        self._session: Any = None

    def __call__(self, *operands: NDArray[Any]) -> NDArray[Any]:
        """Return the output for these inputs, constants left out."""
        if self._session is None:
            import onnxruntime

            options = onnxruntime.SessionOptions()
            options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
            options.intra_op_num_threads = 1
            options.log_severity_level = 3
            self._session = onnxruntime.InferenceSession(self.model, options, providers=["CPUExecutionProvider"])
        names = [entry.name for entry in self._session.get_inputs()]
        out: NDArray[Any] = self._session.run(None, dict(zip(names, operands, strict=True)))[0]
        return out

    def __getstate__(self) -> dict[str, Any]:
        """Leave the session out of copies."""
        return {"model": self.model, "_session": None}


class TfliteKernel:
    """An operator on the rows of tensors, by LiteRT; its interpreter opens when it is first asked."""

    def __init__(self, model: bytes, kernels: str) -> None:
        self.model, self.kernels = model, kernels
        self._interpreter: Any = None

    def __call__(self, *operands: NDArray[Any]) -> NDArray[Any]:
        """Return the output for tensors of one shape, row by row along its last axis."""
        shape = operands[0].shape
        rows = [np.ascontiguousarray(x.reshape(-1, shape[-1])) for x in operands]
        interpreter = self._opened()
        entries = interpreter.get_input_details()
        if tuple(entries[0]["shape"]) != rows[0].shape:
            for entry in entries:
                interpreter.resize_tensor_input(entry["index"], rows[0].shape)
            interpreter.allocate_tensors()
        for entry, x in zip(entries, rows, strict=True):
            interpreter.set_tensor(entry["index"], x)
        interpreter.invoke()
        out: NDArray[Any] = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
        return out.reshape(shape)

    def _opened(self) -> Any:
        if self._interpreter is None:
            from ai_edge_litert.interpreter import Interpreter, OpResolverType

            resolvers = {
                "xnnpack": OpResolverType.AUTO,
                "builtin": OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
                "reference": OpResolverType.BUILTIN_REF,
            }
            self._interpreter = Interpreter(
                model_content=self.model, num_threads=1, experimental_op_resolver_type=resolvers[self.kernels]
            )
            self._interpreter.allocate_tensors()
        return self._interpreter

    def __getstate__(self) -> dict[str, Any]:
        """Leave the interpreter out of copies."""
        return {"model": self.model, "kernels": self.kernels, "_interpreter": None}


class Asked(nn.Module):
    """An operator that its runtime computes; ``real`` is its function of reals, constants included.

    Integers cross as integers: ``quants`` are those of the operands and, last, of the output, `REALS` for floats.
    ``fixed`` are constant operands by position, as reals. ``axes`` are those along which the operator mixes values.
    """

    def __init__(
        self,
        kernel: Kernel,
        real: Real,
        quants: Sequence[Quant],
        fixed: Mapping[int, NDArray[Any]] | None = None,
        axes: Sequence[int] = (),
    ) -> None:
        super().__init__()
        self.kernel, self.real, self.axes = kernel, real, tuple(axes)
        *self.quants, self.out = quants
        self.positions = sorted(fixed or {})
        for position in self.positions:
            self.register_buffer(f"fixed{position}", torch.from_numpy(np.array((fixed or {})[position])))

    def forward(self, *operands: Tensor) -> Tensor:
        """Return steps or reals; along the axis of the images it is a `ValueError`."""
        if any(axis % operands[0].ndim == 0 for axis in self.axes):
            raise ValueError("along the axis of the images")
        out: Tensor = _Asked.apply(self.ask, self.reals, *operands)  # type: ignore[no-untyped-call]
        return out

    def ask(self, *operands: Tensor) -> Tensor:
        """Return what the runtime computes."""
        given = [_integers(x, quant) for x, quant in zip(operands, self.quants, strict=True)]
        out = torch.from_numpy(np.asarray(self.kernel(*given)))
        steps = out if out.dtype == torch.bool else out.to(torch.float32) - self.out.zero_point
        return steps.to(operands[0].device)

    def reals(self, *operands: Tensor) -> Tensor:
        """Return what the real function gives, as steps that are not rounded."""
        given = [x * quant.scale if quant.scale != 1 else x for x, quant in zip(operands, self.quants, strict=True)]
        for position in self.positions:
            given.insert(position, self.get_buffer(f"fixed{position}"))
        return self.real(*given) / self.out.scale


def _integers(x: Tensor, quant: Quant) -> NDArray[Any]:
    values: NDArray[Any] = x.detach().cpu().contiguous().numpy()
    if quant == REALS:
        return values
    return (values + np.float32(quant.zero_point)).astype(np.int8 if quant.lowest < 0 else np.uint8)


class _Asked(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, ask: Real, reals: Real, *operands: Tensor) -> Tensor:
        ctx.reals = reals
        ctx.save_for_backward(*operands)
        out = ask(*operands)
        if out.dtype == torch.bool:
            ctx.mark_non_differentiable(out)
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        needed = ctx.needs_input_grad[2:]
        with torch.enable_grad():
            operands = [x.detach().requires_grad_(need) for x, need in zip(ctx.saved_tensors, needed, strict=True)]
            wanted = [x for x, need in zip(operands, needed, strict=True) if need]
            found = iter(torch.autograd.grad(ctx.reals(*operands), wanted, gradients[0]))
        return (None, None, *(next(found) if need else None for need in needed))

"""OpenVINO on the CPU."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from backends.device import tflite_facts
from backends.device.errors import UserError
from backends.device.machine import read_cpuinfo
from backends.device.runtimes import Option, Tensor, axes, check_options, missing

INTEGERS = ("i8", "u8", "i4", "u4")
FLOATS = ("f32", "bf16", "f16")
DTYPES: Mapping[str, np.dtype[Any]] = {
    "f32": np.dtype(np.float32),
    "i8": np.dtype(np.int8),
    "u8": np.dtype(np.uint8),
    "i16": np.dtype(np.int16),
}
WEIGHTED = ("Convolution", "GroupConvolution", "ConvolutionBackpropData", "GroupConvolutionBackpropData", "MatMul")
WEIGHTED_LAYERS = ("Convolution", "Deconvolution", "FullyConnected", "MatMul")  # what they become when compiled
LIMIT = "ONEDNN_MAX_CPU_ISA"
# by oneDNN's name, what OpenVINO calls them
ISA = {
    "AVX512_CORE": "Intel AVX-512 with AVX512BW, AVX512VL, and AVX512DQ extensions",
    "AVX2": "Intel AVX2",
}
PLUMBING = ("Input", "Output", "Const")
CPUINFO = Path("/proc/cpuinfo")
MOST_STREAMS = 256
NO_VNNI = "use a CPU with VNNI, or another runtime"


class Layer(NamedTuple):
    """A layer as it was compiled: its kind, such as ``FullyConnected``, and the type that it computes in."""

    kind: str
    precision: str

    @property
    def is_weighted(self) -> bool:
        """Whether it sums products: a convolution, or a product of matrices."""
        return self.kind in WEIGHTED_LAYERS


class Engine:
    """OpenVINO's CPU plugin, for ONNX and TFLite files.

    Options are OpenVINO's own: ``performance_hint``, ``num_streams`` (0 for what the hint chooses),
    ``inference_precision``, that of layers in float, ``LP_TRANSFORMS_MODE``, without which every layer is computed in
    float, and ``ONEDNN_MAX_CPU_ISA``, with which a newer x86 computes as an older one. A layer with integer weights
    that is computed in float is an error, unless ``float_layers`` is ``allowed``; so is a CPU with Arm's SME, on which
    it was wrong under QEMU, unless ``sme`` is.
    """

    formats: ClassVar[tuple[str, ...]] = ("onnx", "tflite")
    package: ClassVar[str] = "openvino"
    options: ClassVar[Mapping[str, tuple[str, ...] | range]] = {
        "performance_hint": ("latency", "throughput"),
        "num_streams": range(MOST_STREAMS + 1),
        "inference_precision": ("f32", "bf16", "f16"),
        "LP_TRANSFORMS_MODE": ("YES", "NO"),
        LIMIT: ("DEFAULT", *ISA),
        "float_layers": ("refused", "allowed"),
        "sme": ("refused", "allowed"),
    }
    twins: ClassVar[Mapping[str, None]] = {"integer": None}
    saturating: ClassVar[Mapping[str, str]] = {"u8s8": NO_VNNI, "s8s8": NO_VNNI}

    def load(self, path: Path, options: Mapping[str, Option], threads: int) -> None:
        """Compile a file and check that options and threads are in force, and its layers in integers."""
        chosen = check_options(options, Engine.options)
        if chosen["sme"] == "refused" and "sme" in read_cpuinfo(CPUINFO)[1]:
            raise UserError(
                "OpenVINO gave wrong answers on the one CPU with SME that was tried, QEMU's max: choose another CPU, "
                "such as neoverse-n1 or max,sme=off; to see for yourself, set the option sme to allowed"
            )
        _limit_instructions(chosen[LIMIT])
        try:
            import openvino
        except ImportError as error:
            raise missing(self.package, error) from error
        facts = tflite_facts.read(path, "OpenVINO") if path.suffix == ".tflite" else None
        core = openvino.Core()
        try:
            model = core.read_model(path)
            compiled = core.compile_model(model, "CPU", _wanted(chosen, threads))
        except Exception as error:  # OpenVINO's exceptions have no common base
            raise UserError(f"{path}: OpenVINO cannot load it: {_reason(error)}") from error
        _check(path, compiled, chosen, threads)
        layers = _layers(compiled)
        weighted = sum(map(_has_integer_weights, model.get_ops()))
        in_float = Counter(layer.kind for layer in layers if layer.is_weighted and layer.precision not in INTEGERS)
        in_integers = sum(layer.is_weighted for layer in layers) - sum(in_float.values())
        if in_integers < weighted and chosen["float_layers"] == "refused":
            raise UserError(
                f"{path}: OpenVINO computes {weighted - in_integers} of its {weighted} layers with integer weights in "
                "float; to run it so, set the option float_layers to allowed"
            )
        self.input, self.output = _ends(path, model, facts)
        self._whole = self.input.shape[0] != 1
        self._request: Any = compiled.create_infer_request()
        self._info = {
            "version": openvino.__version__.partition("-")[0],
            "kernels": _kernels(weighted, in_integers, in_float),
            "device": core.get_property("CPU", "FULL_DEVICE_NAME"),
            "instructions": _instructions(compiled),
            "precisions": _counts(layer.precision for layer in layers),
            "operators": _counts(" ".join(layer) for layer in layers),
            "threads": str(threads),
            "streams": str(compiled.get_property("NUM_STREAMS")),
            "batching": "whole" if self._whole else "one at a time",
        } | {name: chosen[name] for name in ("performance_hint", "inference_precision", "LP_TRANSFORMS_MODE")}

    def run(self, x: NDArray[Any]) -> NDArray[Any]:
        """Run a batch; a file with batch size 1 is called once per image."""
        if self._whole or len(x) == 1:
            found: NDArray[Any] = self._request.infer([x], share_inputs=True)[0]
            return found if found.ndim == 2 else found.reshape(len(x), -1)
        return np.concatenate([self.run(x[i : i + 1]) for i in range(len(x))])

    def info(self) -> dict[str, str]:
        """Return version, device, the instructions that it uses, options, and the count of layers by precision."""
        return self._info


def _limit_instructions(isa: str) -> None:
    """Tell oneDNN, which reads it once in a process, which instructions it may use."""
    if sys.modules.get("openvino") and os.environ.get(LIMIT) != isa:
        raise UserError(f"{LIMIT} is {os.environ.get(LIMIT)} in this process, asked for {isa}")
    os.environ[LIMIT] = isa


def _wanted(chosen: Mapping[str, str], threads: int) -> dict[str, object]:
    """Return OpenVINO's properties; pinned to a core, replays side by side would share one."""
    streams = int(chosen["num_streams"])
    return {
        "PERFORMANCE_HINT": chosen["performance_hint"].upper(),
        "INFERENCE_PRECISION_HINT": chosen["inference_precision"],
        "LP_TRANSFORMS_MODE": chosen["LP_TRANSFORMS_MODE"],
        "INFERENCE_NUM_THREADS": threads,
        "ENABLE_CPU_PINNING": False,
    } | ({"NUM_STREAMS": streams} if streams else {})


def _check(path: Path, compiled: Any, chosen: Mapping[str, str], threads: int) -> None:
    """Raise a `UserError` for what was asked for and is not in force."""
    given = compiled.get_property
    asked = [
        ("threads", str(threads), str(given("INFERENCE_NUM_THREADS"))),
        ("performance_hint", chosen["performance_hint"], given("PERFORMANCE_HINT").lower()),
        ("inference_precision", chosen["inference_precision"], given("INFERENCE_PRECISION_HINT").get_type_name()),
    ]
    if chosen[LIMIT] in ISA:
        asked.append((LIMIT, ISA[chosen[LIMIT]], _instructions(compiled)))
    if chosen["num_streams"] != "0":
        asked.append(("num_streams", chosen["num_streams"], str(given("NUM_STREAMS"))))
    for name, wanted, found in asked:
        if found != wanted:
            raise UserError(f"{path}: OpenVINO runs with {name} {found} on this CPU, asked for {wanted}")


def _layers(compiled: Any) -> list[Layer]:
    infos = [operator.get_rt_info() for operator in compiled.get_runtime_model().get_ops()]
    layers = [Layer(info["layerType"].astype(str), _precision(info)) for info in infos]
    return [layer for layer in layers if layer.kind not in PLUMBING]


def _precision(info: Any) -> str:
    """Return the type that a layer computes in, which its primitive's name ends in: ``brgconv_avx512_f32``.

    ``runtimePrecision`` is that of the weights where a layer unpacks them to multiply in float.
    """
    computes = str(info["primitiveType"].astype(str)).rpartition("_")[2].lower()
    stated: str = info["runtimePrecision"].astype(str)
    return computes if computes in FLOATS else stated


def _kernels(weighted: int, in_integers: int, in_float: Counter[str]) -> str:
    """Return ``integer``, ``float``, or both, where some layers with integer weights are computed in float."""
    if in_integers < weighted:
        return f"integer (float: {_counts(in_float.elements())})" if in_integers else "float"
    return "integer" if weighted else "float"


def _has_integer_weights(operator: Any) -> bool:
    return operator.get_type_name() in WEIGHTED and any(map(_is_integer_constant, operator.input_values()))


def _is_integer_constant(value: Any) -> bool:
    """Whether a value is a constant of integers, dequantized and reshaped: each step's first input is what it takes."""
    node = value.get_node()
    while node.get_type_name() != "Constant":
        inputs = node.input_values()
        if not inputs:
            return False
        node = inputs[0].get_node()
    return node.get_element_type().get_type_name() in INTEGERS


def _ends(path: Path, model: Any, facts: tflite_facts.Facts | None) -> tuple[Tensor, Tensor]:
    """Return input and output; what their integers stand for, a TFLite file's facts tell and OpenVINO does not."""
    sides = ("input", model.inputs), ("output", model.outputs)
    if any(len(ports) != 1 for _, ports in sides):
        raise UserError(f"{path}: expected one input and one output, got {len(model.inputs)} and {len(model.outputs)}")
    tensors = []
    for side, (port,) in sides:
        name = port.get_element_type().get_type_name()
        if name not in DTYPES:
            raise UserError(f"{path}: its {side} is {name}, expected one of {', '.join(DTYPES)}")
        shape = axes([axis.get_length() if axis.is_static else None for axis in port.get_partial_shape()])
        quantization = getattr(facts, side) if facts and name != "f32" else (1.0, 0)
        if quantization is None:
            raise UserError(f"{path}: its {side} is {name} without a scale: its values are undefined")
        tensors.append(Tensor(shape, DTYPES[name], *quantization))
    return tensors[0], tensors[1]


def _instructions(compiled: Any) -> str:
    """Return the instructions that OpenVINO chose, such as ``Intel AVX2``; empty where it does not say."""
    stated = dict(part.partition("=")[::2] for part in str(compiled.get_property("RUNTIME_REQUIREMENTS")).split(";"))
    return stated.get("isa", "")


def _counts(words: Iterable[str]) -> str:
    return ", ".join(f"{n} {word}" for word, n in Counter(words).most_common())


def _reason(error: Exception) -> str:
    """Return the last line of OpenVINO's account, which says why."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else repr(error)

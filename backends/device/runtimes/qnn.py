"""QNN: Qualcomm's HTP, its NPU, by onnxruntime; on x86-64 Qualcomm's emulator of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from backends.device.errors import UserError
from backends.device.one_at_a_time import OneAtATime
from backends.device.runtimes import Option, Tensor, axes, missing
from backends.device.runtimes.onnxruntime import DTYPES

PROVIDER = "QNNExecutionProvider"
ARCHITECTURES = ("default", "68", "69", "73", "75", "79", "81")
MOVES = ("Pad", "Reshape", "Transpose", "Squeeze", "Unsqueeze", "Flatten")
CHECKED = 2  # images


class Engine(OneAtATime):
    """The QNN provider of onnxruntime on HTP, for QDQ files: one image at a time, with the file's integers and scales.

    ``htp_arch`` is the version of HTP; on a device leave the default, which is the device's own. An operator that HTP
    does not take is an error, unless ``cpu_fallback`` is ``allowed``. A dynamic batch is fixed at 1 and integers are
    padded, reshaped and transposed as reals, as HTP wants it: a file for which that would change the answers of
    onnxruntime's CPU provider by a bit is refused. The package is under Qualcomm's licence, to be accepted by its name.
    """

    formats: ClassVar[tuple[str, ...]] = ("onnx",)
    package: ClassVar[str] = "onnxruntime-qnn"
    brings: ClassVar[tuple[str, ...]] = ("onnx",)
    options: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "htp_arch": ARCHITECTURES,
        "cpu_fallback": ("refused", "allowed"),
    }
    integers_only: ClassVar[bool] = True

    def load(self, path: Path, options: Mapping[str, Option], threads: int) -> None:
        """Prepare a file and compile it for HTP; check that the CPU answers alike, and where its operators run."""
        chosen = self.checked(options, threads)
        try:
            import onnx
            import onnxruntime
            import onnxruntime_qnn
        except ImportError as error:
            raise missing(self.package, error) from error
        prepared = _prepared(path, onnx)
        _check_equal(path, prepared, onnxruntime)
        wanted = _options(onnxruntime)
        wanted.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
        wanted.add_provider_for_devices(_devices(onnxruntime, onnxruntime_qnn), _htp(chosen, onnxruntime_qnn))
        self._session = _opened(path, prepared, wanted, onnxruntime)
        on_cpu = _on_cpu(self._session)
        if on_cpu and chosen["cpu_fallback"] == "refused":
            raise UserError(
                f"{path}: HTP does not take its {on_cpu}; to compute them on the CPU, set the option cpu_fallback to "
                "allowed"
            )
        self.input, self.output = _ends(path, self._session)
        self._name = self._session.get_inputs()[0].name
        arch = chosen["htp_arch"]
        self.facts = {
            "qnn": onnxruntime_qnn.build_and_package_info.qnn_version,
            "onnxruntime": onnxruntime.__version__,
            "kernels": f"htp {arch}" + (f" (cpu: {on_cpu})" if on_cpu else ""),
            "htp_arch": arch,
        }

    def answer(self, image: NDArray[Any]) -> NDArray[Any]:
        """Return the output for one image."""
        answer: NDArray[Any] = self._session.run(None, {self._name: image})[0]
        return answer


def _prepared(path: Path, onnx: Any) -> bytes:
    """Return a file for batches of one image, with what only moves integers between dequantize and quantize."""
    try:
        model = onnx.load(path)
        onnx.checker.check_model(model)
        graph = model.graph
        if not any(node.op_type == "QuantizeLinear" for node in graph.node):
            raise UserError(f"{path}: computes in float, and HTP is asked for integers: export it quantized")
        for tensor in (*graph.input, *graph.output):
            first = tensor.type.tensor_type.shape.dim[0]
            if first.dim_value < 1:
                first.dim_value = 1
        nodes = list(_moved_as_reals(graph, onnx))
        del graph.node[:], graph.value_info[:]
        graph.node.extend(nodes)
        prepared: bytes = onnx.shape_inference.infer_shapes(model).SerializeToString()
    except UserError:
        raise
    except Exception as error:  # protobuf's and onnx's own have no common base
        raise UserError(f"{path}: onnx cannot load it: {error}") from error
    return prepared


def _moved_as_reals(graph: Any, onnx: Any) -> Iterator[Any]:
    """Yield the nodes of a graph; one that only moves quantized integers as three: dequantize, move, quantize."""
    make, values = onnx.helper.make_node, {one.name: one for one in graph.initializer}
    quantized = {node.output[0]: node for node in graph.node if node.op_type == "QuantizeLinear"}
    for node in graph.node:
        before = quantized.get(node.input[0]) if node.op_type in MOVES else None
        if before is None or not set(before.input[1:]) <= values.keys():
            yield node
            continue
        grid = before.input[1:]
        name = f"{node.output[0]}_real"
        inputs = [f"{name}_before", *node.input[1:]]
        if node.op_type == "Pad":
            filling = node.input[2] if len(node.input) > 2 else ""
            scale, zero_point = (onnx.numpy_helper.to_array(values[one]) for one in grid)
            integer = onnx.numpy_helper.to_array(values[filling]) if filling else zero_point * 0
            real = (integer.astype(np.float32) - zero_point.astype(np.float32)) * scale
            graph.initializer.append(onnx.numpy_helper.from_array(real.astype(np.float32), f"{name}_filling"))
            inputs[2:3] = [f"{name}_filling"]
        yield make("DequantizeLinear", [node.input[0], *grid], inputs[:1])
        moved = make(node.op_type, inputs, [name])
        moved.attribute.extend(node.attribute)
        yield moved
        after = make("QuantizeLinear", [name, *grid], [node.output[0]])
        quantized[node.output[0]] = after
        yield after


def _check_equal(path: Path, prepared: bytes, onnxruntime: Any) -> None:
    """Raise a `UserError` where onnxruntime on the CPU answers otherwise to a file since it was prepared."""
    sessions = [_opened(path, content, _options(onnxruntime), onnxruntime) for content in (path.read_bytes(), prepared)]
    tensor, _ = _ends(path, sessions[1])
    pixels = np.random.default_rng(0).integers(0, 256, (CHECKED, *(axis or 1 for axis in tensor.shape[1:])))
    images = (pixels / 255).astype(np.float32) if tensor.dtype == np.float32 else pixels.astype(tensor.dtype)
    for i in range(CHECKED):
        answers = [one.run(None, {one.get_inputs()[0].name: images[i : i + 1]})[0] for one in sessions]
        if not np.array_equal(*answers):
            raise UserError(f"{path}: prepared for HTP, onnxruntime answers otherwise to it on the CPU")


def _options(onnxruntime: Any) -> Any:
    wanted = onnxruntime.SessionOptions()
    wanted.intra_op_num_threads = 1
    wanted.inter_op_num_threads = 1
    wanted.log_severity_level = 4  # what it cannot do, it raises
    wanted.add_session_config_entry("session.qdqisint8allowed", "1")  # as the runtime `onnxruntime` has it
    return wanted


def _opened(path: Path, content: bytes, wanted: Any, onnxruntime: Any) -> Any:
    try:
        return onnxruntime.InferenceSession(content, wanted)
    except Exception as error:  # onnxruntime's exceptions have no common base
        raise UserError(f"{path}: {Engine.package} cannot load it: {error}") from error


def _devices(onnxruntime: Any, onnxruntime_qnn: Any) -> list[Any]:
    """Return the devices of the provider, which is registered once in a process."""
    if not any(device.ep_name == PROVIDER for device in onnxruntime.get_ep_devices()):
        onnxruntime.register_execution_provider_library(PROVIDER, onnxruntime_qnn.get_library_path())
    return [device for device in onnxruntime.get_ep_devices() if device.ep_name == PROVIDER]


def _htp(chosen: Mapping[str, str], onnxruntime_qnn: Any) -> dict[str, str]:
    """Return the provider's options; by its defaults the CPU would quantize inputs and dequantize outputs."""
    arch = {} if chosen["htp_arch"] == "default" else {"htp_arch": chosen["htp_arch"]}
    return {"backend_path": onnxruntime_qnn.get_qnn_htp_path(), "offload_graph_io_quantization": "0", **arch}


def _on_cpu(session: Any) -> str:
    """Count the operators that the CPU computes: ``2 Softmax, 1 Pad``."""
    parts = [part for part in session.get_provider_graph_assignment_info() if part.ep_name != PROVIDER]
    counted = Counter(node.op_type for part in parts for node in part.get_nodes())
    return ", ".join(f"{n} {name}" for name, n in counted.most_common())


def _ends(path: Path, session: Any) -> tuple[Tensor, Tensor]:
    inputs, outputs = session.get_inputs(), session.get_outputs()
    if len(inputs) != 1 or len(outputs) != 1 or {inputs[0].type, outputs[0].type} - set(DTYPES):
        types = [[tensor.type for tensor in tensors] for tensors in (inputs, outputs)]
        raise UserError(f"{path}: expected one image in, one vector out; got {types[0]} in, {types[1]} out")
    given, wanted = (Tensor(axes(tensor.shape), DTYPES[tensor.type]) for tensor in (inputs[0], outputs[0]))
    return given, wanted

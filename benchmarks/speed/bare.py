"""The bare loops that `replay.py` compares replays with: each runtime as its manual uses it, none of our code.

    python bare.py RUNTIME FILE INPUTS.npy KERNELS RUNS

It needs numpy and the runtime alone, so that it runs in the environment that a replay runs in.
"""

import json
import sys
import time
from collections.abc import Callable

import numpy as np

CASES = 5
Run = Callable[[np.ndarray], np.ndarray]


def litert(file: str, kernels: str) -> Run:
    """Return a function that runs one image through LiteRT."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    resolvers = {"builtin": "BUILTIN_WITHOUT_DEFAULT_DELEGATES", "reference": "BUILTIN_REF"}
    resolver = OpResolverType[resolvers.get(kernels, "BUILTIN")]
    interpreter = Interpreter(file, num_threads=1, experimental_op_resolver_type=resolver)
    interpreter.allocate_tensors()
    index = interpreter.get_input_details()[0]["index"]
    output = interpreter.get_output_details()[0]["index"]

    def run(image: np.ndarray) -> np.ndarray:
        interpreter.set_tensor(index, image)
        interpreter.invoke()
        return interpreter.get_tensor(output)

    return run


def onnxruntime(file: str, kernels: str) -> Run:
    """Return a function that runs one image through ONNX Runtime."""
    import onnxruntime

    wanted = onnxruntime.SessionOptions()
    wanted.intra_op_num_threads = wanted.inter_op_num_threads = 1
    wanted.log_severity_level = 3
    wanted.add_session_config_entry("session.qdqisint8allowed", "1")
    session = onnxruntime.InferenceSession(file, wanted, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda image: session.run(None, {name: image})[0]


def openvino(file: str, kernels: str) -> Run:
    """Return a function that runs one image through OpenVINO, its arrays shared, which is faster than its default."""
    import openvino

    wanted = {"INFERENCE_NUM_THREADS": 1, "INFERENCE_PRECISION_HINT": "f32", "ENABLE_CPU_PINNING": False}
    request = openvino.Core().compile_model(file, "CPU", wanted).create_infer_request()
    return lambda image: request.infer([image], share_inputs=True)[0]


def tflite_micro(file: str, kernels: str) -> Run:
    """Return a function that runs one image through TFLite Micro."""
    from tflite_micro.python.tflite_micro import runtime

    interpreter = runtime.Interpreter.from_file(file, arena_size=1 << 26)

    def run(image: np.ndarray) -> np.ndarray:
        interpreter.set_input(image, 0)
        interpreter.invoke()
        return interpreter.get_output(0)

    return run


def executorch(file: str, kernels: str) -> Run:
    """Return a function that runs one image through ExecuTorch; its public module counts threads by its private one."""
    import torch
    from executorch.extension.pybindings import _C
    from executorch.runtime import Runtime

    _C._unsafe_reset_threadpool(1)
    method = Runtime.get().load_program(file).load_method("forward")
    return lambda image: method.execute((torch.from_numpy(image),))[0].numpy()


BARE = {"litert": litert, "onnxruntime": onnxruntime, "openvino": openvino, "tflite_micro": tflite_micro}
BARE["executorch"] = executorch


def main(runtime: str, file: str, inputs: str, kernels: str, runs: int) -> None:
    """Run the bare loop; print the seconds of each of `CASES` rounds, and the median milliseconds of an image."""
    x = np.load(inputs, allow_pickle=False)
    run = BARE[runtime](file, kernels)
    first = run(x[:1])
    found = np.empty((len(x), first.shape[1]), first.dtype)
    rounds = []
    for _ in range(CASES):
        begun = time.perf_counter()
        computing = time.process_time()
        for i in range(len(x)):
            found[i] = run(x[i : i + 1])[0]
        rounds.append((time.perf_counter() - begun, time.process_time() - computing))
    taken = []
    for i in range(runs):
        image = x[i % 16 : i % 16 + 1]
        begun = time.perf_counter_ns()
        run(image)
        taken.append(time.perf_counter_ns() - begun)
    print(json.dumps({"rounds": rounds, "p50_ms": float(np.median(taken)) / 1e6}))


if __name__ == "__main__":
    main(*sys.argv[1:5], runs=int(sys.argv[5]))

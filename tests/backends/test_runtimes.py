import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers import executorch, tiny
from helpers.cpu import exact_sums
from helpers.elsewhere import Elsewhere

from backends.conformance import networks
from backends.device.artifact import Preproc
from backends.device.errors import UserError
from backends.device.runtimes import check_options, engine, prepare, real
from patches.twins import ELSEWHERE as TWINS_ELSEWHERE
from patches.twins import KERNELS

# Those whose packages this Python lacks run in an environment of their own.
ELSEWHERE = ("tflite_runtime", "tensorflow", "tflite_micro", "openvino", "tosa")
TFLITE = ("litert", *ELSEWHERE)  # openvino reads both formats; tests/backends/test_openvino.py has its ONNX
# Every runtime with every option of its own.
ENGINES = [
    ("onnxruntime", {}),
    ("onnxruntime", {"optimization": "extended"}),
    ("onnxruntime", {"optimization": "basic"}),
    ("onnxruntime", {"optimization": "disabled"}),
    ("litert", {}),
    ("litert", {"kernels": "builtin"}),
    ("litert", {"kernels": "reference"}),
    ("reference", {}),
    ("tflite_runtime", {}),
    ("tflite_runtime", {"kernels": "reference"}),
    ("tensorflow", {}),
    ("tensorflow", {"kernels": "builtin"}),
    ("tensorflow", {"kernels": "reference"}),
    ("tflite_micro", {}),
    ("openvino", {}),
    ("tosa", {}),
    ("openvino", {"performance_hint": "throughput"}),
    ("executorch", {}),
]


def marked(name, *more):
    marks = [pytest.mark.slow] if name in (*ELSEWHERE, "executorch") else []
    return pytest.param(name, *more, marks=[*marks, exact_sums] if name == "openvino" else marks)


EACH = pytest.mark.parametrize(
    ("name", "options"),
    [marked(*row) for row in ENGINES],
    ids=lambda v: v if isinstance(v, str) else "-".join(v.values()),
)
NAMES = pytest.mark.parametrize("name", [marked(name) for name in dict(ENGINES)])


def tiny_file(folder, name, **changes):
    if name == "executorch":
        return Path(shutil.copyfile(networks.file("pte"), folder / "t.pte"))
    return tiny.tflite_file(folder / "t.tflite", **changes) if name in TFLITE else tiny.onnx_file(folder / "t.onnx")


def loaded(name, file, options=None, threads=1):
    if name == "executorch":
        executorch.require()
    runtime = Elsewhere(name) if name in ELSEWHERE else engine(name)()
    runtime.load(file, options or {}, threads)
    return runtime


def prepared(runtime, x):
    return prepare(runtime.input, x, Path("file"))


def images(name, n=5):
    return Preproc("nhwc" if name in TFLITE else "nchw")(tiny.pixels(n))


@EACH
def test_outputs_are_those_of_an_independent_computation(tmp_path, name, options):
    runtime, x = loaded(name, tiny_file(tmp_path, name), options), images(name)
    found = runtime.run(prepared(runtime, x))
    if name not in TFLITE:
        import onnx

        model = onnx.load(tiny.onnx_file(tmp_path / "constants.onnx"))
        constants = {c.name: onnx.numpy_helper.to_array(c) for c in model.graph.initializer}
        padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
        windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), (2, 3))
        features = np.einsum("nchwij,ocij->nohw", windows, constants["w"]) + constants["b"][:, None, None]
        expected = np.maximum(features, 0).mean((2, 3)) @ constants["v"]
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
        np.testing.assert_array_equal(real(runtime.output, found), found)
        return
    (sx, zx), (sw, _), (sy, zy) = networks.X, networks.W, networks.Y
    weights, bias = (constant.astype(np.int64) for constant in networks.dense_constants())
    inputs = tiny.pixels(5).reshape(5, -1).astype(np.int64) - 128  # the input's scale is 1 / 255
    steps = ((inputs - zx) @ weights.T + bias) * (sx * sw / sy) + zy
    assert found.dtype == np.int8
    # Half a step of rounding, and the little by which a kernel's fixed-point multiplier is off.
    assert np.abs(found - np.clip(steps, -128, 127)).max() < 0.51
    np.testing.assert_allclose(real(runtime.output, found), (found.astype(float) - zy) * sy, rtol=1e-6)


@EACH
def test_batch_does_not_matter_nor_does_the_order_and_inputs_are_untouched(tmp_path, name, options):
    runtime, x = loaded(name, tiny_file(tmp_path, name), options), images(name, 7)
    before = x.copy()
    own = prepared(runtime, x)
    own_before = own.copy()
    whole = runtime.run(own)
    for batch in (1, 3):
        parts = [runtime.run(own[i : i + batch]) for i in range(0, 7, batch)]  # kept: no run writes into another's
        np.testing.assert_allclose(np.concatenate(parts), whole, rtol=1e-6, atol=1e-6)
    np.testing.assert_array_equal(runtime.run(own), whole)
    np.testing.assert_array_equal(x, before)
    np.testing.assert_array_equal(own, own_before)


@NAMES
def test_a_file_for_one_image_is_called_once_an_image(tmp_path, name):
    free = loaded(name, tiny_file(tmp_path, name))
    if name in TFLITE:
        single = loaded(name, tiny.tflite_file(tmp_path / "one.tflite", free_batch=False))
    else:
        one = tiny_file(tmp_path, name) if name == "executorch" else tiny.onnx_file(tmp_path / "one.onnx", batch=1)
        single = loaded(name, one)
    x = images(name)
    np.testing.assert_allclose(single.run(prepared(single, x)), free.run(prepared(free, x)), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", ["onnxruntime", "reference"])
def test_an_integer_output_of_onnx_keeps_its_integers(tmp_path, name):
    in_float = loaded(name, tiny.onnx_file(tmp_path / "real.onnx")).run(images(name))
    runtime = loaded(name, tiny.onnx_file(tmp_path / "int.onnx", integer_output=True))
    found = runtime.run(images(name))
    expected = np.clip(np.rint(in_float / np.float32(0.05)) + 3, -128, 127)
    assert found.dtype == runtime.output.dtype == np.int8
    assert np.abs(found - expected).max() <= 1
    np.testing.assert_array_equal(real(runtime.output, found), found.astype(np.float32))


@EACH
def test_info_says_what_is_in_force(tmp_path, name, options):
    threads = 1 if name in ("tflite_micro", "tosa") else 2
    info = loaded(name, tiny_file(tmp_path, name), options, threads).info()
    assert all(isinstance(value, str) for value in info.values())
    assert {"version", "kernels", "threads"} <= set(info)
    assert info["threads"] == str(threads)
    if name in TFLITE:
        defaults = {"tflite_runtime": "builtin", "tflite_micro": "reference", "openvino": "integer", "tosa": "tosa"}
        default = defaults.get(name, "xnnpack")
        assert info["kernels"] == options.get("kernels", default)
        assert (int(info.get("delegates", "0")) > 0) == (info["kernels"] == "xnnpack")
    if name == "onnxruntime":
        assert info["provider"] == "CPUExecutionProvider"
        assert info["optimization"] == options.get("optimization", "all")


@NAMES
def test_unknown_options_and_values_are_refused(tmp_path, name):
    file = tiny_file(tmp_path, name)
    with pytest.raises(UserError, match="unknown option 'speed'"):
        loaded(name, file, {"speed": 9})
    known = {"onnxruntime": "optimization", "reference": None, "tflite_micro": None, "openvino": "performance_hint"}
    known |= {"tosa": "accelerator", "executorch": None}
    option = known.get(name, "kernels")
    if option:
        with pytest.raises(UserError, match=f"{option} = 'best': expected one of"):
            loaded(name, file, {option: "best"})


def test_an_option_may_be_a_number_in_a_range():
    known = {"streams": range(4), "hint": ("latency", "throughput")}
    assert check_options({"streams": 3}, known) == {"streams": "3", "hint": "latency"}
    assert check_options({}, known)["streams"] == "0"
    for wrong in (4, -1, "3", True, 1.0):
        with pytest.raises(UserError, match=f"option streams = {wrong!r}: expected 0 to 3"):
            check_options({"streams": wrong}, known)


@pytest.mark.parametrize("name", dict(ENGINES))
def test_the_kernels_of_its_twins_are_those_that_twins_follow(name):
    twins = getattr(engine(name), "twins", {})
    assert {kernels for kernels in twins.values() if kernels} <= {*KERNELS[".tflite"], *TWINS_ELSEWHERE[".tflite"]}


@NAMES
@pytest.mark.parametrize("content", [b"", b"not a network", "cut"], ids=["empty", "text", "cut"])
def test_a_file_that_does_not_load_is_named(tmp_path, name, content):
    file = tiny_file(tmp_path, name)
    file.write_bytes(file.read_bytes()[:100] if content == "cut" else content)
    with pytest.raises(UserError, match=str(file)):
        loaded(name, file)


@NAMES
def test_inputs_of_another_shape_or_dtype_are_refused(tmp_path, name):
    runtime, x = loaded(name, tiny_file(tmp_path, name)), images(name)
    for wrong in (x[:, 1:], x[:, :, :-1], x[0], x.swapaxes(1, 3)):
        with pytest.raises(UserError, match=r"takes inputs .*; check input_size and preproc.layout"):
            prepared(runtime, np.ascontiguousarray(wrong))
    for dtype in (np.uint8, np.float64):
        with pytest.raises(UserError, match="expected float32 inputs"):
            prepared(runtime, x.astype(dtype))


@pytest.mark.parametrize("name", dict(ENGINES))
def test_a_missing_package_says_what_to_install(tmp_path, name, monkeypatch):
    file, found = tiny_file(tmp_path, name), engine(name)
    more = ("tosa_reference_model", "executorch.extension.pybindings")
    for module in (found.package.replace("-", "_"), name, *more):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(UserError, match=rf"pip install {found.package}( \S+)?$"):
        found().load(file, {}, 1)


@pytest.mark.slow
def test_tflite_runtime_refuses_the_delegate_that_leaves_an_integer_file_alone(tmp_path):
    with pytest.raises(UserError, match="kernels 'xnnpack' are not in force: 0 delegates are"):
        loaded("tflite_runtime", tiny_file(tmp_path, "tflite_runtime"), {"kernels": "xnnpack"})


def test_an_unknown_runtime_is_refused_with_those_that_there_are():
    with pytest.raises(
        UserError,
        match="'abacus'; there are dummy, esp_ppq, executorch, litert, nncase, onnxruntime, openvino, qnn, reference, "
        "rknn, rknn_lite, sail, tensorflow, tflite_micro, tflite_runtime, tosa, tpu_mlir",
    ):
        engine("abacus")


def test_reading_the_modules_imports_no_runtime():
    script = (
        "import sys\n"
        "from backends.device.runtimes import engine\n"
        "print([(e.formats, e.package) for e in map(engine, ('litert', 'onnxruntime', 'reference'))])\n"
        "print({'onnx', 'onnxruntime', 'ai_edge_litert'} & set(sys.modules))\n"
    )
    said = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert said.splitlines() == [
        "[(('tflite',), 'ai-edge-litert'), (('onnx',), 'onnxruntime'), (('onnx',), 'onnx')]",
        "set()",
    ]

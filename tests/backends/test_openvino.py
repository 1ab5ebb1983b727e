"""OpenVINO, in an environment of its own: what it computes in float, what it reports, and what it is not told twice."""

import numpy as np
import pytest
from helpers import tiny
from helpers.elsewhere import Elsewhere
from helpers.quantized_onnx import quantized

from backends.device.artifact import Preproc
from backends.device.errors import UserError
from backends.device.runtimes import openvino, prepare

pytestmark = pytest.mark.slow
IN_FLOAT = {"LP_TRANSFORMS_MODE": "NO"}
ALLOWED = {"float_layers": "allowed"}
SME = "processor\t: 0\nFeatures\t: fp asimd sve sme i8mm\nCPU implementer\t: 0x00\n"


def loaded(path, options=None, threads=1):
    runtime = Elsewhere("openvino")
    runtime.load(path, options or {}, threads)
    return runtime


def answers(runtime, path):
    return runtime.run(prepare(runtime.input, Preproc("nchw")(tiny.pixels()), path))


@pytest.fixture(scope="module")
def float_file(tmp_path_factory):
    return tiny.onnx_file(tmp_path_factory.mktemp("float") / "tiny.onnx")


@pytest.fixture(scope="module")
def file(tmp_path_factory, float_file):
    return quantized(tmp_path_factory.mktemp("int8") / "tiny.onnx", float_file)


def test_layers_with_integer_weights_run_in_integers_or_not_at_all(file):
    assert loaded(file).info()["kernels"] == "integer"
    with pytest.raises(UserError, match=r"computes 2 of its 2 layers .* in float; .* float_layers to allowed"):
        loaded(file, IN_FLOAT)
    info = loaded(file, IN_FLOAT | ALLOWED).info()
    assert (info["kernels"], info["LP_TRANSFORMS_MODE"]) == ("float", "NO")
    assert {"1 Convolution f32", "1 FullyConnected f32"} <= set(info["operators"].split(", "))


def test_a_cpu_with_sme_is_refused(file, tmp_path, monkeypatch):
    (tmp_path / "cpuinfo").write_text(SME)
    monkeypatch.setattr(openvino, "CPUINFO", tmp_path / "cpuinfo")
    with pytest.raises(UserError, match="the one CPU with SME that was tried"):
        openvino.Engine().load(file, {}, 1)


@pytest.mark.data
def test_a_file_of_which_it_computes_some_in_float_says_which(data_dir):
    legacy = data_dir / "vendor/mobilenet_v2_1.0_224_quant.tflite"
    with pytest.raises(UserError, match="computes 50 of its 53 layers with integer weights in float"):
        loaded(legacy)
    assert loaded(legacy, ALLOWED).info()["kernels"] == "integer (float: 50 Convolution)"


def test_a_float_file_is_float(float_file, file):
    runtime = loaded(float_file)
    assert runtime.info()["kernels"] == "float"
    off = np.abs(answers(loaded(file, IN_FLOAT | ALLOWED), file) - answers(runtime, float_file))
    assert 0 < off.max() < 0.1


def test_it_says_what_it_ran_on(file):
    info = loaded(file, {"num_streams": 1, "performance_hint": "throughput"}).info()
    assert (info["streams"], info["performance_hint"], info["inference_precision"]) == ("1", "throughput", "f32")
    assert info["device"]
    assert sum(int(part.split()[0]) for part in info["operators"].split(", ")) == sum(
        int(part.split()[0]) for part in info["precisions"].split(", ")
    )


def test_what_is_not_in_force_is_refused(file):
    with pytest.raises(UserError, match=r"runs with threads \d+ on this CPU, asked for 4096"):
        loaded(file, threads=4096)
    with pytest.raises(UserError, match="option num_streams = 'many': expected 0 to 256"):
        loaded(file, {"num_streams": "many"})
    with pytest.raises(UserError, match="ONEDNN_MAX_CPU_ISA is DEFAULT in this process, asked for AVX2"):
        loaded(file, {"ONEDNN_MAX_CPU_ISA": "AVX2"})


def test_an_integer_output_of_onnx_keeps_its_integers(float_file, tmp_path):
    runtime = loaded(tiny.onnx_file(tmp_path / "int.onnx", integer_output=True))
    found = answers(runtime, float_file)
    expected = np.clip(np.rint(answers(loaded(float_file), float_file) / np.float32(0.05)) + 3, -128, 127)
    assert found.dtype == runtime.output.dtype == np.int8
    assert np.abs(found - expected).max() <= 1

"""Images on a runtime, against the runtime called directly."""

import json

import numpy as np
import onnxruntime
import patchbench
import pytest
from helpers import tiny

PIXELS = tiny.pixels(6)


@pytest.fixture
def onnx(tmp_path):
    return tiny.onnx_file(tmp_path / "a file.onnx")


@pytest.fixture
def tflite(tmp_path):
    return tiny.tflite_file(tmp_path / "a file.tflite")


def test_a_float_file_gives_the_runtimes_own_logits_and_no_integers(onnx):
    found = patchbench.replay(onnx, PIXELS, "onnxruntime", timed_runs=0)
    x = PIXELS.transpose(0, 3, 1, 2).astype(np.float32) / np.float32(255)
    (direct,) = onnxruntime.InferenceSession(onnx, providers=["CPUExecutionProvider"]).run(None, {"x": x})
    assert found.logits == pytest.approx(direct, abs=1e-6)
    assert found.logits.dtype == np.float32
    assert (found.integers, found.latency) == (None, None)


def test_integers_are_the_files_own_and_the_environment_says_what_ran(tflite):
    logits, integers, latency, environment = patchbench.replay(str(tflite), PIXELS, runtime="litert", timed_runs=7)
    scale, zero_point = tiny.Y
    assert integers.dtype == np.int8
    assert logits == pytest.approx((integers.astype(np.float32) - zero_point) * np.float32(scale))
    assert len(latency) == 7
    assert (latency > 0).all()
    assert environment["runtime"] == "litert"
    assert {"host", "version", "kernels", "arch", "cpu"} <= set(environment)
    json.dumps(environment)


def test_a_description_beside_the_file_counts_and_may_not_be_contradicted(tflite):
    guessed = patchbench.replay(tflite, PIXELS, "litert", timed_runs=0)
    halved = patchbench.Preproc("nhwc", divisor=510.0)
    given = patchbench.replay(tflite, PIXELS, "litert", timed_runs=0, preproc=patchbench.Preproc(divisor=510.0))
    patchbench.Artifact(
        name="tiny", victim="", format="tflite", precision="w8a8", file=tflite.name, input_size=(tiny.SIZE, tiny.SIZE),
        classes=tiny.CLASSES, sha256=_sha256(tflite), preproc=halved,
    ).save(tflite.with_suffix(".json"))  # fmt: skip
    described = patchbench.replay(tflite, PIXELS, "litert", timed_runs=0)
    assert (described.integers == given.integers).all()
    assert (described.integers != guessed.integers).any()
    with pytest.raises(patchbench.UserError, match="leave preproc out"):
        patchbench.replay(tflite, PIXELS, "litert", preproc=patchbench.Preproc())
    tflite.write_bytes(tflite.read_bytes() + b"\0")
    with pytest.raises(patchbench.UserError, match=r"a file\.json: describes another file than a file\.tflite"):
        patchbench.replay(tflite, PIXELS, "litert")


def test_mistakes_are_one_line(onnx, tmp_path):
    mistakes = {
        "takes images of 8x8 pixels, got 4x8": {"images": PIXELS[:, :4]},
        "no such file": {"file": tmp_path / "absent.onnx"},
        r"ends in \.onnx, \.tflite, \.pte, \.bmodel, \.cvimodel, \.rknn, \.kmodel or \.espdl": {"file": __file__},
        "no runtime named 'onxruntime'; did you mean 'onnxruntime'": {"runtime": "onxruntime"},
        "no host named 'locl'; did you mean 'local'": {"host": "locl"},
        "unknown option 'kernels'; there are optimization": {"options": {"kernels": "xnnpack"}},
        r"a file\.onnx: litert runs tflite, not onnx": {"runtime": "litert"},
        "asks for sparc": {"arch": "sparc"},
    }
    for words, wrong in mistakes.items():
        given = {"file": onnx, "images": PIXELS, "runtime": "onnxruntime", "timed_runs": 0} | wrong
        with pytest.raises(patchbench.UserError, match=words) as caught:
            patchbench.replay(**given)
        assert "\n" not in str(caught.value)


def _sha256(file):
    import hashlib

    return hashlib.sha256(file.read_bytes()).hexdigest()

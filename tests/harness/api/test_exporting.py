"""A module's file, against torch and the runtimes called directly."""

import numpy as np
import patchbench
import pytest
import torch
from helpers import small_networks as small
from torch import nn


@pytest.mark.slow
@pytest.mark.parametrize("format", ["onnx", "tflite"])
def test_a_module_is_exported_with_its_normalisation_and_all_its_images(tmp_path, format):
    torch.manual_seed(0)
    network = small.settled(small.Branches(), small.pixels(64))
    norm = patchbench.Preproc(mean=small.MEAN, std=small.STD)
    artifact = patchbench.export(
        network, small.PIXELS, patchbench.QuantSpec(), tmp_path / f"own.{format}", preproc=norm
    )
    file = tmp_path / artifact.file
    assert artifact.quant.calibration_images == len(small.PIXELS) == 48
    assert patchbench.inspect(file).in_float == ()
    runtime = {"onnx": "onnxruntime", "tflite": "litert"}[format]
    found = patchbench.replay(file, small.PIXELS, runtime, timed_runs=0)
    assert found.logits == pytest.approx(small.file_logits(file, small.PIXELS), abs=1e-5)
    with torch.no_grad():
        mean, std = (torch.tensor(v).reshape(1, 3, 1, 1) for v in (small.MEAN, small.STD))
        x = (small.as_input(small.PIXELS) - mean) / std
        float_logits = network(x).numpy()
    assert np.corrcoef(found.logits.ravel(), float_logits.ravel())[0, 1] > 0.97


@pytest.mark.parametrize(
    ("module", "words"),
    [
        (nn.Sequential().eval(), r"no logits: expected \(1, classes\) for one image, got \(1, 3, 16, 16\)"),
        (nn.Linear(3, 2).eval(), "the module fails on an image of 16x16"),
        (nn.Sequential(nn.Flatten(), nn.Linear(768, 10)), "Sequential: .* call its eval"),
        ("resnet18", "expected a torch module, got a str"),
    ],
)
def test_a_module_that_is_no_classifier_in_eval_mode_is_refused(tmp_path, module, words):
    with pytest.raises(patchbench.UserError, match=words):
        patchbench.export(module, small.PIXELS, patchbench.QuantSpec(), tmp_path / "own.onnx")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("beside", ['{"preproc": {}, "file": "own.tflite"}', "[1, 2]"])
def test_a_description_of_another_file_is_not_overwritten(tmp_path, beside):
    (tmp_path / "own.json").write_text(beside)
    with pytest.raises(patchbench.UserError, match=r"own\.json: is not of own\.onnx, and would be overwritten"):
        patchbench.export(nn.Flatten().eval(), small.PIXELS, None, tmp_path / "own.onnx")
    assert (tmp_path / "own.json").read_text() == beside


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: patchbench.QuantSpec(calibration="minmaxx"), "calibration: expected minmax, .*, got 'minmaxx'"),
        (lambda: patchbench.QuantSpec(allow_float="Gelu"), "allow_float: .* got 'Gelu': put it into a tuple"),
        (lambda: patchbench.Preproc(layout="NHWC"), "layout: expected nchw, nhwc, got 'NHWC'"),
        (lambda: patchbench.Preproc(channel_order="BGR"), "channel_order: expected rgb, bgr, got 'BGR'"),
    ],
)
def test_words_that_nothing_knows_are_refused_at_once(make, words):
    with pytest.raises(patchbench.UserError, match=words):
        make()


def test_a_file_of_another_format_is_refused(tmp_path):
    with pytest.raises(
        patchbench.UserError,
        match=r"own\.pt: expected a file that ends in .* \.bmodel, \.cvimodel, \.rknn, \.kmodel or \.espdl",
    ):
        patchbench.export(nn.Flatten().eval(), small.PIXELS, None, tmp_path / "own.pt")

"""Quantization-aware training, what a suite says of it, and ensembles."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from helpers import small_networks as small
from helpers.command import patchbench
from helpers.plans import plan
from helpers.scales import scales_of, weights_in, weights_of
from helpers.small_networks import FORMATS, PIXELS, SPEC
from helpers.suites import QUICK
from helpers.suites import write as write_suite

from backends.device.artifact import QuantSpec
from backends.device.errors import UserError
from exporters.export import export
from harness import config
from harness.data.datasets import Images
from harness.networks import quantization_aware_training as qat
from harness.networks.victims import logits
from patches.fake_quant.learned import finish, learnable
from patches.fake_quant.network import fake_quantized, folded, learned_weights
from patches.patch import Patch
from patches.surrogates import build

TABLE = config.QatTable(epochs=3, batch=16, learning_rate=0.005)
IMAGES = Images(PIXELS, np.zeros(len(PIXELS), np.int64), tuple(map(str, range(len(PIXELS)))))


pytestmark = pytest.mark.usefixtures("one_thread")


def train(folder: Path, quant: QuantSpec, table: config.QatTable = TABLE, progress=None) -> qat.Trained:
    return qat.train(small.resnet(), quant, IMAGES, PIXELS, table, folder / "checkpoint.pt", progress)


def distance(one: torch.nn.Module, other: torch.nn.Module) -> float:
    return float(np.abs(logits(one, PIXELS) - logits(other, PIXELS)).mean())


def test_training_brings_few_bits_closer_to_float(tmp_path: Path) -> None:
    network, quant = small.resnet(), replace(SPEC, weight_bits=2, activation_bits=2)
    trained = train(tmp_path, quant, replace_table(epochs=12))
    rounded = distance(fake_quantized(network, quant, PIXELS), network)
    assert distance(fake_quantized(network, quant, PIXELS, trained), network) < 0.7 * rounded


def replace_table(**changes) -> config.QatTable:
    return TABLE.model_copy(update=changes)


def test_folding_keeps_what_was_trained_and_its_levels() -> None:
    quant = QuantSpec(3, 32, calibration_images=16)
    student = learnable(small.resnet(), quant, PIXELS)
    with torch.no_grad():
        for parameter in student.parameters():
            parameter += 0.01 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0))
    expected = logits(student.eval(), PIXELS)
    trained = finish(student)
    assert logits(fake_quantized(small.resnet(), quant, PIXELS, trained), PIXELS) == pytest.approx(expected, abs=1e-4)
    for name, steps in trained.weights.items():
        levels = trained.state[name].flatten(1) / steps[:, None]
        assert torch.allclose(levels, levels.round(), atol=1e-3)
        assert levels.abs().max().round() <= 3


class Killed(Exception):
    pass


def test_an_interrupted_training_ends_the_same(tmp_path: Path) -> None:
    quant = replace(SPEC, weight_bits=3, activation_bits=3)
    (tmp_path / "whole").mkdir()
    whole = qat.digest(train(tmp_path / "whole", quant))

    def progress(done: int, of: int, said: str) -> None:
        assert (of, said.split(":")[0]) == (9, f"training at w3a3, epoch {(done - 1) // 3 + 1}")
        if done == 5:
            raise Killed

    with pytest.raises(Killed):
        train(tmp_path, quant, progress=progress)
    told: list[int] = []
    resumed = train(tmp_path, quant, progress=lambda done, *_: told.append(done))
    assert qat.digest(resumed) == whole
    assert told[0] == 4  # goes on after the first whole epoch
    qat.write(resumed, tmp_path)
    assert qat.digest(qat.read(tmp_path)) == whole
    assert qat.digest(train(tmp_path, replace(quant, weight_bits=2))) != whole


def test_a_training_that_diverges_is_said(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="diverged in epoch"):
        train(tmp_path, replace(SPEC, weight_bits=4), replace_table(learning_rate=1e20))
    with pytest.raises(UserError, match="one step per channel"):
        train(tmp_path, replace(SPEC, weight_bits=4, per_channel=False))


@pytest.mark.slow
@pytest.mark.parametrize("format", FORMATS)
def test_learned_steps_come_into_the_file(tmp_path: Path, format: str) -> None:
    quant, network = replace(SPEC, weight_bits=2), small.resnet()
    trained = train(tmp_path, quant)
    made = export(
        folded(network, trained), name="net", victim=small.victim(), format=format, quant=quant,
        calibration_pixels=PIXELS, folder=tmp_path, learned=learned_weights(trained),
    )  # fmt: skip
    path = tmp_path / made.file
    assert {np.abs(values.astype(int)).max() for values, _ in weights_in(path)} == {1}
    graph = fake_quantized(network, quant, PIXELS, trained)
    assert weights_of(path) == pytest.approx(weights_of(graph), abs=1e-5)
    assert np.abs(small.file_logits(path, PIXELS) - logits(graph, PIXELS)).max() <= 4.01 * scales_of(path)[-1]
    with pytest.raises(UserError, match="without learned scales"):
        export(
            network, name="net", victim=small.victim(), format=format, quant=quant, calibration_pixels=PIXELS,
            folder=tmp_path, learned=learned_weights(trained),
        )  # fmt: skip


def test_an_ensemble_is_one_surrogate() -> None:
    members = [small.resnet(), small.branches()]
    ensemble = build("ensemble", [build("float", member) for member in members])
    x = small.as_input(PIXELS)
    expected = torch.stack([member(x).log_softmax(1) for member in members]).mean(0).log_softmax(1)
    assert torch.allclose(ensemble(x).log_softmax(1), expected, atol=1e-5)
    assert not any(parameter.requires_grad for parameter in ensemble.parameters())
    with pytest.raises(UserError, match="need the same classes"):
        build("ensemble", [members[0], small.Around(torch.relu).convolution])(x)


TRAINED = """
[[export]]
format = ["torch", "onnx"]
precision = "w3a8"
[export.qat]
epochs = 1
batch = 16
[[export]]
format = "torch"
precision = ["w4a4", "fp32"]
"""


def suite(surrogates: str) -> str:
    text = QUICK.replace('name = "gap"', f'name = "gap"\nsurrogate = {surrogates}')
    return text.replace(', "moving_average"]', "]").replace("[[attack]]", f"{TRAINED}[[attack]]", 1)


def test_a_suite_names_simulations_and_ensembles(tmp_path: Path) -> None:
    wanted = '["float", "fake_quant:w4a4", "fake_quant:resnet8-onnx-s8s8-minmax", "qat:w3a8:resnet8", '
    made = plan(tmp_path, suite(wanted + '["float", "qat:w3a8", "twin:resnet8-onnx-s8s8-minmax"]]'))
    trained = "resnet8-torch-w3a8-minmax-qat-epochs1-batch16"
    patches = [p for p in made.patches if p.surrogate]
    assert [p.surrogate.made_of for p in patches] == [
        "resnet8",
        "resnet8-torch-w4a4-minmax",
        "resnet8-torch-w8a8-minmax",
        trained,
        f"[float:resnet8+fake_quant:{trained}+twin:resnet8-onnx-s8s8-minmax]",
    ]
    assert [p.surrogate_for("resnet8") for p in patches] == [
        "float",
        "fake_quant:w4a4",
        "fake_quant:resnet8-onnx-s8s8-minmax",
        "qat:w3a8",
        '["float", "qat:w3a8", "twin:resnet8-onnx-s8s8-minmax"]',
    ]
    assert [p.surrogate_for("another") for p in patches][:2] == ["float:resnet8", "fake_quant:w4a4:resnet8"]
    for victim in ("resnet8", "another"):
        words = [p.surrogate_for(victim) for p in patches]
        again = plan(tmp_path, suite(f"[{', '.join(w if w[0] == '[' else repr(w) for w in words)}]"))
        assert [p.key for p in again.patches] == [p.key for p in made.patches], "a suite takes these words"
    assert len({p.name for p in made.patches}) == len({p.key for p in made.patches}) == len(made.patches)
    places = {(c.replay.artifact.name, c.replay.target.name) for c in made.cells}
    assert places == {
        ("resnet8-torch", "torch"), ("resnet8-onnx-s8s8-minmax", "ort"), (trained, "torch"),
        ("resnet8-onnx-s8s3-minmax-qat-epochs1-batch16", "ort"), ("resnet8-torch-w4a4-minmax", "torch"),
    }  # fmt: skip
    (training_step,) = {a.training for a in made.artifacts if a.training}
    assert training_step.name == "resnet8-w3a8-qat-epochs1-batch16"


@pytest.mark.parametrize(
    ("surrogates", "says"),
    [
        ('"qat:w4a4"', "needs one .*found 0"),
        ('"fake_quant:w9a4"', "each 2 to 8, or 32 for float, got 'w9a4'"),
        ('"fake_quant:w4a4:nobody"', "no victim of this suite is named 'nobody'; there is fake_quant:resnet8"),
        ('[["float", "twin:nothing"]]', "no quantized artifact of this suite is named 'nothing'"),
        ('[["float"]]', "at least 2 surrogates"),
    ],
)
def test_what_a_surrogate_lacks_is_said(tmp_path: Path, surrogates: str, says: str) -> None:
    with pytest.raises(UserError, match=says):
        plan(tmp_path, suite(surrogates))


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ('precision = "w4a4"', 'no file has w4a4: give weights of 2 to 8 bits and a8, or format = "torch"'),
        ('precision = ["w8a8", "w32a8"]', "no file has w32a8"),
        ('precision = "w1a8"', "expected fp32, or bits of weights and activations"),
        ("qat = {}\nper_channel = [true, false]", "learns one step per channel"),
    ],
)
def test_what_no_file_can_have_is_said(tmp_path: Path, line: str, says: str) -> None:
    with pytest.raises(UserError, match=says):
        plan(tmp_path, QUICK.replace("[[export]]", f"[[export]]\n{line}"))


@pytest.mark.slow
def test_a_run_has_rows_for_simulations(quick: Path, tmp_path: Path) -> None:
    shutil.copytree(quick / "out/quick/store", tmp_path / "out/quick/store")
    done = patchbench("run", write_suite(tmp_path, suite('[["float", "fake_quant:w4a4"]]')), cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    cells = pd.read_csv(tmp_path / "out" / "quick" / "cells.csv", keep_default_na=False)
    assert set(cells["surrogate"][cells["attack"] == "gap"]) == {'["float", "fake_quant:w4a4"]'}
    assert set(zip(cells["format"], cells["precision"], strict=True)) == {
        ("torch", "fp32"), ("torch", "w3a8"), ("torch", "w4a4"), ("onnx", "w8a8"), ("onnx", "w3a8"),
    }  # fmt: skip
    made = set(zip(cells["precision"], cells["granularity"], strict=True))
    assert made == {
        ("fp32", ""), ("w8a8", "per_channel"), ("w4a4", "per_channel"), ("w3a8", "per_channel_qat-epochs1-batch16"),
    }  # fmt: skip
    patch = Patch.read(next((tmp_path / "out" / "quick" / "patches").glob("gap*.npz")))
    assert patch.surrogate == '["float:resnet8", "fake_quant:w4a4:resnet8"]'
    clean = cells[cells["attack"] == "none"].set_index(["format", "precision"])["clean_accuracy"]
    assert abs(clean["torch", "w3a8"] - clean["onnx", "w3a8"]) <= 0.05
    again = patchbench("run", tmp_path / "suite.toml", cwd=tmp_path)
    assert "nothing to do" in again.stdout

"""Weights outside the flatbuffer of a TFLite file: found, moved inside, and the same integers come out."""

from pathlib import Path

import numpy as np
import pytest
import torch
from ai_edge_litert import schema_py_generated as tfl
from ai_edge_litert.interpreter import Interpreter, OpResolverType
from flatbuffers import Builder
from helpers import small_networks as small
from helpers import tiny
from helpers.command import patchbench
from helpers.tflite_networks import with_weights_outside
from rich.console import Console
from torch import nn

from backends.device.errors import UserError
from backends.device.reading import DamagedFile
from exporters.files import describe
from exporters.files.tflite import read
from exporters.files.tflite_buffers import inside
from harness.cli.inspect import print_file

KERNELS = ("BUILTIN", "BUILTIN_WITHOUT_DEFAULT_DELEGATES", "BUILTIN_REF")


def answers(file: Path) -> list[np.ndarray]:
    """LiteRT's integers for five random images, by each of its kernels."""
    found = []
    for kernels in KERNELS:
        interpreter = Interpreter(
            str(file), num_threads=1, experimental_op_resolver_type=getattr(OpResolverType, kernels)
        )
        interpreter.allocate_tensors()
        (entry,), (end,) = interpreter.get_input_details(), interpreter.get_output_details()
        rng = np.random.default_rng(0)
        for _ in range(5):
            interpreter.set_tensor(entry["index"], rng.integers(-128, 128, entry["shape"], np.int8))
            interpreter.invoke()
            found.append(interpreter.get_tensor(end["index"]))
    return found


def places(file: Path) -> list[int]:
    """Where the bytes of each buffer inside the flatbuffer begin."""
    model = tfl.Model.GetRootAs(file.read_bytes(), 0)
    buffers = [model.Buffers(i) for i in range(model.BuffersLength())]
    return [b._tab.Vector(b._tab.Offset(4)) for b in buffers if not b.DataIsNone()]


def test_weights_outside_are_moved_inside_aligned_and_compute_the_same(tmp_path):
    file = tiny.tflite_file(tmp_path / "tiny.tflite")
    outside = with_weights_outside(file, tmp_path / "outside.tflite")
    moved = tmp_path / "moved.tflite"
    moved.write_bytes(inside(outside))
    assert [describe(path).outside for path in (file, outside, moved)] == [0, 2, 0]
    assert len(places(moved)) == 2
    assert all(place % 16 == 0 for place in places(moved))
    for before, after in zip(describe(file).operators, describe(moved).operators, strict=True):
        assert before == after
        assert [t.values.tolist() for t in before.inputs[1:]] == [t.values.tolist() for t in after.inputs[1:]]
    assert np.array_equal(answers(file), answers(moved))
    assert np.array_equal(answers(outside), answers(moved))


def test_inspect_says_that_weights_lie_outside_and_what_to_do(tmp_path):
    outside = with_weights_outside(tiny.tflite_file(tmp_path / "tiny.tflite"), tmp_path / "outside.tflite")
    for file, says in ((tmp_path / "tiny.tflite", False), (outside, True)):
        out = Console(width=500, record=True)
        print_file(file, out)
        assert ("constants outside the flatbuffer: 2; " in out.export_text()) == says


@pytest.mark.slow
def test_inspect_writes_a_copy_with_the_weights_inside(tmp_path):
    outside = with_weights_outside(tiny.tflite_file(tmp_path / "tiny.tflite"), tmp_path / "outside.tflite")
    done = patchbench("inspect", outside.name, "--inside", "copies/inside.tflite", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "copies" / "inside.tflite").read_bytes() == inside(outside)
    refused = patchbench("inspect", tiny.onnx_file(tmp_path / "tiny.onnx").name, "--inside", "x.tflite", cwd=tmp_path)
    assert refused.returncode == 2
    assert "tiny.onnx: expected a TFLite file" in refused.stderr


def test_weights_beyond_the_end_are_a_damaged_file(tmp_path):
    outside = with_weights_outside(tiny.tflite_file(tmp_path / "tiny.tflite"), tmp_path / "outside.tflite")
    outside.write_bytes(outside.read_bytes()[:-200])
    with pytest.raises(DamagedFile, match=r"outside\.tflite: a damaged TFLite file"):
        inside(outside)


def test_more_than_a_flatbuffer_holds_is_refused_by_name(tmp_path):
    file = tiny.tflite_file(tmp_path / "tiny.tflite")
    model, _ = read(file)
    model.buffers[1].data = None
    model.buffers[1].offset, model.buffers[1].size = 4096, 3 << 30
    builder = Builder(1024)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    file.write_bytes(builder.Output())
    with pytest.raises(UserError, match=r"tiny\.tflite: 3\.0 GB of weights, but .* holds less than 2 GB"):
        inside(file)


@pytest.mark.slow
def test_an_export_has_its_weights_inside_and_computes_what_the_quantizer_wrote(tmp_path, monkeypatch):
    torch.manual_seed(0)
    wide = [nn.Conv2d(3, 64, 3), nn.ReLU(), nn.Conv2d(64, 512, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    network = nn.Sequential(*wide, nn.Linear(512, 10)).eval()
    ours = small.write(tmp_path / "ours", network, "tflite")
    monkeypatch.setattr("exporters.tflite.leaky_in_integers", Path.read_bytes)
    theirs = small.write(tmp_path / "theirs", network, "tflite")
    assert describe(theirs).outside > 0, "ai-edge-quantizer writes no weights outside any more: is the module needed?"
    assert describe(ours).outside == 0
    assert all(place % 16 == 0 for place in places(ours))
    assert np.array_equal(answers(ours), answers(theirs))


@pytest.mark.slow
@pytest.mark.parametrize("quant", [None, small.SPEC])
def test_small_exports_are_aligned_too(exported, quant):
    assert all(place % 16 == 0 for place in places(exported("resnet", "tflite", quant)))

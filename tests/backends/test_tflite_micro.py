"""TFLite Micro, in an environment of its own: what it refuses, what it reports, and where it rounds as LiteRT does."""

from pathlib import Path

import numpy as np
import pytest
from helpers import tiny
from helpers.elsewhere import Elsewhere
from helpers.tflite_networks import with_weights_outside

from backends.device.artifact import Preproc
from backends.device.errors import UserError
from backends.device.runtimes import litert, prepare
from exporters.files import describe
from exporters.files.tflite_buffers import inside
from exporters.files.tflite_cut import cut

pytestmark = pytest.mark.slow
# steps that an operator may be off: dense layers round twice where LiteRT's reference kernels round once
OFF = {"CONV_2D": 0, "ADD": 0, "AVERAGE_POOL_2D": 0, "FULLY_CONNECTED": 1}


@pytest.fixture
def file(tmp_path):
    return tiny.tflite_file(tmp_path / "tiny.tflite")


def loaded(path, threads=1):
    micro = Elsewhere("tflite_micro")
    micro.load(path, {}, threads)
    return micro


def prepared(runtime, pixels, divisor=255):
    return prepare(runtime.input, Preproc("nhwc", divisor)(pixels), Path("file"))


def test_threads_that_it_does_not_have_are_refused(file):
    with pytest.raises(UserError, match="computes on one thread, asked for 2: set threads to 1"):
        loaded(file, threads=2)


def test_weights_that_it_would_not_read_are_refused_and_read_once_inside(file, tmp_path):
    outside = with_weights_outside(file, tmp_path / "outside.tflite")
    with pytest.raises(
        UserError, match=r"2 constants lie outside .* `patchbench inspect outside\.tflite --inside COPY`"
    ):
        loaded(outside)
    outside.write_bytes(inside(outside))
    before, moved = loaded(file), loaded(outside)
    x = prepared(before, tiny.pixels())
    np.testing.assert_array_equal(moved.run(x), before.run(x))


def test_it_says_how_much_memory_a_network_takes(file):
    found = int(loaded(file).info()["arena_bytes"])
    assert tiny.pixels(1).nbytes < found < 20 * tiny.pixels(1).nbytes
    assert found % 16 == 0


@pytest.mark.data
def test_legacy_uint8_files_are_refused_by_one_line(data_dir):
    with pytest.raises(UserError, match=r"224_quant\.tflite: its weights are uint8, .* take int8"):
        loaded(data_dir / "vendor/mobilenet_v2_1.0_224_quant.tflite")


@pytest.mark.data
def test_it_computes_what_the_reference_kernels_do_but_in_dense_layers(data_dir, tmp_path):
    vendors = data_dir / "vendor/mlperf_tiny_resnet8_int8.tflite"
    with np.load(data_dir / "cifar10/cifar10.npz") as arrays:
        pixels = arrays["x_test"][:50]
    last = {o.name: o.outputs[0].name for o in describe(vendors).operators if o.name in OFF}
    assert last.keys() == OFF.keys()
    for name, output in last.items():
        cut(vendors, output, tmp_path / "cut.tflite")
        micro, reference = loaded(tmp_path / "cut.tflite"), litert.Engine()
        reference.load(tmp_path / "cut.tflite", {"kernels": "reference"}, 1)
        x = prepared(micro, pixels, divisor=1)
        steps = np.abs(micro.run(x).astype(int) - reference.run(x))
        assert steps.max() <= OFF[name], name
        assert (steps > 0).mean() < 0.05

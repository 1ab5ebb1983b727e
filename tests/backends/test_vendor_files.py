"""LiteRT runs vendors' files as their makers say: their accuracy on real images, from raw pixels."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from backends.device.artifact import Preproc
from backends.device.runtimes import engine, prepare, real

RESNET8 = Preproc("nhwc", divisor=1)


def loaded(file, options=(), threads=1):
    runtime = engine("litert")()
    runtime.load(file, dict(options), threads)
    return runtime


@pytest.fixture(scope="module")
def cifar(data_dir):
    with np.load(data_dir / "cifar10/cifar10.npz") as arrays:
        return arrays["x_test"], arrays["y_test"]


@pytest.mark.data
@pytest.mark.parametrize("kernels", ["xnnpack", "builtin"])
def test_mlperf_tiny_reaches_its_accuracy_and_batches_change_no_integer(data_dir, cifar, kernels):
    file, (pixels, labels) = data_dir / "vendor/mlperf_tiny_resnet8_int8.tflite", cifar
    runtime = loaded(file, {"kernels": kernels})
    x = prepare(runtime.input, RESNET8(pixels), file)
    np.testing.assert_array_equal(x, (pixels.astype(int) - 128).astype(np.int8))  # as its makers feed it
    found = runtime.run(x)
    assert abs((found.argmax(1) == labels).mean() - 0.878) <= 0.003
    singles = [runtime.run(x[i : i + 1]) for i in range(200)]
    np.testing.assert_array_equal(np.concatenate(singles), found[:200])
    np.testing.assert_allclose(real(runtime.output, found).sum(1), 1, atol=0.03)  # a softmax, in steps of 1/256


@pytest.mark.data
def test_the_kernels_asked_for_are_other_kernels(data_dir, cifar):
    file = data_dir / "vendor/mlperf_tiny_resnet8_int8.tflite"
    found = {}
    for kernels in ("xnnpack", "builtin", "reference"):
        runtime = loaded(file, {"kernels": kernels})
        found[kernels] = runtime.run(prepare(runtime.input, RESNET8(cifar[0][:100]), file)).astype(int)
    for a, b in (("xnnpack", "builtin"), ("xnnpack", "reference"), ("builtin", "reference")):
        assert (found[a] != found[b]).any()
        assert (found[a].argmax(1) == found[b].argmax(1)).mean() > 0.9


# Facts of the vendor's files: size, top-1 on all 1000 images, and what turns raw RGB into their input.
MOBILENETS = {
    "mobilenet_v1_0.25_128_quant": (128, 0.461, Preproc("nhwc", 1, (128,) * 3, (128,) * 3)),
    "mobilenet_v2_1.0_224_quant": (224, 0.887, Preproc("nhwc", 1, (128,) * 3, (128,) * 3)),
    "tf2_mobilenet_v2_1.0_224_ptq": (224, 0.893, Preproc("nhwc", 1, (127,) * 3, (127.5,) * 3)),
}


@pytest.mark.data
@pytest.mark.slow
@pytest.mark.parametrize("name", MOBILENETS)
def test_the_vendors_mobilenets_reach_their_accuracy(data_dir, name):
    size, accuracy, preproc = MOBILENETS[name]
    files = sorted((data_dir / "imagenet/images").glob("*.JPEG"))
    runtime = loaded(data_dir / f"vendor/{name}.tflite", threads=2)
    right = []
    for label, file in enumerate(files):
        pixels = _cropped(file, size)
        x = prepare(runtime.input, preproc(pixels), file)
        np.testing.assert_array_equal(x, pixels)  # raw RGB, as its makers feed it
        right.append(runtime.run(x).argmax() == label + 1)
    assert abs(np.mean(right) - accuracy) <= 0.01  # filter and rounding of the resizing move it by .005


def _cropped(file: Path, size: int) -> np.ndarray:
    image = Image.open(file).convert("RGB")
    scale = round(size / 0.875) / min(image.size)
    image = image.resize([round(side * scale) for side in image.size], Image.Resampling.BICUBIC)
    left, top = ((side - size) // 2 for side in image.size)
    return np.asarray(image.crop((left, top, left + size, top + size)))[None]

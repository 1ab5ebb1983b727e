"""Ranges against onnxruntime's and ai-edge-quantizer's own code, integers against their formulas."""

import tracemalloc

import numpy as np
import pytest
from ai_edge_quantizer import qtyping
from ai_edge_quantizer.algorithms.uniform_quantize.uniform_quantize_tensor import tensor_zp_scale_from_min_max
from ai_edge_quantizer.utils.qsv_utils import moving_average_update
from helpers.small_networks import pixels
from hypothesis import assume, given
from hypothesis import strategies as st
from onnxruntime.quantization.quant_utils import compute_scale_zp

from backends.device.artifact import QuantSpec
from backends.device.errors import UserError
from exporters.calibration import activation_affine, batches, collector, require_spans, weight_scales

ENDS = st.floats(-1e4, 1e4, width=32)


def activations(n: int = 20, seed: int = 0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.normal(size=(1, 8, 10, 10)).astype(np.float32) * (1 + i % 3) for i in range(n)]


def ranges(spec: QuantSpec, tensors: list[np.ndarray]) -> tuple[float, float]:
    statistic = collector(spec)
    for values in tensors:
        statistic.feed({"x": values})
    return statistic.ranges()["x"]


def test_minmax_keeps_the_extremes_of_all_batches():
    tensors = activations()
    assert ranges(QuantSpec(calibration="minmax"), tensors) == (np.min(tensors), np.max(tensors))


@pytest.mark.parametrize("constant", [0.95, 0.5])
def test_moving_average_is_that_of_ai_edge_quantizer(constant):
    tensors = activations()
    theirs: dict[str, np.ndarray] = {}
    for values in tensors:
        theirs = moving_average_update(theirs, {"min": values.min(), "max": values.max()}, constant)
    ours = ranges(QuantSpec(calibration="moving_average", moving_average_constant=constant), tensors)
    assert ours == pytest.approx((theirs["min"], theirs["max"]), rel=1e-5)
    assert ours != pytest.approx(ranges(QuantSpec(), tensors), rel=0.01)


@pytest.mark.parametrize("percentile", [99.0, 99.9, 100.0])
def test_percentile_leaves_out_half_of_the_rest_at_either_end(percentile):
    values = np.random.default_rng(1).normal(size=200_000).astype(np.float32)
    low, high = ranges(QuantSpec(calibration="percentile", percentile=percentile), [values])
    cut = (100 - percentile) / 2
    bin_width = 2 * float(np.abs(values).max()) / 2048
    assert (low, high) == pytest.approx(tuple(np.percentile(values, [cut, 100 - cut])), abs=4 * bin_width)


def test_entropy_lets_a_lone_outlier_go():
    rng = np.random.default_rng(2)
    tensors = [rng.normal(size=20_000).astype(np.float32) for _ in range(5)]
    tensors.append(np.array([30.0, *rng.normal(size=20_000)], np.float32))
    assert ranges(QuantSpec(calibration="entropy"), tensors)[1] < 15


def test_symmetric_percentile_is_of_the_magnitude():
    values = np.random.default_rng(3).normal(size=100_000).astype(np.float32) + 1
    low, high = ranges(QuantSpec(calibration="percentile", percentile=99.0, symmetric_activations=True), [values])
    assert high == pytest.approx(np.percentile(np.abs(values), 99), abs=0.01)
    assert low >= -high


@pytest.mark.parametrize("calibration", ["minmax", "moving_average", "percentile", "entropy"])
def test_memory_does_not_grow_with_the_images(calibration):
    statistic = collector(QuantSpec(calibration=calibration))
    rng = np.random.default_rng(4)
    statistic.feed({"x": rng.normal(size=250_000).astype(np.float32)})
    tracemalloc.start()
    for _ in range(30):
        statistic.feed({"x": rng.normal(size=250_000).astype(np.float32)})
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held < 250_000  # one of thirty megabytes


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("calibration", ["minmax", "entropy"])
def test_values_that_are_no_numbers_are_named(calibration, value):
    with pytest.raises(UserError, match="'x' is infinite or NaN"):
        collector(QuantSpec(calibration=calibration)).feed({"x": np.array([1, value], np.float32)})


def test_batches_are_the_first_images_and_too_few_are_an_error():
    images = pixels(10)
    parts = list(batches(images, QuantSpec(calibration_images=7, calibration_batch=3)))
    assert [len(p) for p in parts] == [3, 3, 1]
    assert np.array_equal(np.concatenate(parts), images[:7])
    with pytest.raises(UserError, match="needs 11 images, got 10"):
        list(batches(images, QuantSpec(calibration_images=11)))


@given(low=ENDS, high=ENDS, signed=st.booleans())
def test_integers_are_those_of_both_quantizers(low, high, signed):
    assume(max(high, 0) - min(low, 0) > 1e-3)
    low, high = min(low, high), max(low, high)
    affine = activation_affine("x", (low, high), QuantSpec(activation_signed=signed))
    dtype = np.int8 if signed else np.uint8
    limits = np.array([np.iinfo(dtype).min, np.iinfo(dtype).max], dtype)
    zero_point, scale = compute_scale_zp(np.float32(low), np.float32(high), *limits)
    assert affine.scale == pytest.approx(float(scale), rel=1e-6)
    assert affine.zero_point == int(zero_point)
    granularity = qtyping.QuantGranularity.TENSORWISE
    ends = (np.array([[low]]), np.array([[high]]))
    zero_point, scale = tensor_zp_scale_from_min_max(*ends, 8, False, granularity, signed=signed)
    assert affine.scale == pytest.approx(scale.item(), rel=1e-6)
    assert affine.zero_point == zero_point.item()


@given(low=ENDS, high=ENDS)
def test_symmetric_integers_have_zero_in_the_middle(low, high):
    assume(max(abs(low), abs(high)) > 1e-3)
    span = (min(low, high), max(low, high))
    signed = activation_affine("x", span, QuantSpec(symmetric_activations=True))
    unsigned = activation_affine("x", span, QuantSpec(symmetric_activations=True, activation_signed=False))
    assert signed == (max(abs(low), abs(high)) / 127, 0)
    assert unsigned == (signed.scale, 128)


@given(low=ENDS, high=ENDS, signed=st.booleans())
def test_zero_is_an_integer_and_the_ends_are_within_half_a_step(low, high, signed):
    assume(max(high, 0) - min(low, 0) > 1e-3)
    low, high = min(low, high, 0), max(low, high, 0)
    scale, zero_point = activation_affine("x", (low, high), QuantSpec(activation_signed=signed))
    least = -128 if signed else 0
    assert least <= zero_point <= least + 255
    assert (least - zero_point) * scale == pytest.approx(low, abs=0.51 * scale)
    assert (least + 255 - zero_point) * scale == pytest.approx(high, abs=0.51 * scale)


def test_a_constant_activation_is_an_error():
    with pytest.raises(UserError, match="is the network trained"):
        require_spans({"x": (0.0, 1e-9)})
    with pytest.raises(UserError, match="'x' is always 0, no range for integers"):
        activation_affine("x", (0.0, 0.0), QuantSpec())


def test_a_constant_may_be_as_small_as_an_epsilon():
    assert activation_affine("epsilon", (1e-6, 1e-6), QuantSpec()).scale == pytest.approx(1e-6 / 255)


@pytest.mark.parametrize("axis", [None, 0, 3])
def test_the_largest_weight_becomes_127(axis):
    weights = np.random.default_rng(5).normal(size=(6, 3, 3, 4)).astype(np.float32)
    scales = weight_scales(weights, axis)
    spread = scales.reshape([-1 if i == axis else 1 for i in range(4)])
    others = tuple(i for i in range(4) if i != axis) if axis is not None else None
    assert np.array_equal(np.rint(np.abs(weights) / spread).max(axis=others).ravel(), np.full(scales.size, 127))

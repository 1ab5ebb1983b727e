"""Layer by layer: similarities against closed forms, cut files against runtimes that show their inner tensors."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pandas as pd
import pytest
from ai_edge_litert.interpreter import Interpreter, OpResolverType
from helpers import small_networks as small
from helpers.small_networks import FORMATS, PIXELS, SPEC
from scipy.stats import ortho_group
from typer.testing import CliRunner

from backends.device.errors import UserError
from backends.device.runtimes import engine, prepare
from exporters.files import describe, onnx_cut
from harness.cli.app import app
from harness.study.lib import readings
from harness.study.lib.estimates import mean
from harness.study.lib.layers import LOGITS, MOST, choose, find
from harness.study.lib.readings import Reading
from harness.study.lib.similarity import cka, cosines, gram, relative_norms
from patches.fake_quant.graph import describe as describe_graph
from patches.fake_quant.network import Grid, fake_quantized, folded

RNG = np.random.default_rng(0)


def by_hsic(x: np.ndarray, y: np.ndarray) -> float:
    """Return CKA by its definition: HSIC with explicit centring matrices (Kornblith et al. 2019, eq. 3 and 4)."""
    h = np.eye(len(x)) - 1 / len(x)

    def hsic(a: np.ndarray, b: np.ndarray) -> float:
        return float(np.trace(a @ a.T @ h @ b @ b.T @ h)) / (len(x) - 1) ** 2

    return hsic(x, y) / np.sqrt(hsic(x, x) * hsic(y, y))


def test_cka_is_that_of_its_definition_and_of_features_by_features() -> None:
    x = RNG.normal(size=(30, 40)) + 3
    y = x @ RNG.normal(size=(40, 7)) + RNG.normal(size=(30, 7))
    found = cka(gram(x), gram(y)).value
    a, b = x - x.mean(0), y - y.mean(0)
    frobenius = np.linalg.norm  # the form over features: ||Y'X||^2 / (||X'X|| ||Y'Y||)
    assert found == pytest.approx(by_hsic(x, y), rel=1e-5)
    assert found == pytest.approx(frobenius(b.T @ a) ** 2 / frobenius(a.T @ a) / frobenius(b.T @ b), rel=1e-5)


def test_cka_of_one_feature_each_is_the_squared_correlation() -> None:
    x, y = np.array([[0.0], [1.0], [2.0]]), np.array([[0.0], [2.0], [1.0]])
    assert cka(gram(x), gram(y)).value == pytest.approx(0.25)  # of correlation 1/2, by hand


def test_cka_is_blind_to_rotation_and_scale_and_to_nothing_else() -> None:
    x = RNG.normal(size=(25, 12))
    rotated = -3.7 * x @ ortho_group.rvs(12, random_state=0) + 5
    assert cka(gram(x), gram(rotated)) == pytest.approx((1, 1, 1), abs=1e-5)
    assert cka(gram(x), gram(x @ np.diag(np.arange(12)))).value < 0.95
    assert np.isnan(cka(gram(x), gram(np.ones((25, 3)))).value)


def test_leaving_an_image_out_is_leaving_it_out() -> None:
    x, y = RNG.normal(size=(12, 5)), RNG.normal(size=(12, 6))
    y[:, :5] += x
    every = cka(gram(x), gram(y))
    without = np.array([by_hsic(np.delete(x, i, 0), np.delete(y, i, 0)) for i in range(12)])
    pseudo = 12 * every.value - 11 * without
    assert every.high - every.value == pytest.approx(2.200985 * pseudo.std(ddof=1) / np.sqrt(12), rel=1e-3)


def test_intervals_cover_what_other_images_give() -> None:
    """This holds even with far more features than images, where a bootstrap over images would pull CKA towards 1."""
    mixed = RNG.normal(size=(400, 20)) / 5

    def drawn(n: int) -> tuple[np.ndarray, np.ndarray]:
        common = RNG.normal(size=(n, 20)) * np.linspace(0.2, 2, 20)
        return common, np.tanh(common @ mixed.T) + 0.3 * RNG.normal(size=(n, 400))

    truth = np.mean([cka(gram(x), gram(y)).value for x, y in (drawn(60) for _ in range(300))])
    found = [cka(gram(x), gram(y)) for x, y in (drawn(60) for _ in range(300))]
    assert 0.9 <= np.mean([one.low <= truth <= one.high for one in found]) <= 0.99
    means = [mean(RNG.normal(1, 2, 20)) for _ in range(500)]
    assert 0.92 <= np.mean([one.low <= 1 <= one.high for one in means]) <= 0.98


def test_cosine_and_norm_are_by_image_and_zero_has_none() -> None:
    a, b = np.array([[3.0, 4.0], [1.0, 0.0], [1.0, 1.0]]), np.array([[3.0, 0.0], [0.0, 2.0], [0.0, 0.0]])
    assert cosines(a, b).tolist() == pytest.approx([0.6, 0, np.nan], nan_ok=True)
    assert relative_norms(a, b).tolist() == pytest.approx([4 / 3, np.sqrt(5) / 2, np.nan], nan_ok=True)
    assert mean(cosines(a, b)).value == pytest.approx(0.3)


def test_saturated_is_at_an_end_that_is_not_zero() -> None:
    raw = np.array([[-128, -128, 0, 127]], np.int8)
    assert Reading(raw, Grid(0.1, 0, 255), -128).saturated == 0.25
    assert Reading(raw, Grid(0.1, -128, 127), 0).saturated == 0.75
    assert Reading(raw, Grid(0.1, 0, 255), -128).values.ravel().tolist() == pytest.approx([0, 0, 12.8, 25.5])
    assert np.isnan(Reading(raw.astype(np.float32), None).saturated)


def test_layers_lie_between_blocks() -> None:
    described = describe_graph(folded(small.resnet()))
    names = [layer.name for layer in choose(described)]
    assert names == ["into layer1.0.conv1", "into layer2.0.conv1", "into layer3.0.conv1", "into linear", LOGITS]
    deep = choose(describe_graph(folded(small.build("resnet56", 10, 0).eval())))
    assert len(deep) == MOST + 1
    assert deep[0].tensor == "relu"
    assert deep[-2].name == "into linear"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnet", "branches"])
@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("quant", [None, SPEC])
def test_a_cut_file_gives_to_the_bit_what_the_whole_file_has_there(name, format, quant, exported, tmp_path) -> None:
    network = getattr(small, name)()
    path = exported(name, format, quant)
    graph = folded(network)
    layers = choose(described := describe_graph(graph))
    seen, shapes = readings.of_torch(graph, layers, described, PIXELS)
    simulation = fake_quantized(network, SPEC, PIXELS) if quant else graph
    rounded, _ = readings.of_torch(simulation, layers, described, PIXELS)
    places = find(layers, describe(path), described)
    within = {"onnx": extra_outputs, "tflite": preserved}[format](path, [places[one.name].tensor for one in layers])
    for layer in layers:
        place = places[layer.name]
        file = path if layer.name == LOGITS else tmp_path / f"cut.{format}"
        if layer.name != LOGITS:
            readings.cut(path, place, file)
        raw = run(file, format, {"kernels": "builtin"} if format == "tflite" else {})
        assert raw.dtype == within[place.tensor].dtype
        assert np.array_equal(raw, within[place.tensor])
        ours = Reading(readings.in_torchs_order(raw, shapes[layer.name], format, ""), place.grid, place.zero_point)
        assert cosines(ours.values, seen[layer.name].values).min() > (0.97 if quant else 0.99999)
        grid = rounded[layer.name].grid
        assert (grid is None) == (quant is None)
        if grid and place.grid:
            assert place.grid == (pytest.approx(grid.step, rel=1e-4), grid.low, grid.high)
            steps = np.abs(ours.values - rounded[layer.name].values) / grid.step
            assert np.mean(steps < 2.5) > 0.95  # the builtin kernels round twice in each layer
            assert abs(ours.saturated - rounded[layer.name].saturated) < 0.02


def run(file: Path, format: str, options: dict[str, str]) -> np.ndarray:
    runtime = engine({"onnx": "onnxruntime", "tflite": "litert"}[format])()
    runtime.load(file, options, 1)
    x = PIXELS.astype(np.float32) / np.float32(255)
    x = np.ascontiguousarray(x.transpose(0, 3, 1, 2)) if format == "onnx" else x
    return np.asarray(runtime.run(prepare(runtime.input, x, file)))


def preserved(path: Path, tensors: list[str]) -> dict[str, np.ndarray]:
    """Return the values that LiteRT's builtin kernels leave in the tensors of a whole file."""
    interpreter = Interpreter(
        str(path),
        experimental_preserve_all_tensors=True,
        experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
    )
    interpreter.allocate_tensors()
    (entry,) = interpreter.get_input_details()
    index = {d["name"]: d["index"] for d in interpreter.get_tensor_details()}
    rows: dict[str, list[np.ndarray]] = {name: [] for name in tensors}
    for image in PIXELS:
        x = image[None].astype(np.float32) / np.float32(255)
        if entry["dtype"] == np.int8:
            x = (image[None].astype(np.int16) - 128).astype(np.int8)  # of a step of 1/255
        interpreter.set_tensor(entry["index"], x)
        interpreter.invoke()
        for name in tensors:
            rows[name].append(interpreter.get_tensor(index[name]).ravel())
    return {name: np.array(found) for name, found in rows.items()}


def extra_outputs(path: Path, tensors: list[str]) -> dict[str, np.ndarray]:
    """Return onnxruntime's values of a whole file's tensors, declared as extra outputs."""
    model = onnx.shape_inference.infer_shapes(onnx.load(path))
    known = {value.name: value for value in model.graph.value_info}
    model.graph.output.extend(known[name] for name in tensors if name in known)
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.qdqisint8allowed", "1")
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    found = session.run(tensors, {"pixels": small.as_input(PIXELS).numpy()})
    return {name: values.reshape(len(PIXELS), -1) for name, values in zip(tensors, found, strict=True)}


def test_a_file_of_another_network_and_a_tensor_that_is_not_there_are_errors(exported, tmp_path: Path) -> None:
    path = exported("branches", "onnx")
    described = describe_graph(folded(small.resnet()))
    with pytest.raises(UserError, match="differ in shape"):
        find(choose(described), describe(path), described)
    with pytest.raises(UserError, match="no tensor named 'elsewhere'"):
        onnx_cut.cut(path, "elsewhere", tmp_path / "cut.onnx")


def test_of_many_features_the_same_are_chosen() -> None:
    wide = np.arange(2 * readings.FEATURES)[None] * np.ones((2, 1))
    assert readings.thinned(wide).shape == (2, readings.FEATURES)
    assert np.array_equal(readings.thinned(wide), readings.thinned(wide))
    assert np.array_equal(readings.thinned(wide[:, :9]), wide[:, :9])


SUITE = """
schema = 1
name = "features"
[data]
name = "digits"
calibration = 32
craft = 64
evaluate = 40
[[victim]]
name = "resnet8"
model = "resnet8"
train = { epochs = 2 }
[[export]]
format = ["onnx", "tflite"]
[[export]]
format = "onnx"
precision = "fp32"
[[export]]
format = "torch"
precision = ["w8a8", "w3a3"]
[[attack]]
name = "gap"
target_classes = [3]
pixels = 8
options = { steps = 20 }
[[target]]
name = "ort"
runtime = "onnxruntime"
[[target]]
name = "litert"
runtime = "litert"
[study]
analyses = "features"
images = 40
"""


@pytest.mark.slow
def test_features_of_networks_and_devices_fit_together(tmp_path: Path) -> None:
    (tmp_path / "suite.toml").write_text(SUITE)
    done = CliRunner().invoke(app, ["study", str(tmp_path / "suite.toml"), "--out", str(tmp_path / "out")])
    assert done.exit_code == 0, done.output
    table = pd.read_csv(tmp_path / "out/study/features.csv")
    table["artifact"] = table["artifact"].str.removeprefix("resnet8-")
    files = ["onnx-s8s8-minmax", "tflite-s8s8-minmax"]
    assert "error" not in table or table["error"].isna().all()
    assert set(table["artifact"]) == {"torch", "onnx-fp32", "torch-w8a8-minmax", "torch-w3a3-minmax", *files}
    assert (table["n"] == 40).all()
    assert table["saturated"].isna().equals(table["artifact"].isin(["torch", "onnx-fp32"]))
    ends = table[["cka_low", "cka", "cka_high"]].to_numpy()
    assert (np.diff(ends) >= -1e-9).all()
    clean = table[table["comparison"] == "quantization"].pivot(index="layer", columns="artifact")
    assert np.allclose(clean["cka"]["onnx-fp32"], 1, atol=1e-4)
    assert (clean["relative_norm"]["onnx-fp32"] < 1e-3).all()
    for one in ("torch-w8a8-minmax", *files):
        assert (clean["cka"][one] > 0.98).all()
        assert (clean["cosine"][one] > clean["cosine"]["torch-w3a3-minmax"]).all()
        assert (clean["relative_norm"][one] < clean["relative_norm"]["torch-w3a3-minmax"]).all()
    patched = table[table["comparison"] == "patch"].pivot(index="layer", columns="artifact")
    assert (patched["relative_norm"] > 0.01).all(axis=None)
    assert np.allclose(patched["relative_norm"]["onnx-fp32"], patched["relative_norm"]["torch"], rtol=1e-2)
    assert (tmp_path / "out/study/features-resnet8.svg").is_file()
    again = CliRunner().invoke(app, ["study", str(tmp_path / "suite.toml"), "--out", str(tmp_path / "out")])
    assert "layers" not in again.output

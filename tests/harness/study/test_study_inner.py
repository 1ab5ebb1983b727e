"""What the study finds inside networks, against closed forms, counts by hand and scipy's own."""

import xml.etree.ElementTree as ET
from typing import NamedTuple

import numpy as np
import pandas as pd
import pytest
import torch
from helpers import small_networks as small
from helpers.scales import activation_ranges
from helpers.small_networks import PIXELS, SPEC
from scipy import stats
from scipy.spatial import distance
from torch import nn
from torch.nn import functional

from backends.device.artifact import QuantSpec
from exporters.ranges import sources
from harness.config.study import StudyTable
from harness.networks.victims import logits
from harness.study import gradients, saturation, strength
from harness.study.lib import labels
from harness.study.lib.estimates import correlation
from harness.study.lib.inputs import Inputs
from harness.study.lib.pixel_gradients import Alignment, alignment, pixel_gradients
from harness.study.lib.success import LEAST, relative_success
from patches.fake_quant.network import Grid, calibrated, fake_quantized, folded, grids_of, on_grids
from patches.objectives import cross_entropies


class Of(NamedTuple):
    """The patch of a case, as far as rates ask."""

    name: str
    target_class: int | None
    label: str = ""
    attack: str = "gap"


class Case(NamedTuple):
    patch: Of
    px: int = 8
    place: str = "random"
    split: str = "evaluate"


class Artifact(NamedTuple):
    name: str


class Signed(nn.Module):
    """Gives red as it is, green negated and blue as nothing; then its ReLU and a layer of ones."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.relu, self.linear = nn.Conv2d(3, 3, 1, bias=False), nn.ReLU(), nn.Linear(12, 2)
        self.conv.weight.data = torch.diag(torch.tensor([1.0, -1.0, 0.0])).reshape(3, 3, 1, 1)
        self.linear.weight.data.fill_(1.0)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear(self.relu(self.conv(x)).flatten(1))


def test_clipped_activations_are_those_that_round_beyond_the_ends_and_no_zero_of_a_relu():
    images = np.zeros((2, 2, 2, 3), np.uint8)
    images[0, ..., 0] = [[0, 140], [141, 255]]  # .549, which rounds to the end, and .553, which does not
    images[0, ..., 1] = [[63, 64], [0, 255]]  # .247 and .251
    network = folded(Signed().eval())
    levels = {"conv": Grid(0.1, -2, 5), "relu": Grid(0.1, 0, 5)}
    found = saturation.clipped(network, levels, images)
    assert found["conv"].tolist() == pytest.approx([(2 + 2) / 12, 0])
    assert found["relu"].tolist() == pytest.approx([2 / 12, 0])


@pytest.mark.parametrize("make", [small.resnet, small.branches])
def test_levels_are_those_of_the_tensors_that_a_file_keeps(make):
    network = make()
    known = calibrated(network, SPEC, PIXELS)
    own = grids_of(known.described, known.ranges, SPEC)
    found = saturation.grids(fake_quantized(network, SPEC, PIXELS))
    assert found
    assert not {t.name for t in known.described.inputs} & set(found)
    assert sources(known.described)[known.described.outputs[0].name] == list(found)[-1]
    for name, grid in found.items():
        assert (grid.low, grid.high) == (own[name].low, own[name].high)
        assert grid.step == pytest.approx(own[name].step)


@pytest.mark.slow
@pytest.mark.parametrize("calibration", ["minmax", "moving_average", "percentile"])
def test_ranges_are_those_that_the_file_has(tmp_path, calibration):
    """Every grid's ends, among the reals that some tensor of the TFLite file can hold."""
    network, quant = small.resnet(), QuantSpec(calibration_images=16, calibration=calibration)
    held = np.array(list(activation_ranges(small.write(tmp_path, network, "tflite", quant)).values()))
    for name, (step, low, high) in saturation.grids(fake_quantized(network, quant, PIXELS)).items():
        assert np.abs(held - (low * step, high * step)).max(axis=1).min() < 0.02 * step, name


@pytest.mark.parametrize("make", [small.resnet, small.branches])
def test_the_whole_range_in_256_levels_is_the_network_of_eight_bits(make):
    network = make()
    known = calibrated(network, SPEC, PIXELS)
    ours = on_grids(known, strength.narrowed(known, 1.0, 256, SPEC), SPEC)
    assert np.array_equal(logits(ours, PIXELS), logits(fake_quantized(network, SPEC, PIXELS), PIXELS))
    other = on_grids(known, strength.narrowed(known, 0.5, 256, SPEC), SPEC)
    assert not np.array_equal(logits(ours, PIXELS), logits(other, PIXELS))


def test_range_and_step_are_independent():
    rng = np.random.default_rng(0)
    for low, high in zip(-rng.uniform(0, 4, 50), rng.uniform(0.1, 4, 50), strict=True):
        for levels in (256, 64, 16):
            whole = strength.narrow((low, high), 1.0, levels)
            assert whole.step == pytest.approx((high - low) / (levels - 1))
            for clip in (0.8, 0.45, 0.2):
                grid = strength.narrow((low, high), clip, levels)
                assert grid.step == whole.step
                assert (grid.low * grid.step, grid.high * grid.step) == pytest.approx(
                    (clip * low, clip * high), abs=1.01 * grid.step
                )
                assert grid.high - grid.low == round(clip * (levels - 1))


def test_logits_keep_their_levels_where_they_are_only_reshaped():
    known = calibrated(small.branches(), SPEC, PIXELS)
    (logits_,) = known.described.outputs
    assert known.described.operators[-1].name == "Flatten"
    pooled = sources(known.described)[logits_.name]
    assert not {logits_.name, pooled} & set(strength.inner(known.described))


def test_pixels_and_logits_keep_their_levels():
    known = calibrated(small.resnet(), SPEC, PIXELS)
    changed = strength.inner(known.described)
    pixels = {t.name for t in known.described.inputs} | {o.outputs[0].name for o in known.described.operators[:2]}
    assert {o.name for o in known.described.operators[:2]} == {"Mul", "Add"}  # the normalisation
    assert not (pixels | {t.name for t in known.described.outputs}) & set(changed)
    assert {o.outputs[0].name for o in known.described.operators[2:-1]} == set(changed)


def test_success_is_over_images_right_without_the_patch_and_of_another_class():
    labels, clean = np.array([0, 0, 1, 1, 2, 2]), np.array([0, 1, 1, 1, 2, 0])
    cases = {
        Case(Of("a", 2)): np.array([2, 2, 2, 0, 2, 2]),  # among 0, 2 and 3: right, and not of class 2
        Case(Of("b", None)): np.array([0, 0, 0, 0, 0, 0]),  # among 0, 2, 3 and 4: any wrong answer
    }
    found = strength.rates(labels, clean, cases).set_index("patch")
    assert found.loc["a", ["success", "n"]].tolist() == pytest.approx([2 / 3, 3])
    assert found.loc["b", ["success", "n"]].tolist() == pytest.approx([3 / 4, 4])
    assert found.loc[strength.ALL, ["success", "n"]].tolist() == pytest.approx([(2 / 3 + 3 / 4) / 2, 7])
    exact = stats.binomtest(2, 3).proportion_ci(method="wilson")
    assert found.loc["a", ["success_low", "success_high"]].tolist() == pytest.approx(list(exact))
    assert found["clean_accuracy"].tolist() == pytest.approx([4 / 6] * 3)


def linear(seed: int, classes: int, sign: float = 1.0) -> nn.Module:
    torch.manual_seed(seed)
    layer = nn.Linear(48, classes, bias=False)
    layer.weight.data *= sign
    return nn.Sequential(nn.Flatten(), layer).requires_grad_(False)


@pytest.mark.parametrize("target_class", [1, None])
def test_gradients_of_a_linear_network_are_the_closed_form(target_class):
    images, labels = small.pixels(60, 4), np.arange(60) % 3  # more than a batch
    found = pixel_gradients(network := linear(0, 3), images, labels, cross_entropies(target_class))
    weights = network[1].weight.numpy()
    x = images.transpose(0, 3, 1, 2).reshape(60, -1) / 255
    chances = functional.softmax(torch.tensor(x @ weights.T), dim=1).numpy()
    goals = np.eye(3)[labels if target_class is None else np.full(60, target_class)]
    closed = (chances - goals) @ weights * (-1 if target_class is None else 1)
    assert found.shape == (60, 3, 4, 4)
    assert found.flatten(1).numpy() == pytest.approx(closed, abs=1e-5)


def test_a_network_agrees_with_itself_and_not_with_its_reverse():
    """Of two classes only the difference of their weights matters, whatever the image: the cosine is 1 or -1."""
    images, labels, everywhere = small.pixels(5, 4), np.zeros(5, np.int64), np.ones((5, 4, 4), bool)
    one, reversed_ = (pixel_gradients(linear(0, 2, sign), images, labels, cross_entropies(1)) for sign in (1.0, -1.0))
    assert alignment(one, one, everywhere).cosine == pytest.approx(1)
    assert alignment(one, one, everywhere).sign_agreement == pytest.approx(1)
    assert alignment(one, reversed_, everywhere).cosine == pytest.approx(-1)
    assert alignment(one, reversed_, everywhere).sign_agreement == pytest.approx(0)


def by_column(found: Alignment) -> dict[str, float]:
    return dict(zip(gradients.COLUMNS[2:], gradients.summary(found), strict=True))


def test_agreement_is_counted_on_the_pixels_asked_for():
    a, b = torch.zeros(2, 3, 1, 4), torch.zeros(2, 3, 1, 4)
    a[0, :, 0] = torch.tensor([[1.0, -1.0, 2.0, 9.0], [0.0, 0.0, 1.0, 9.0], [3.0, 1.0, -1.0, 9.0]])
    b[0, :, 0] = torch.tensor([[2.0, 1.0, 0.0, -9.0], [0.0, 1.0, 1.0, -9.0], [1.0, -1.0, -1.0, -9.0]])
    a[1] = 1.0  # and b has none there
    where = np.array([[[True, True, True, False]]] * 2)
    found = alignment(a, b, where)
    inside = [part[0, :, 0, :3].flatten().numpy() for part in (a, b)]
    assert found.cosine[0] == pytest.approx(1 - distance.cosine(*inside))
    assert np.isnan(found.cosine[1])
    assert found.sign_agreement == pytest.approx([5 / 9, 0])
    assert found.zero_share == pytest.approx([2 / 9, 1])
    row = by_column(found)
    assert (row["n"], row["zero_share"]) == (1, pytest.approx((2 / 9 + 1) / 2))


def test_intervals_of_alignment_are_students():
    values = np.random.default_rng(0).uniform(-1, 1, 30)
    row = by_column(Alignment(values, values / 2, np.zeros(30)))
    low, high = stats.t.interval(0.95, 29, loc=values.mean(), scale=stats.sem(values))
    assert (row["cosine"], row["low"], row["high"]) == pytest.approx((values.mean(), low, high))
    assert row["sign_agreement_high"] == pytest.approx(high / 2)


@pytest.mark.parametrize("kind", ["spearman", "pearson"])
def test_correlations_are_scipys(kind):
    rng = np.random.default_rng(1)
    x = rng.integers(0, 12, 40).astype(float)  # with ties
    y = 0.4 * x + rng.normal(0, 2, 40)
    found = correlation([*x, np.nan, 1.0], [*y, 1.0, np.nan], kind)
    reference = stats.spearmanr if kind == "spearman" else stats.pearsonr
    assert (found.value, found.n) == (pytest.approx(reference(x, y).statistic), 40)
    drawn = stats.bootstrap(
        (x, y), lambda a, b: reference(a, b).statistic, paired=True, vectorized=False, n_resamples=1000,
        method="percentile", rng=np.random.default_rng(2),
    ).confidence_interval  # fmt: skip
    assert (found.low, found.high) == pytest.approx(tuple(drawn), abs=0.05)


@pytest.mark.parametrize("kind", ["spearman", "pearson"])
def test_pairs_of_one_group_are_no_more_evidence_than_one_pair(kind):
    x, y = np.random.default_rng(1).normal(size=(2, 9))
    y = y + x
    thrice = correlation(np.repeat(x, 3), np.repeat(y, 3), kind, groups=np.repeat(np.arange(9), 3))
    assert thrice.n == 27
    assert thrice[:3] == pytest.approx(correlation(x, y, kind)[:3])


def test_what_never_varies_has_no_correlation():
    for x, y in (([1, 1, 1, 1, 1], [1, 2, 3, 4, 5]), ([1, 2, 3], [1, 2, 3])):
        assert np.isnan(correlation(x, y).value)
        assert str(correlation(x, y)).startswith("not available")
    assert correlation([1, 2, 3, 4], [1, 4, 9, 16]).value == pytest.approx(1)


def cell(**columns):
    row = {
        "artifact": "net-int8", "target": "litert", "runtime": "litert", "patch": "p", "attack": "gap",
        "target_class": 3, "patch_px": 8, "placement": "random", "split": "evaluate", "defence": "", "status": "ok",
        "targeted_success": 0.2, "targeted_success_low": 0.1, "targeted_success_high": 0.3, "n_targeted": 90,
    }  # fmt: skip
    return row | columns


def test_success_is_that_of_the_very_patch_as_a_share_of_its_success_on_float():
    others = [
        {"attack": "other_class", "target_class": 5}, {"defence": "median3"}, {"status": "error"}, {"patch_px": 5},
        {"placement": "center"}, {"split": "craft"}, {"patch": "q"}, {"artifact": "net-w4a4"},
    ]  # fmt: skip
    lab = cell(artifact="net-torch", target="torch", runtime="torch", targeted_success=0.5)
    wrong = [cell(**other, targeted_success=0.9) for other in others]
    inputs = Inputs(None, pd.DataFrame([*wrong, cell(), lab]), pd.DataFrame(), StudyTable(), pd.DataFrame())  # type: ignore[arg-type]
    arguments = inputs, Artifact("net-int8"), Artifact("net-torch"), Case(Of("p", 3))
    (found,) = relative_success(*arguments).to_dict("records")
    assert found == {
        "target": "litert", "runtime": "litert", "success": 0.2, "low": 0.1, "high": 0.3, "n": 90,
        "relative": pytest.approx(0.4),
    }  # fmt: skip
    lab["targeted_success"] = LEAST / 2
    inputs.cells.loc[len(inputs.cells) - 1, "targeted_success"] = LEAST / 2
    assert np.isnan(relative_success(*arguments)["relative"].item())


def test_a_calibration_is_called_by_the_constant_that_it_has():
    assert labels.calibration(QuantSpec(percentile=99.0)) == "minmax"
    assert labels.calibration(QuantSpec(calibration="percentile", percentile=99.0)) == "percentile 99"
    assert labels.calibration(QuantSpec(calibration="moving_average")) == "moving average 0.95"


def saturations():
    rows = []
    for i, calibration in enumerate(("minmax", "entropy", "moving average 0.95", "percentile 99")):
        for patch in ("", "p", "q"):
            about = {"victim": "net", "artifact": f"net-{i}", "format": "tflite", "precision": "w8a8", "images": 100}
            about |= {"calibration": calibration, "patch": patch}
            for depth, layer in enumerate(("relu", "linear", saturation.ALL)):
                share = 0.01 * i + 0.001 * (patch == "q")
                row = about | {"layer": layer, "depth": depth, "share": share, "share_low": 0, "share_high": 0.03}
                if layer == saturation.ALL and patch:
                    row |= {"target": "litert", "simulated": False, "success": 0.4 - 0.1 * i, "low": 0.1, "high": 0.6}
                    row |= {"n": 90, "relative_success": 1 - 0.2 * i - 0.01 * (patch == "q")}
                rows.append(row)
    return pd.DataFrame(rows)


def strengths():
    rows = []
    for kind, levels, clip in (("grid", 256, 1.0), ("grid", 256, 0.5), ("grid", 16, 0.5), ("file", np.nan, 0.7)):
        for patch in ("p", strength.ALL):
            row = {"victim": "net", "kind": kind, "levels": levels, "clip": clip, "patch": patch, "n": 90}
            row |= {"n_clean": 100, "calibration": "minmax" if kind == "file" else np.nan}
            row |= {f"{rate}{end}": 0.5 for rate in ("success", "clean_accuracy") for end in ("", "_low", "_high")}
            rows.append(row)
    return pd.DataFrame(rows)


def alignments():
    rows = []
    kinds = ((gradients.FLOAT, "fp32"), (gradients.SIMULATED, "w4a4"), (gradients.TWIN, "w8a8"))
    for i, (kind, precision) in enumerate(kinds):
        for patch in ("p", "q"):
            for region in gradients.REGIONS:
                row = {"victim": "net", "name": f"net-{i}", "kind": kind, "precision": precision, "patch": patch}
                row |= {"region": region, "n": 80, "transfer": 1 - 0.1 * i + 0.01 * (patch == "q")}
                row |= dict.fromkeys(("cosine", "low", "high"), 0.9 - 0.2 * i - 0.01 * (patch == "q"))
                row |= {f"sign_agreement{end}": 0.8 for end in ("", "_low", "_high")}
                rows.append(row)
    return pd.DataFrame(rows)


@pytest.mark.parametrize(
    ("module", "table", "says"),
    [
        (
            saturation,
            saturations(),
            ["over 90 images; shares are over 100. Spearman's rho", ": -1.00 [", "over 2 patches"],
        ),
        (strength, strengths(), ["1 patch made on float", "90 images each", "100 images", "INT8 files"]),
        (gradients, alignments(), ["80 images per patch, 2 patches", "Pearson's r 0.99"]),
    ],
)
def test_figures_can_be_drawn_from_the_csv_and_say_how_many(tmp_path, module, table, says):
    table.to_csv(tmp_path / "table.csv", index=False)
    figures = module.draw(pd.read_csv(tmp_path / "table.csv"))
    captions = " ".join(figure.caption for figure in figures)
    for words in says:
        assert words in captions
    for figure in figures:
        root = ET.fromstring(str(figure.svg).replace("<svg ", '<svg xmlns:xlink="http://www.w3.org/1999/xlink" ', 1))
        assert root.tag.endswith("svg")
        assert len(list(root.iter())) > 50

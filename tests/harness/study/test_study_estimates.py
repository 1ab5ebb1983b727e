"""Correlations against scipy, and success as the run counted it."""

from types import SimpleNamespace
from typing import NamedTuple

import numpy as np
import pandas as pd
import pytest
from helpers.plans import plan
from helpers.suites import QUICK
from scipy import stats

from harness.config.study import StudyTable
from harness.study.lib.estimates import correlation
from harness.study.lib.inputs import Inputs
from harness.study.lib.success import LEAST, relative_success


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


class Of(NamedTuple):
    """The part of a case's patch that success reads."""

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


def test_a_vendors_ranges_are_not_looked_into(tmp_path):
    vendors = 'calibration = ["minmax", "bmodel:kl"]\n[[export]]\nformat = "bmodel"\nsymmetric_activations = true'
    text = QUICK.replace('calibration = ["minmax", "moving_average"]', vendors + '\ncalibration = ["minmax", "kl"]')
    work = SimpleNamespace(plan=plan(tmp_path, text + '[[target]]\nname = "tpu"\nruntime = "tpu_mlir"\n'))
    inputs = Inputs(work, pd.DataFrame(), pd.DataFrame(), StudyTable(), pd.DataFrame())  # type: ignore[arg-type]
    (subject,) = inputs.subjects()
    names = [artifact.name for artifact in subject.artifacts]
    assert names == ["resnet8-torch", "resnet8-onnx-s8s8-minmax", "resnet8-bmodel-s8s8-minmax-symmetric"]

"""What attacks PatchCleanser's certificates, on a small network's INT8 file and its runtime."""

import shutil
import sys

import numpy as np
import pytest
from helpers import ROOT

from backends.device.artifact import Artifact, Preproc, sha256_file
from harness.data.readers import read_digits

sys.path.append(str(ROOT / "benchmarks"))
import certified


@pytest.fixture
def device(tmp_path):
    """The demo's network for digits behind `patchcleanser:6`."""
    file = tmp_path / "resnet8.tflite"
    shutil.copy(ROOT / "benchmarks" / "baselines" / "demo" / file.name, file)
    described = {"name": "resnet8", "victim": "", "format": "tflite", "precision": "w8a8", "file": file.name}
    sized = {"input_size": (32, 32), "classes": 10, "preproc": Preproc("nhwc")}
    Artifact(**described, **sized, sha256=sha256_file(file)).save(file.with_suffix(".json"))
    return certified.Defended(file, 6)


@pytest.mark.slow
@pytest.mark.usefixtures("one_thread")
def test_no_certified_answer_changes_and_others_do(device):
    seen = read_digits((32, 32))["test"].pixels
    held, others, looked_at = certified.grouped(device, seen, 6)
    assert len(held) == len(others) == 6 < looked_at
    effort = certified.Effort(stride=13, places=1, steps=20, queries=15)
    safe, fallen = (certified.attack(device, group, effort) for group in (held, others))
    assert safe.changed == [""] * 6
    assert safe.patches == dict(zip(certified.ATTACKS, (6 * 9, 6, 6 * 15), strict=True))
    assert safe.misled.max() > 0, "some patch misled some mask"
    assert any(fallen.changed)
    page = certified.page(device, {"certified": safe, "not certified": fallen}, looked_at, effort)
    assert "| certified | everywhere | 54 | 0 of 6 | below 39.3 % |" in page


def test_places_reach_every_border():
    corners = np.array(list(certified.places((12, 10), 3, 4)))
    assert sorted({*corners[:, 0].tolist()}) == [0, 4, 8, 9]
    assert sorted({*corners[:, 1].tolist()}) == [0, 4, 7]


def test_the_bound_of_none_is_the_rule_of_three():
    assert certified.interval(0, 100) == "below 3.0 %"
    assert certified.interval(50, 100) == "39.8 to 60.2 %"

"""Doubts about a plan, told before any work: none about a sound one."""

from pathlib import Path

import pytest
from helpers import tiny
from helpers.plans import plan
from helpers.suites import QUICK

from harness.plan.warnings import warnings

SOUND = QUICK.replace("calibration = 8", "calibration = 64")
ASKING = (
    SOUND
    + """
[[attack]]
name = "sparse_rs"
target_classes = [3]
pixels = 8
surrogate = "device:resnet8-onnx-s8s8-minmax:ort"
options = { queries = 160 }
"""
)
BROUGHT = """
schema = 1
name = "brought"
[data]
name = "digits"
calibration = 1
craft = 64
evaluate = 8
[[artifact]]
name = "own"
file = "own.tflite"
input_size = [8, 8]
mean = [0.5, 0.5, 0.5]
std = [0.25, 0.25, 0.25]
[[attack]]
name = "gap"
surrogate = "twin:own"
target_classes = [3]
pixels = 3
[[target]]
name = "lite"
runtime = "litert"
"""
TWICE = '[[attack]]\nname = "gap"\ntarget_classes = [3]\npixels = 8\noptions = { steps = 4 }\n'


def test_a_sound_plan_gives_no_warning(tmp_path: Path) -> None:
    assert list(warnings(plan(tmp_path, SOUND))) == []
    assert list(warnings(plan(tmp_path, SOUND + TWICE + 'label = "longer"\n'))) == []


@pytest.mark.parametrize(
    ("text", "warning"),
    [
        (QUICK, "data.calibration = 8: "),
        (SOUND.replace("craft = 64", "craft = 16"), "data.craft = 16: "),
        (SOUND.replace("noise = 1", "other_class = 1"), "controls.other_class = 1: needs an attack with at least 2"),
        (SOUND + TWICE, "attack 'gap': tables with other options share this name"),
        (SOUND + '[[target]]\nname = "lite"\nruntime = "litert"\n', "target 'lite' runs none of the suite's files"),
        (SOUND.replace('"onnx"', '["onnx", "tflite"]'), "no target runs resnet8-tflite-s8s8-minmax"),
        ('defence = "jpeg:75"\n' + SOUND, "defence 'jpeg:75': no attack expects it, and its worth stays unknown"),
        (SOUND.replace('"gap"', '"gap"\ndefence = "jpeg:75"'), "attack defence 'jpeg:75': its patches never meet it"),
        (ASKING, "attack 'sparse_rs', option 'queries': 20 for each image are few"),
    ],
)
def test_a_doubt_is_a_line(tmp_path: Path, text: str, warning: str) -> None:
    found = [line for line in warnings(plan(tmp_path, text)) if line.startswith(warning)]
    assert len(found) == 1
    assert "\n" not in found[0]


def test_preprocessing_that_the_input_cannot_hold_is_doubted(tmp_path: Path) -> None:
    tiny.tflite_file(tmp_path / "own.tflite")
    (doubt,) = warnings(plan(tmp_path, BROUGHT, tmp_path))
    assert doubt.startswith("artifact 'own': preprocessing sends -2 to 2, but the input's scale 0.00392157")
    assert doubt.endswith("divisor = 255 without mean and std would fit")
    fitting = BROUGHT.replace("mean = [0.5, 0.5, 0.5]\n", "").replace("std = [0.25, 0.25, 0.25]\n", "")
    assert list(warnings(plan(tmp_path, fitting, tmp_path))) == []

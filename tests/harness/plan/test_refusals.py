"""What a plan can know is refused before any work, in one line."""

from pathlib import Path

import numpy as np
import pytest
from helpers.plans import plan
from helpers.suites import QUICK

from backends.device.errors import UserError

ASKING = QUICK.replace('"gap"', '"sparse_rs"').replace(
    "options = { steps = 3 }", 'surrogate = "device:resnet8-onnx-s8s8-minmax:ort"\noptions = { queries = 3000 }'
)
NAMED = QUICK.replace('"digits"', '"npz"\npath = "x.npz"\nclasses = ["cat", "crane", "crane", "toaster"]').replace(
    'model = "resnet8"', 'model = "resnet8"\ninput_size = [32, 32]'
)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("[3]", "[10]", "target class 10 is none of the 10 classes of 'resnet8', 0 to 9"),
        ("[3]", '["three"]', "no class named 'three'; there are 0, 1"),
        ('model = "resnet8"', 'model = "resnet8"\nclasses = 5', "has classes = 5, and the data 10"),
        ("steps = 3", "steps = 3, within = 0.1", "option 'within': it does nothing without the option 'disguise'"),
        ("evaluate = 40", "evaluate = 598", "data.evaluate = 598: digits has 597 test images"),
        ("craft = 64", "craft = 64\nresize = 31", "'resnet8': data.resize = 31 is less than the input size 32x32"),
        ("craft = 64", "craft = 1193", "digits has 1200 training images: calibration 8 leave at most 1192 for craft"),
        ("pixels = 8", "pixels = 33", "patch size: expected 1 to 32 pixels"),
        ("pixels = 8", 'pixels = 8\nplacement = "0,25"', "the last row and column that fit are 24,24"),
        ("pixels = 8", "pixels = 30\npose = { rotation = 45 }", "a patch of 30 pixels takes up to 44"),
        ("pixels = 8\noptions = { ", "pixels = 30\noptions = { rotation = 45, ", "a patch of 30 pixels takes up to 44"),
        ("pixels = 8", "pixels = 8\nplace_known = true", "place_known = true needs a fixed placement"),
        ("pixels = 8", 'pixels = 8\nvictims = "resnet9"', "victims = 'resnet9' matches none; did you mean 'resnet8'?"),
        ('format = "onnx"', 'format = "onnx"\nvictims = "v*"', r"an \[\[export\]\]: victims = 'v\*' matches none"),
    ],
)
def test_a_suite_that_cannot_be_meant_is_refused(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert old in QUICK
    with pytest.raises(UserError, match=message) as caught:
        plan(tmp_path, QUICK.replace(old, new))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("queries = 3000", "queries = 15", "expected at least 16, two for each of 8 images, got 15"),
        ("queries = 3000", "queries = 99, batch = 50", "expected at least 100"),
        ("pixels = 8", "per_image = true\npixels = 8", ""),
        ("queries = 3000 }", "queries = 79 }\nper_image = true", "expected at least 80, two for each of 40 images"),
        ("pixels = 8", 'placement = "best"\npixels = 8', "finds places only for per-image patches"),
    ],
)
def test_a_search_that_could_not_search_is_refused(tmp_path: Path, old: str, new: str, message: str) -> None:
    if not message:
        assert plan(tmp_path, ASKING.replace(old, new)).patches
        return
    with pytest.raises(UserError, match=message):
        plan(tmp_path, ASKING.replace(old, new))


def named(folder: Path, word: str) -> set[int | None]:
    """The target classes of a plan for four classes with names."""
    labels = np.arange(200) % 4
    np.savez(folder / "x.npz", x=np.zeros((200, 32, 32, 3), np.uint8), y=labels)
    made = plan(folder, NAMED.replace("[3]", word), data_dir=folder)
    return {p.target_class for p in made.patches if p.attack == "gap"}


def test_target_classes_have_the_names_of_the_data(tmp_path: Path) -> None:
    assert named(tmp_path, '["toaster", 0]') == {3, 0}
    for word, message in (
        ('"toster"', "no class named 'toster'; did you mean 'toaster'?"),
        ('"crane"', "the classes 1 and 2 are both named 'crane': give one's number"),
        ("4", "target class 4 is none of the 4 classes"),
    ):
        with pytest.raises(UserError, match=message):
            named(tmp_path, word)

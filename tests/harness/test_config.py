"""Suites: what is wrong with one is said in one message that a person can act on."""

from pathlib import Path

import pytest
from helpers import ROOT
from helpers.suites import QUICK, write

from backends.device.errors import UserError
from harness.config import read_suite

SUITES = sorted((ROOT / "benchmarks" / "suites").glob("*.toml"))


@pytest.mark.parametrize("path", SUITES, ids=lambda path: path.stem)
def test_our_own_suites_are_valid_and_named_as_their_files(path: Path) -> None:
    assert read_suite(path).name == path.stem


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("calibration = 8", "calibraton = 8", "data.calibraton: unknown key; did you mean 'calibration'?"),
        ("epochs = 1", "epoch = 1", "victim.0.train.epoch: unknown key; did you mean 'epochs'?"),
        ("noise = 1", "nosie = 1", "controls.nosie: unknown key; did you mean 'noise'?"),
        ('format = "onnx"', 'format = "onx"', "export.0.format.0: Input should be 'onnx', 'tflite' or 'torch'"),
        ("schema = 1", "schema = 2", "schema: Input should be 1"),
        ("[victim.train]\nepochs = 1", "", "victim 'resnet8': give either weights or a [victim.train] table"),
        ('format = "onnx"', 'format = "tflite"\nsignature = "u8s8"', "TFLite's integers are signed"),
        (
            'format = "onnx"',
            'format = "onnx"\nprecision = "w4a8"\npacked = true',
            "packed = true needs an [[export]] of",
        ),
        ('format = "onnx"', 'format = "tflite"\npacked = true', 'format = "tflite" and precision = "w4a8" alone'),
        ('name = "ort"\n', 'name = "ort"\nruntime = "x"\n[[target]]\nname = "ort"\n', "two [[target]] named ort"),
        ("seconds = 0", "seconds = -1", "latency.seconds: Input should be greater than or equal to 0"),
        ('name = "quick"', 'name = "../quick"', "name: String should match pattern"),
        ("[data]", "[data", "not TOML"),
    ],
)
def test_a_fault_is_named_with_its_place_and_its_mend(tmp_path: Path, old: str, new: str, says: str) -> None:
    assert old in QUICK
    path = write(tmp_path, QUICK.replace(old, new, 1))
    with pytest.raises(UserError) as error:
        read_suite(path)
    assert says in str(error.value)
    assert str(path) in str(error.value)


def test_every_fault_is_told_at_once(tmp_path: Path) -> None:
    path = write(tmp_path, QUICK.replace("epochs", "epoch").replace("calibration = 8", "calibraton = 8"))
    with pytest.raises(UserError) as error:
        read_suite(path)
    assert str(error.value).count("did you mean") == 2


def test_a_missing_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nowhere\.toml: cannot be read"):
        read_suite(tmp_path / "nowhere.toml")


def test_a_value_alone_is_an_axis_of_one(tmp_path: Path) -> None:
    suite = read_suite(write(tmp_path))
    assert suite.export[0].format == ("onnx",)
    assert suite.export[0].calibration == ("minmax", "moving_average")

"""Suites: what is wrong with one is said in one message that a person can act on."""

from pathlib import Path

import pytest
from helpers import ROOT
from helpers.suites import QUICK, write

from backends.device.errors import UserError
from harness.config import read_suite
from harness.console import console
from harness.run.run import run_suite

SUITES = sorted((ROOT / "benchmarks" / "suites").glob("*.toml"))


@pytest.mark.parametrize("path", SUITES, ids=lambda path: path.stem)
def test_our_own_suites_are_valid_and_named_as_their_files(path: Path) -> None:
    assert read_suite(path).name == path.stem


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("calibration = 8", "calibraton = 8", "data.calibraton: unknown key; did you mean 'calibration'?"),
        ("calibration = 8", "calibration = 0", "data.calibration = 0: the files of a [[victim]] need images"),
        ("epochs = 1", "epoch = 1", "victim.0.train.epoch: unknown key; did you mean 'epochs'?"),
        ("noise = 1", "nosie = 1", "controls.nosie: unknown key; did you mean 'noise'?"),
        (
            'format = "onnx"',
            'format = "onx"',
            "export.0.format: expected 'onnx', 'tflite', 'pte', 'bmodel', 'cvimodel', 'rknn', 'kmodel', 'espdl' or "
            "'torch', got 'onx'",
        ),
        ("schema = 1", "schema = 2", "schema: expected 1, got 2"),
        ("[victim.train]\nepochs = 1", "", "victim 'resnet8': give either weights or a [victim.train] table"),
        ('format = "onnx"', 'format = "tflite"\nsignature = "u8s8"', "TFLite knows s8s8 alone"),
        ('format = "onnx"', 'format = "bmodel"', "tpu-mlir quantizes a bmodel in one way: give its [[export]] symm"),
        (
            '["minmax", "moving_average"]',
            '["minmax", "kl"]',
            "calibration kl is tpu-mlir's and esp-ppq's, for cvimodel and bmodel and espdl alone",
        ),
        (
            'format = "onnx"\ncalibration = ["minmax", "moving_average"]',
            'format = ["onnx", "tflite"]\ncalibration = ["rknn:kl_divergence"]',
            "calibration rknn:kl_divergence is rknn-toolkit2's, for onnx alone",
        ),
        (
            'format = "onnx"',
            'format = "onnx"\nprecision = "w4a8"\npacked = true',
            "packed = true needs an [[export]] of",
        ),
        ('format = "onnx"', 'format = "tflite"\npacked = true', 'format = "tflite" and precision = "w4a8" alone'),
        ('name = "ort"\n', 'name = "ort"\nruntime = "x"\n[[target]]\nname = "ort"\n', "two [[target]] named ort"),
        ("seconds = 0", "seconds = -1", "latency.seconds: expected a number of at least 0, got -1"),
        ('name = "quick"', 'name = "../quick"', "name: expected a name of at most 100 letters"),
        ("[data]", "[data", "not TOML"),
        ('name = "quick"', "name = quick", "not TOML: Invalid value (at line 3, column 8); text needs quotes"),
        (
            'model = "resnet8"',
            'model = "resnet8"\ninput_size = [48]',
            "victim.0.input_size: expected height, width, such as [224, 224], got [48]",
        ),
        ("schema = 1", "", "schema: missing"),
        ("calibration = 8", 'calibration = "x"', "data.calibration: expected an integer, got 'x'"),
        ("calibration = 8", "calibration = 1.5", "data.calibration: expected an integer, got 1.5"),
        ("seconds = 0", 'threads = ["x"]', "latency.threads.0: expected 'all' or an integer, got 'x'"),
        ("seconds = 0", "seconds = inf", "latency.seconds: expected a finite number, got inf"),
        ("[controls]", "[[controls]]", "controls: expected a table, got [{"),
        ("epochs = 1", f"epochs = {10**30}", "victim.0.train.epochs: expected an integer of 64 bits"),
        ('name = "quick"', 'name = "a\\u0000"', "name: expected a text without control characters"),
        ('name = "quick"', f'name = "{"a" * 101}"', "name: expected a name of at most 100 letters"),
        ("[data]", '"a\\u001b" = 1\n[data]', "key: expected a text without control characters"),
        ("[data]", f"{'.'.join('a' * 5000)} = 1\n[data]", "nested too deep"),
        ("[data]", f"a = {'[' * 5000}", "nested too deep"),
        (
            'runtime = "onnxruntime"',
            'runtime = "onnxruntime"\nversion = "1==2"',
            "target.0: version '1==2': expected a",
        ),
        ('model = "resnet8"', 'model = "a b"', "victim.0.model: expected the name of a network, or package.module:f"),
        ('model = "resnet8"', 'model = "a:b:c"', "victim.0.model: expected the name of a network, or package.module:f"),
        ('name = "digits"', 'name = "npz"\npath = "../x"', "data.path: expected a path inside the folder"),
        ('name = "digits"', 'name = "npz"\npath = "/x"', "data.path: expected a path inside the folder"),
        ("[victim.train]\nepochs = 1", 'weights = "../w"', "victim.0.weights: expected a path inside the folder"),
        ("[victim.train]\nepochs = 1", 'weights = "file:///w"', "expected an http or https address"),
        ("[victim.train]\nepochs = 1", 'weights = "http://[::1"', "expected an http or https address"),
        ("[victim.train]\nepochs = 1", 'weights = "w"\nweights_sha256 = "x"', "expected 8 to 64 hex digits, got 'x'"),
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


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ('name = "gap"', 'name = "gpa"', "no attack named 'gpa'; did you mean 'gap'?"),
        ('runtime = "onnxruntime"', 'runtime = "__init__"', "target 'ort': no runtime named '__init__'"),
        ('runtime = "onnxruntime"', 'runtime = "onnxruntime"\nhost = "__init__"', "no host named '__init__'"),
        ("pixels = 8", "pixels = 800", "patch size: expected 1 to 32 pixels"),
        ("steps = 3", 'disguise = "../x"', "attack 'gap', option 'disguise': expected a path inside the folder"),
    ],
)
def test_what_a_plan_finds_wrong_names_the_suite(tmp_path: Path, old: str, new: str, says: str) -> None:
    path = write(tmp_path, QUICK.replace(old, new, 1))
    with pytest.raises(UserError) as error:
        run_suite(path, None, tmp_path / "out", console=console())
    assert str(error.value).startswith(f"{path}: ")
    assert says in str(error.value)

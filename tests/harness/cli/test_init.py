"""``init`` writes a suite that runs, or that says in a line for each what is to be filled in."""

import json
import os
import pty
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from helpers import foreign_tflite, tiny
from helpers.command import environ, patchbench
from typer.testing import CliRunner

from backends.device.errors import UserError
from harness.cli.app import app
from harness.cli.init import ASKED, TEMPLATES, Kind, compose
from harness.config import Suite, read_suite

GIVEN = {
    Kind.NETWORK: {"model": "package.module:make", "weights": 'my "w".pth', "images": "photos", "size": "96"},
    Kind.FILE: {"file": "vendor/v.onnx", "images": "photos", "size": "96"},
    Kind.DIGITS: {},
}
FOUND = {"mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25]}


def written(folder: Path, text: str) -> Path:
    (folder / "mine.toml").write_text(text)
    return folder / "mine.toml"


@pytest.mark.parametrize("kind", Kind)
def test_a_suite_with_all_that_is_asked_is_valid_and_has_it(kind: Kind, tmp_path: Path) -> None:
    text = compose(kind, "mine", GIVEN[kind], FOUND)
    suite = read_suite(written(tmp_path, text))
    assert suite.name == "mine"
    assert set(GIVEN[kind].values()) - {"96"} <= set(strings(tomllib.loads(text)))
    sizes = {table.input_size for table in (*suite.victim, *suite.artifact)}
    assert sizes == ({(96, 96)} if "size" in GIVEN[kind] else {None})


def strings(value: object) -> list[str]:
    if isinstance(value, dict):
        return [word for part in value.values() for word in strings(part)]
    if isinstance(value, list):
        return [word for part in value for word in strings(part)]
    return [str(value)]


@pytest.mark.parametrize(
    ("name", "runtime"), [("a.onnx", "onnxruntime"), ("a.tflite", "litert"), ("a.pte", "executorch")]
)
def test_a_file_runs_where_its_format_does(name: str, runtime: str) -> None:
    assert tomllib.loads(compose(Kind.FILE, "mine", {"file": name}))["target"][0]["runtime"] == runtime


@pytest.mark.parametrize(
    ("kind", "lines"),
    [
        (
            Kind.NETWORK,
            [
                "data.path: fill in <your folder of images>",
                "victim.0.input_size: fill in <your [height, width]>",
                "victim.0.mean: fill in <your mean of each channel>",
                "victim.0.model: fill in <your package.module:function>",
                "victim.0.std: fill in <your std of each channel>",
                "victim.0.weights: fill in <your weights.pth>",
            ],
        ),
        (
            Kind.FILE,
            [
                "artifact.0.file: fill in <your model.tflite>",
                "artifact.0.input_size: fill in <your [height, width]>",
                "artifact.0.mean: fill in <your mean of each channel>",
                "artifact.0.std: fill in <your std of each channel>",
                "data.path: fill in <your folder of images>",
            ],
        ),
    ],
)
def test_a_placeholder_that_was_left_is_named(kind: Kind, lines: list[str], tmp_path: Path) -> None:
    path = written(tmp_path, compose(kind, "mine", {}))
    with pytest.raises(UserError) as error:
        read_suite(path)
    said = str(error.value).splitlines()
    assert said[0] == f"{path}: not a suite"
    assert sorted(line.strip() for line in said[1:]) == lines


@pytest.mark.parametrize("kind", Kind)
def test_a_template_has_a_place_for_all_that_is_asked_and_fits_a_line(kind: Kind) -> None:
    text = (TEMPLATES / f"{kind}.toml").read_text()
    assert text.startswith("# ")
    assert set(ASKED[kind]) <= set(re.findall(r"\$(\w+)", text))
    assert max(map(len, text.splitlines())) <= 120


@pytest.mark.parametrize("kind", Kind)
def test_the_comments_of_neighbouring_lines_begin_in_one_column(kind: Kind) -> None:
    for block in compose(kind, "mine", GIVEN[kind]).split("\n\n"):
        assert len({line.index("  # ") for line in block.splitlines() if "  # " in line}) <= 1


@pytest.mark.parametrize("kind", ["onnx", "tflite"])
def test_a_model_file_says_how_large_its_images_are(kind: str, tmp_path: Path) -> None:
    getattr(tiny, f"{kind}_file")(tmp_path / f"theirs.{kind}")
    words = ["init", str(tmp_path / "mine.toml"), "--kind", "file", "--file", f"theirs.{kind}", "--data", str(tmp_path)]
    done = CliRunner().invoke(app, words, catch_exceptions=False)
    (table,) = tomllib.loads((tmp_path / "mine.toml").read_text())["artifact"]
    assert table["input_size"] == [tiny.SIZE, tiny.SIZE]
    is_known = kind == "tflite"  # by the scale of its input; a float input says nothing of its mean
    assert (table["mean"] == "<your mean of each channel>") is not is_known
    assert ("fill in path, mean, std" in done.output) is not is_known


@pytest.mark.parametrize(("name", "kind"), [("int8", "logits"), ("int8, softmax", "softmax")])
def test_a_model_file_says_whether_it_ends_in_a_softmax(name: str, kind: str, tmp_path: Path) -> None:
    foreign_tflite.write(name, tmp_path / "theirs.tflite")
    words = ["init", str(tmp_path / "mine.toml"), "--kind", "file", "--file", "theirs.tflite", "--data", str(tmp_path)]
    CliRunner().invoke(app, words, catch_exceptions=False)
    (table,) = tomllib.loads((tmp_path / "mine.toml").read_text())["artifact"]
    assert table["output_kind"] == kind


@pytest.mark.data
def test_the_classes_of_imagenet_begin_behind_the_background(data_dir: Path, tmp_path: Path) -> None:
    words = ["--kind", "file", "--file", "vendor/mobilenet_v2_1.0_224_quant.tflite", "--data", str(data_dir)]
    CliRunner().invoke(app, ["init", str(tmp_path / "mine.toml"), *words], catch_exceptions=False)
    (table,) = tomllib.loads((tmp_path / "mine.toml").read_text())["artifact"]
    assert (table["class_offset"], table["input_size"]) == (1, [224, 224])


@pytest.mark.parametrize(
    ("stem", "name"), [("my suite", "my-suite"), (".hidden", "hidden"), ("___", "suite"), ("ü" * 3, "suite")]
)
def test_a_files_name_becomes_the_name_of_a_suite(stem: str, name: str) -> None:
    assert Suite.model_validate(tomllib.loads(compose(Kind.DIGITS, stem, {}))).name == name


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], "--kind: expected one of network, file, digits"),
        (["--kind", "digits", "--size", "9"], "--size: a suite for digits has none; it has no options"),
        (["--kind", "file", "--weights", "w"], "--weights: a suite for file has none; it has file, images, size"),
        (["there.toml", "--kind", "digits"], "there.toml: already exists; give another name, or --force to replace"),
    ],
)
def test_a_mistake_writes_nothing(words: list[str], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("there.toml").touch()
    with pytest.raises(UserError, match=says):
        CliRunner().invoke(app, ["init", *words], catch_exceptions=False)
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [("there.toml", "")]


def test_force_replaces_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("there.toml").touch()
    done = CliRunner().invoke(app, ["init", "there.toml", "--kind", "file", "--file", "a.tflite", "--force"])
    assert (
        done.output
        == "there.toml: written; fill in path, input_size, mean, std\nthen: patchbench run there.toml --data DIR\n"
    )
    assert tomllib.loads(Path("there.toml").read_text())["name"] == "there"


@pytest.mark.slow
def test_on_a_terminal_it_asks_for_what_no_option_says(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    command = ["setsid", "--ctty", sys.executable, "-m", "harness.cli", "init", "mine.toml", "--images", "photos"]
    asked = subprocess.Popen(command, cwd=tmp_path, env=environ(), stdin=theirs, stdout=theirs, stderr=theirs)
    os.write(ours, b"flie\nfile\nvendor.tflite\n\n")
    assert asked.wait(120) == 0, os.read(ours, 10_000)
    suite = tomllib.loads((tmp_path / "mine.toml").read_text())
    table = suite["artifact"][0]
    assert (table["file"], suite["data"]["path"], table["input_size"]) == ("vendor.tflite", "photos", [224, 224])
    said = os.read(ours, 10_000).decode()
    assert "What to attack (network, file, digits)" in said
    assert "'flie' is not one of" in said
    assert "Images" not in said


SMALLER = [
    "--limit", "20", "--set", "data.craft=32", "--set", "data.calibration=8", "--set", "victim.resnet8.train.epochs=1",
    "--set", "attack.gap.options.steps=2", "--set", "attack.gap.seeds=0", "--set", 'export.0.format="onnx"',
    "--set", "export.0.calibration=minmax", "--set", "controls={grey = 0, noise = 1}",
    "--set", "latency={runs = 2, seconds = 0, warmup = 0, threads = 1}",
]  # fmt: skip


@pytest.mark.slow
def test_what_it_writes_for_digits_runs_and_the_run_records_the_suite_as_changed(tmp_path: Path) -> None:
    assert patchbench("init", "first.toml", "--kind", "digits", cwd=tmp_path).returncode == 0
    done = patchbench("run", "first.toml", *SMALLER, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    run = json.loads((tmp_path / "out" / "first" / "run.json").read_text())
    assert (run["suite"]["data"]["evaluate"], run["data"]["sizes"]["evaluate"]) == (20, 20)
    assert run["suite"]["attack"][0]["options"]["steps"] == 2
    assert "--limit 20" in run["command"]

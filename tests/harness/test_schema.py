"""The JSON schema of suites: it takes what a suite may be, and an editor marks what it may not."""

import json
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers import ROOT
from helpers.json_schema import faults
from helpers.suites import QUICK
from typer.testing import CliRunner

from harness.cli.app import app
from harness.config.schema import suite_schema
from harness.tables import OR_ONE

SUITES = [*sorted((ROOT / "benchmarks" / "suites").glob("*.toml")), ROOT / "docs/examples/own_network/suite.toml"]
SCHEMA = suite_schema()


@pytest.mark.parametrize("path", SUITES, ids=lambda path: path.stem)
def test_a_suite_that_ships_is_as_the_schema_says(path: Path) -> None:
    assert list(faults(tomllib.loads(path.read_text()), SCHEMA, SCHEMA)) == []


@pytest.mark.parametrize(
    ("old", "new", "place"),
    [
        ("calibration = 8", "calibraton = 8", "data.calibraton"),
        ("calibration = 8", "calibration = 1.5", "data.calibration"),
        ("calibration = 8", "calibration = -1", "data.calibration"),
        ('name = "digits"', 'name = "digit"', "data.name"),
        ('format = "onnx"', 'format = "onx"', "export.0.format"),
        ('format = "onnx"', "format = []", "export.0.format"),
        ('format = "onnx"', 'format = "onnx"\nprecision = ["w8a8", "w9a8"]', "export.0.precision"),
        ("epochs = 1", "epoch = 1", "victim.0.train.epoch"),
        ("epochs = 1", "epochs = 1\n[victim.x]", "victim.0.x"),
        ('model = "resnet8"', 'model = "resnet8"\ninput_size = [32]', "victim.0.input_size"),
        ('model = "resnet8"', 'model = "resnet8"\nmean = [0, 0, "0"]', "victim.0.mean.2"),
        ("schema = 1", "schema = 2", "schema"),
        ('name = "quick"', 'name = "../quick"', "name"),
        ("[controls]", "[[controls]]", "controls"),
        ("noise = 1", "noise = true", "controls.noise"),
        ("seconds = 0", 'threads = ["some"]', "latency.threads"),
        ('runtime = "onnxruntime"', "options = { a = [1] }", "target.0"),
        ('runtime = "onnxruntime"', 'runtime = "onnxruntime"\noptions = { a = [1] }', "target.0.options.a"),
        ('[[target]]\nname = "ort"\nruntime = "onnxruntime"', "", ""),
    ],
)
def test_what_a_suite_may_not_be_is_marked_where_it_stands(old: str, new: str, place: str) -> None:
    assert list(faults(tomllib.loads(QUICK), SCHEMA, SCHEMA)) == []
    assert old in QUICK
    assert place in set(faults(tomllib.loads(QUICK.replace(old, new, 1)), SCHEMA, SCHEMA))


def test_every_key_has_a_meaning_for_the_editor_and_toml_has_no_null() -> None:
    assert [keys for keys, part in parts(SCHEMA) if keys[-2:-1] == ("properties",) and "description" not in part] == []
    assert "null" not in json.dumps(SCHEMA)
    assert OR_ONE not in json.dumps(SCHEMA)


def parts(node: dict[str, Any], keys: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], dict[str, Any]]]:
    """Every table of a schema, and the keys that lead to it."""
    for key, value in node.items():
        if isinstance(value, dict):
            yield (*keys, key), value
            yield from parts(value, (*keys, key))


def test_the_command_prints_it() -> None:
    shown = CliRunner().invoke(app, ["schema"])
    assert json.loads(shown.stdout) == SCHEMA

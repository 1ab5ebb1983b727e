"""One small study run whole."""

import json

import pandas as pd
import pytest
from helpers import ROOT
from typer.testing import CliRunner

from harness.cli.app import app
from harness.config.study import ANALYSES

# No claim below needs what the suite spends on training, crafting and images.
SMALLER = {
    "epochs = 8": "epochs = 4",
    "epochs = 3": "epochs = 2",
    "evaluate = 200": "evaluate = 100",
    "steps = 60": "steps = 20",
    "steps = 10": "steps = 5",
    "runs = 20": "runs = 5",
    "images = 100": "images = 50",
}


@pytest.fixture(scope="module")
def studied(tmp_path_factory):
    """Run the small sibling of the study, made smaller still, by its command; return its directory and suite."""
    out = tmp_path_factory.mktemp("study")
    text = (ROOT / "benchmarks/suites/study-digits.toml").read_text()
    for old, new in SMALLER.items():
        assert old in text
        text = text.replace(old, new)
    suite = tmp_path_factory.mktemp("suite") / "study-digits.toml"
    suite.write_text(text)
    done = CliRunner().invoke(app, ["study", str(suite), "--out", str(out)])
    assert done.exit_code == 0, done.output
    return out, suite


@pytest.mark.slow
def test_the_small_study_answers_every_question_with_numbers_and_figures(studied):
    out, _ = studied
    page = (out / "study.html").read_text()
    for name in set(ANALYSES) - {"defences"}:
        table = pd.read_csv(out / "study" / f"{name}.csv")
        assert len(table), name
        assert any(column.startswith("n") for column in table), name
        known = json.loads((out / "study" / f"{name}.json").read_text())
        assert known["figures"], name
        assert all((out / "study" / figure["file"]).is_file() for figure in known["figures"])
        assert known["question"] in page


@pytest.mark.slow
def test_a_second_study_recomputes_nothing_and_one_analysis_can_run_alone(studied):
    out, suite = studied
    before = (out / "study" / "places.csv").read_bytes()
    (out / "study" / "places.csv").unlink()
    done = CliRunner().invoke(app, ["study", str(suite), "--out", str(out), "--only", "places"])
    assert "nothing to do" in done.output
    assert "replay" not in done.output
    assert (out / "study" / "places.csv").read_bytes() == before


@pytest.mark.slow
def test_places_agree_with_a_run_whose_patches_lie_there(studied):
    """Success at a place equals that of a run whose patches lie there, counted from its records."""
    out, suite = studied
    table = pd.read_csv(out / "study" / "places.csv")
    here = table[(table["target"] == "litert") & (table["artifact"] == "resnet8-tflite-s8s8-minmax")]
    row, column = (int(here.iloc[5][name]) for name in ("row", "column"))
    text = suite.read_text().split("[[attack]]")
    fixed = text[1].replace("area = 0.08", f'area = 0.08\nplacement = "{row},{column}"')
    other = out.parent / "fixed.toml"
    rest = text[-1][text[-1].index("[controls]") :]
    other.write_text((text[0] + "[[attack]]" + fixed + rest).replace('name = "study-digits"', 'name = "fixed"'))
    done = CliRunner().invoke(app, ["run", str(other), "--out", str(out)])
    assert done.exit_code == 0, done.output
    cells = pd.read_csv(out / "cells.csv").query("artifact == 'resnet8-tflite-s8s8-minmax' and target == 'litert'")
    mean = cells.query("attack == 'gap' and surrogate == 'float'")["targeted_success"].mean()
    assert here.iloc[5]["success"] == pytest.approx(mean, abs=1e-5)

"""The suite of all defences, on few images: verdicts, certificates and passes come through to tables and report."""

from pathlib import Path

import pandas as pd
import pytest
from helpers.command import patchbench

pytestmark = pytest.mark.slow
SUITE = Path(__file__).parents[3] / "benchmarks" / "suites" / "defences-demo.toml"
FEWER = {"evaluate = 40": "evaluate = 5", "steps = 60, batch = 32": "steps = 2, batch = 4", "runs = 20": "runs = 2"}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run directory."""
    folder = tmp_path_factory.mktemp("all")
    text = SUITE.read_text()
    for many, few in FEWER.items():
        assert many in text
        text = text.replace(many, few)
    (folder / "suite.toml").write_text(text)
    done = patchbench("run", "suite.toml", cwd=folder)
    assert done.returncode == 0, done.stderr + done.stdout
    return folder / "out/defences-demo"


def test_records_have_verdicts_behind_the_defence_that_gives_them(finished: Path) -> None:
    records = pd.read_parquet(finished / "records.parquet")
    behind = records["defence"] == "patchcleanser:9"
    assert set(records.loc[~behind, "verdict"]) == {""}
    assert set(records.loc[~behind, "passes"]) == {1}
    assert set(records.loc[behind, "verdict"]) <= {"agreement", "disagreer", "majority"}
    agreed = behind & (records["verdict"] == "agreement")
    assert (records.loc[agreed, "passes"] == 36).all()
    assert (records.loc[behind & ~agreed, "passes"] % 36 == 0).all()
    assert (records.loc[behind & ~agreed, "passes"] > 36).all()
    assert not records.loc[records["attack"] != "none", "certified"].any(), "only an image without a patch can be"
    assert (records.loc[records["certified"] == 1, "verdict"] == "agreement").all()


def test_cells_and_report_have_what_a_defence_costs_and_is_worth(finished: Path) -> None:
    cells = pd.read_csv(finished / "cells.csv").fillna({"defence": "", "surrogate": ""})
    clean = cells[(cells["attack"] == "none") & (cells["defence"] == "patchcleanser:9")]
    assert (clean["n_certified"] == 5).all()
    assert (clean["certified_accuracy"] <= clean["clean_accuracy"]).all()
    assert cells.loc[cells["defence"] == "", "certified_accuracy"].isna().all()
    expected = {f"float with defence {word}" for word in set(cells["defence"]) - {""}}
    assert expected <= set(cells["surrogate"])
    page = (finished / "report.html").read_text()
    section = page[page.index('<section id="defences">') :]
    section = section[: section.index("</section>")]
    for word in ("patchcleanser:9", "patchblock:4", "success, adaptive, %", "certified, %", "undefended"):
        assert word in section
    assert '<span class="bad">only naively' not in section

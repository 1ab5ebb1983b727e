"""History over runs whose changes are known: what is drawn, and the run that each change is put down to."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pandas as pd
import pytest
from helpers.edited_runs import MOVING, NEW_VERSION, after, both, facts_of, flip, rewrite
from helpers.made_run import FILES, make_run
from rich.console import Console

from harness.gate import history
from harness.results.baseline import freeze, read
from harness.results.frozen import Frozen

SOME = [FILES[0], FILES[4], FILES[6]]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Frozen]:
    """Four: the second is the first; in the third a new version raises one artifact's success; the fourth is that."""
    folder = tmp_path_factory.mktemp("runs")
    first = make_run(folder / "one", victims=("net",), images=300, goals=(3, 5), files=SOME)
    third = after(first, folder / "three", both(flip(0.2), NEW_VERSION))
    paths = []
    for i, run in enumerate((first, first, third, third)):
        rewrite(run, run=facts_of(run) | {"commit": f"c{i}"})
        freeze(run, folder / f"{i}.json")
        paths.append(folder / f"{i}.json")
    return [read(path) for path in paths]


def test_the_run_in_which_a_cell_changed_is_named_with_its_cause(runs: list[Frozen]) -> None:
    found = history.tracks(runs)
    assert len(found) == 6  # three places, clean and patched
    changed = [track for track in found if track.first > 0]
    assert [(t.name.split(",")[0], t.kind, t.first) for t in changed] == [(f"{MOVING} on ort", "targeted", 2)]
    assert "onnxruntime version changed from 1.0 to 2.0" in changed[0].why
    values = [point.value for point in changed[0].points if point]
    assert values[0] == values[1] < values[2] == values[3]
    printed = Console(width=200, record=True, file=open("/dev/null", "w"))  # noqa: SIM115, PTH123
    printed.print(history.terminal(runs, found))
    assert printed.export_text().count("c2:") == 1


def test_a_track_has_the_rates_of_the_cells(runs: list[Frozen], tmp_path: Path) -> None:
    track = next(t for t in history.tracks(runs) if t.kind == "targeted" and t.name.startswith("net-torch"))
    root = make_run(tmp_path, victims=("net",), images=300, goals=(3, 5), files=SOME)
    records = pd.read_parquet(root / "records.parquet").query("target == 'torch'")
    clean = records[records["attack"] == "none"].set_index("image")
    right = clean[clean["pred"] == clean["label"]].index
    here = records[(records["attack"] == "gap") & records["image"].isin(right)]
    here = here[here["label"] != here["target_class"]]
    rate = here.assign(hit=here["pred"] == here["target_class"]).groupby("patch", observed=True)["hit"].mean().mean()
    assert track.points[0] is not None
    assert track.points[0].value == pytest.approx(rate)


def test_the_figure_is_one_svg_with_a_ring_at_the_change(runs: list[Frozen]) -> None:
    drawn = ElementTree.fromstring(history.figure(runs, history.tracks(runs)))
    assert drawn.tag.endswith("svg")
    texts = "".join(drawn.itertext())
    assert all(f"c{i}" in texts for i in range(4))
    assert "clean accuracy, %" in texts


def test_a_run_that_lacks_a_cell_leaves_a_gap(runs: list[Frozen], tmp_path: Path) -> None:
    first = make_run(tmp_path / "one", victims=("net",), images=60, goals=(3, 5), files=SOME)
    gone = after(first, tmp_path, lambda records, run: records[records["artifact"] != MOVING])
    found = {t.name: t for t in history.tracks([read(first), read(gone)])}
    lacking = found[f"{MOVING} on ort"]
    assert (lacking.points[1], lacking.first, lacking.why) == (None, 1, "cells disappeared or reappeared")

"""The table that a run ends with: it fits, names what is alike once, and tells in a word what failed."""

import io

import pandas as pd
import pytest
from helpers.records import FLOAT, GAP, NOISE, frame
from rich.console import Console

from harness.report.terminal import failures, table
from harness.results.entries import ErrorEntry
from harness.results.metrics import cells, summarise

LABELS = [0, 0, 2, 2]
MESSAGE = "the Python of pi@board has no onnxruntime: ssh pi@board 'python3 -m venv v && v/bin/pip install onnxruntime'"


def summary(**answers: list[int | str]) -> pd.DataFrame:
    """The summary of a run in which a patch brought these answers on each target."""
    parts = [(FLOAT, LABELS, LABELS), (FLOAT | GAP, LABELS, [1, 1, 1, 2]), (FLOAT | NOISE, LABELS, LABELS)]
    for target, preds in answers.items():
        place = {"target": target}
        parts += [(place, LABELS, LABELS), (GAP | place, LABELS, preds), (NOISE | place, LABELS, LABELS)]
    records = frame(*parts)
    return summarise(cells(records), records)


def printed(of: pd.DataFrame, width: int) -> str:
    console = Console(file=io.StringIO(), width=width)
    console.print(table(of, console))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_targets_alike_in_every_figure_share_a_row() -> None:
    alike = {name: [1, 1, 2, 2] for name in ("ort", "ort-old", "ort-new")}
    text = printed(summary(**alike, other=[1, 2, 2, 2]), 160)
    rows = [line for line in text.splitlines() if "│" in line]
    assert sum("3 targets (a)" in row for row in rows) == 1
    assert sum("other" in row for row in rows) == 1
    (listed,) = [line for line in text.splitlines() if line.startswith("a: ")]
    assert set(listed[3:].strip().split(", ")) == set(alike)


def test_what_is_no_device_says_what_it_is() -> None:
    of = summary(ort=[1, 1, 2, 2], model=[1, 1, 1, 2])
    of["fidelity"] = of["target"].map({"ort": "device", "model": "specification"}).fillna("")
    text = printed(of, 160)
    assert "model (specification)" in text
    assert "ort (" not in text


def test_a_failed_target_is_a_word_and_leaves_the_columns_their_width() -> None:
    text = printed(summary(ort=[1, 1, 2, 2], board=["error"] * 4), 160)
    (row,) = [line for line in text.splitlines() if "board" in line]
    assert "failed" in row
    assert len({len(line) for line in text.splitlines() if line[:1] in "┏┃┡│└"}) == 1
    assert "50.0\u00a0%" in text


@pytest.mark.parametrize("width", [80, 120])
def test_no_figure_is_cut_where_a_terminal_is_narrow(width: int) -> None:
    text = printed(summary(**{"onnxruntime-on-a-board-with-a-long-name": [1, 1, 2, 2]}), width)
    assert "…" not in text
    assert "onnxruntime" in text
    assert max(map(len, text.splitlines())) <= width
    assert "50.0\u00a0%" in text


def test_a_message_is_told_once_and_stays_on_a_line_of_its_own() -> None:
    errors = [
        ErrorEntry(artifact=file, target=target, case=case, message=MESSAGE)
        for target in ("board", "other")
        for file in ("net.onnx", "net2.onnx")
        for case in ("none", "gap")
    ]
    told = [text.plain.splitlines() for text in failures(errors)]
    assert told == [[f"failed: net.onnx and 1 more on {t}, 4 cases", MESSAGE] for t in ("board", "other")]

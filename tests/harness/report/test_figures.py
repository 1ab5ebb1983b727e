"""The figures of the page: no text leaves its panel, lies on another, or is cut off."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
from helpers.figure_texts import crowded
from helpers.made_run import FILES, make_run
from matplotlib.figure import Figure

from harness.report.page import build
from harness.report.waterfall import waterfall
from harness.results.lab_to_device import Chain, Link
from harness.results.stats import Difference


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Figure]]:
    """Every figure that is drawn, in order."""
    drawn: list[Figure] = []
    save = Figure.savefig

    def keep(self: Figure, *args: object, **kwargs: object) -> None:
        drawn.append(self)
        save(self, *args, **kwargs)

    monkeypatch.setattr(Figure, "savefig", keep)
    return drawn


@pytest.mark.parametrize(
    ("images", "seeds"),
    [
        (300, 2),
        (40, 2),  # few images and two seeds: intervals far longer than their bars
        (40, 1),
    ],
)
def test_no_text_leaves_its_panel(tmp_path: Path, figures: list[Figure], images: int, seeds: int) -> None:
    build(make_run(tmp_path, victims=("net",), images=images, seeds=seeds, goals=(3, 5), files=FILES[:5]))
    assert len(figures) == 6  # success, calibration, and the loss from lab to device, wide and narrow
    assert [crowded(figure) for figure in figures] == [[]] * 6


def test_an_axis_covers_every_interval_and_links_without_a_change_are_left_out(figures: list[Figure]) -> None:
    links = [link("float, PyTorch", 0.3, None)]
    links.append(link("float, in the runtime", 0.3, Difference(0.0, -0.01, 0.01, 1.0, 0.5, "images"), of=0))
    links.append(link("fake-quantized", 0.2, Difference(-0.1, -0.45, 0.25, 0.6, 0.7, "images"), of=1))
    columns = pd.Series({"attack": "gap", "surrogate": "float"})
    waterfall([Chain(columns, "targeted", 1, 100, tuple(links))], {})
    (axes,) = figures[0].axes
    low, high = axes.get_xlim()
    assert low <= 0.3 - 0.45
    assert high >= 0.3 + 0.25
    texts = [text.get_text() for text in axes.texts]
    assert "float, in the runtime" not in texts
    assert "fake-quantized" in texts
    assert "1 link without a change" in axes.get_xlabel()


def link(stage: str, success: float, change: Difference | None, of: int = -1) -> Link:
    return Link(stage, "net-onnx", "ort", of, success, success, change, change)


def test_a_text_in_the_next_panel_is_found() -> None:
    figure = Figure(figsize=(4, 2))
    left, right = figure.subplots(1, 2)
    for axes in (left, right):
        axes.set(xticks=[], yticks=[])
    left.text(1.5, 0.5, "33.0")
    assert crowded(figure) == ["'33.0' runs into another panel"]

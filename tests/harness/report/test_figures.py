"""The figures of the page: no text leaves its panel, lies on another, or is cut off."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.figure_texts import crowded
from helpers.made_run import FILES, make_run
from matplotlib.figure import Figure

from harness.report.page import build


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


def test_a_text_in_the_next_panel_is_found() -> None:
    figure = Figure(figsize=(4, 2))
    left, right = figure.subplots(1, 2)
    for axes in (left, right):
        axes.set(xticks=[], yticks=[])
    left.text(1.5, 0.5, "33.0")
    assert crowded(figure) == ["'33.0' runs into another panel"]

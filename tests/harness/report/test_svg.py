"""Figures as files: every program shows them as a browser does, on any page."""

from __future__ import annotations

import math
import re
import shutil
import subprocess
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pytest
from helpers import ROOT
from helpers.browser import screenshot
from helpers.made_run import FILES, make_run
from helpers.required import absent
from numpy.typing import NDArray
from PIL import Image

from harness.report import svg
from harness.report.page import build

COMMITTED = sorted((ROOT / "benchmarks" / "results").rglob("*.svg"))
WIDE = 400  # pixels of a figure on the sheet
ACROSS = 4
BLOCK = 8  # pixels: within one, programs draw the same text a little differently
SAME = 40  # levels of 255, by which no block differs more


class Sheet(NamedTuple):
    """A page of figures, the heights at which they are shown, and its own height."""

    html: str
    heights: list[int]
    height: int


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Every figure of a report, each saved as a file."""
    folder = tmp_path_factory.mktemp("figures")
    page = build(make_run(folder / "run", victims=("net",), images=60, goals=(3,), files=FILES[:5])).read_text()
    files = []
    for i, text in enumerate(re.findall(r"<svg .*?</svg>", page, flags=re.S)):
        files.append(folder / f"{i}.svg")
        files[-1].write_text(text)
    assert len(files) == 6
    return files


def test_a_figure_brings_its_own_paper_and_names_its_colours(drawn: list[Path]) -> None:
    for file in [*drawn, *COMMITTED]:
        text = file.read_text()
        assert not re.search(r"var\(|currentColor|prefers-color-scheme", text), file
        root = ET.fromstring(text)
        first = next(e for e in root.iter() if e.tag.endswith(("path", "rect")))
        assert (first.get("fill"), first.get("opacity"), first.get("style")) == (svg.PAPER, None, None), file


def test_on_a_page_a_figure_has_the_colours_of_the_page() -> None:
    style = svg.page_style()
    with svg.drawing(2, 1) as (figure, out):
        figure.text(0.1, 0.5, "ink", color=svg.INK)
    assert f'fill="{svg.INK}"' in out[0]
    assert f'[fill="{svg.INK}"] {{ fill: var(--ink); }}' in style


def test_a_shortened_name_is_whole_on_hover_and_no_other_is_the_same() -> None:
    long = "a network with <tags> & one long name, calibrated by "
    names = [f"{long}{'percentile ' * 3}99", f"{long}{'percentile ' * 4}99", "short"]
    assert svg.shortened(names, 12) == ["a ne… 99 (1)", "a ne… 99 (2)", "short"]
    with svg.drawing(9, 2) as (figure, out):
        axes = figure.subplots()
        for name in names:
            axes.plot([0], [0], "o", label=name)
        svg.legend(figure, axes)
    root = ET.fromstring(str(out[0]))
    assert [e.text for e in root.iter() if e.tag.endswith("title")] == names[:2]


def sheet(files: list[Path]) -> Sheet:
    heights = []
    for file in files:
        box = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', file.read_text())
        assert box
        heights.append(math.ceil(WIDE * float(box[2]) / float(box[1])))
    tallest = max(heights)
    images = [
        f'<img src="{file}" style="position: absolute; left: {i % ACROSS * WIDE}px; top: {i // ACROSS * tallest}px; '
        f'width: {WIDE}px; height: {height}px">'
        for i, (file, height) in enumerate(zip(files, heights, strict=True))
    ]
    return Sheet(f"<body>{''.join(images)}", heights, tallest * -(-len(files) // ACROSS))


def different(files: list[Path], folder: Path) -> list[str]:
    """Return the figures that rsvg-convert shows otherwise than Chromium."""
    if not shutil.which("rsvg-convert"):
        absent("rsvg", "rsvg-convert is not installed")
    html, heights, height = sheet(files)
    (folder / "sheet.html").write_text(html)
    seen = screenshot(folder / "sheet.html", folder, ACROSS * WIDE, height)
    found = []
    for i, file in enumerate(files):
        png = folder / "rsvg.png"
        subprocess.run(["rsvg-convert", "--width", str(WIDE), "--output", png, file], check=True, timeout=60)
        with Image.open(png) as picture:
            other = np.asarray(picture.convert("RGB"))[: heights[i]]
        top, left = i // ACROSS * max(heights), i % ACROSS * WIDE
        own = seen[top : top + other.shape[0], left : left + other.shape[1]]
        if np.abs(blocks(own) - blocks(other)).max() > SAME:
            found.append(file.name)
    return found


def blocks(picture: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return the mean colour of every block of a picture."""
    high, wide = (size // BLOCK for size in picture.shape[:2])
    cut = picture[: high * BLOCK, : wide * BLOCK].astype(np.float64)
    return np.asarray(cut.reshape(high, BLOCK, wide, BLOCK, 3).mean(axis=(1, 3)))


@pytest.mark.browser
def test_rsvg_convert_shows_what_chromium_shows(drawn: list[Path], tmp_path: Path) -> None:
    assert different([*drawn, *COMMITTED], tmp_path) == []


THEMED = """<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 200 100"><style>svg { --series: #0072b2 }</style>
<rect width="200" height="100" fill="#fdfdfb"/>
<rect x="40" width="80" height="50" style="fill: var(--series)"/></svg>"""


@pytest.mark.browser
def test_a_figure_that_only_a_browser_can_draw_is_found(drawn: list[Path], tmp_path: Path) -> None:
    themed = tmp_path / "themed.svg"
    themed.write_text(THEMED)
    assert different([drawn[1], themed], tmp_path) == ["themed.svg"]


def test_a_legend_of_many_lines_covers_no_axes() -> None:
    with svg.drawing(4.6, 3.0) as (figure, _):
        axes = figure.subplots()
        axes.set_title("a title", loc="left")
        for i in range(6):
            axes.plot([0, 1], [i, i], label=f"a label that is as long as a label may be, number {i}")
        svg.legend(figure, axes)
        figure.subplots_adjust(top=0.9)
    (legend,) = figure.legends
    assert axes.get_tightbbox().y1 < legend.get_window_extent().y0


def test_of_many_marks_a_hundred_are_drawn_the_extremes_among_them() -> None:
    few = pd.Series([3.0, 1.0, 2.0], ["c", "a", "b"])
    assert list(svg.spread_by_rank(few)) == ["c", "a", "b"]
    many = pd.Series(np.random.default_rng(0).permutation(1000))
    drawn = many[svg.spread_by_rank(many)]
    assert len(drawn) == 100
    assert (drawn.min(), drawn.max()) == (0, 999)
    assert drawn.diff().dropna().between(9, 11).all()

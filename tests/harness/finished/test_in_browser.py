"""The pages of finished runs in Chromium: they fit wide and narrow windows, and nothing is fetched or blocked."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.browser import probe
from helpers.edited_runs import NEW_VERSION, SOME, after, both, flip
from helpers.made_run import make_run

from harness.finished import comparison, local_pages

pytestmark = pytest.mark.browser

FIT = """
  document.querySelectorAll("details").forEach((d) => (d.open = true));
  const page = document.documentElement;
  const edges = [...document.querySelectorAll("table, svg, li, p")].map((e) => e.getBoundingClientRect().right);
  seen.wide = Math.ceil(Math.max(page.scrollWidth - innerWidth, ...edges.map((right) => right - page.clientWidth)));
  seen.fetched = performance.getEntriesByType("resource").filter((r) => !r.name.startsWith("data:")).length;
  seen.heading = document.querySelector("h1").textContent;
"""


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("runs")
    first = make_run(root / "first", victims=("net",), images=200, goals=(3, 5), files=SOME)
    after(first, root / "second", both(flip(0.2), NEW_VERSION))
    (root / "unfinished" / "store").mkdir(parents=True)
    return root


@pytest.mark.parametrize("width", [1280, 400])
def test_a_comparison_fits(runs: Path, tmp_path: Path, width: int) -> None:
    page = comparison.page(comparison.compare_runs([runs / "first", runs / "second" / "after"]))
    check(page, tmp_path, width, "1 of 6 rates changed beyond chance; 5 rest on the same answers.")


@pytest.mark.parametrize("width", [1280, 400])
def test_the_list_of_runs_fits(runs: Path, tmp_path: Path, width: int) -> None:
    check(local_pages.page(runs, "", {}), tmp_path, width, "3 runs")


def check(page: str, folder: Path, width: int, heading: str) -> None:
    seen, console = probe(page.replace("style-src", "script-src ; style-src", 1), FIT, folder, width)
    assert "CONSOLE" not in console
    assert seen == {"errors": [], "wide": 0, "fetched": 0, "heading": heading} | {"wide": min(0, seen["wide"])}

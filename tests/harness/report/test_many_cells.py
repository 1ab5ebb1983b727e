"""The table of all cells of a large run, in Chromium: every cell is found, and its row says what a small run's does."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from helpers.browser import probe
from helpers.made_run import labelled_cells, make_run

from harness.report import page as page_of_a_run
from harness.results.judged import judged
from harness.results.record_files import read_outcomes
from harness.results.run_directory import read_run

pytestmark = pytest.mark.browser

OPEN = """
  const cells = document.querySelector("#cells details");
  const body = () => cells.querySelector("tbody");
  const rows = () => [...body().rows].map((row) => row.innerText.replace(/\\s+/g, " ").trim());
  const told = () => cells.querySelector("output").textContent;
  const until = async (done) => { while (!done()) await new Promise((next) => setTimeout(next, 20)); };
  seen.packed = rows().length;
  cells.querySelector(".columns input").click();
  cells.open = true;
  await until(() => !cells.querySelector(".pager").hidden);
  const [search, number, previous, next] = cells.querySelectorAll(".pager :is(input, button)");
"""
BROWSE = (
    OPEN
    + """
  seen.summary = cells.querySelector("summary").textContent;
  seen.all = rows();
  while (!next.disabled) {
    next.click();
    seen.all.push(...rows());
  }
  seen.last = [number.value, told()];
  previous.click();
  seen.before = number.value;

  const look = (words) => {
    search.value = words;
    search.dispatchEvent(new Event("input"));
    return [rows(), told()];
  };
  seen.found = look("resnet56, moving average, LITERT-arm64, gap, ship, seed 1");
  seen.nothing = look("no such cell");
  look("");
  const form = document.forms[0];
  const choose = (name, value) => {
    form.elements[name].value = value;
    form.dispatchEvent(new Event("change"));
  };
  choose("target", "litert");
  choose("attack", "gap");
  seen.filtered = told();
  const head = [...cells.querySelectorAll("th")].find((one) => one.innerText.startsWith("targeted"));
  head.querySelector("button").click();
  head.querySelector("button").click();
  seen.sorted = [...body().rows].map((row) => parseFloat(row.cells[head.cellIndex].innerText));
  form.reset();
  await until(() => told().startsWith("of 4;"));
  seen.reset = told();
"""
)
FITS = (
    OPEN
    + """
  const page = document.documentElement;
  const boxes = [...cells.querySelectorAll("table, .pager")].map((one) => one.getBoundingClientRect());
  seen.wide = Math.max(page.scrollWidth - innerWidth, ...boxes.map((box) => Math.ceil(box.right - page.clientWidth)));
  seen.unlabelled = [...body().querySelectorAll("td")].filter((td) => !td.dataset.head).length;
"""
)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("run"))


def text(run: Path, shown: int) -> str:
    """Return the page of a run of which so many cells are few."""
    facts = read_run(run)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(page_of_a_run, "CELLS_SHOWN", shown)
        patch.setattr(page_of_a_run, "FIRST_CELLS", 10)
        return page_of_a_run.text(run, facts, judged(facts, read_outcomes(run, facts)))


@pytest.fixture(scope="module")
def page(run: Path) -> str:
    return text(run, 50)


def test_every_cell_is_found_by_page_by_search_by_filter_and_in_order(run: Path, page: str, tmp_path: Path) -> None:
    cells = labelled_cells(run)
    seen, console = probe(page, BROWSE, tmp_path, 1280)
    assert "CONSOLE" not in console
    assert seen["errors"] == []
    assert seen["packed"] == 10
    assert "cells.csv has them too" in seen["summary"]
    assert seen["last"] == ["4", f"of 4; {len(cells)} cells"]
    assert seen["before"] == "3"
    [[one], told] = seen["found"]
    assert re.match(r"resnet56 TFLite .*moving average litert-arm64 .*gap.* ship, seed 1", one)
    assert told == "of 1; 1 cells"
    assert seen["nothing"] == [[], "of 1; 0 cells"]
    chosen = cells.query("target == 'litert' and attack == 'gap'")
    assert seen["filtered"] == f"of 1; {len(chosen)} cells"
    rates = sorted((round(100 * rate, 1) for rate in chosen["targeted_success"]), reverse=True)
    assert seen["sorted"] == pytest.approx(rates, abs=0.051)
    assert seen["reset"] == f"of 4; {len(cells)} cells"


def test_each_row_says_what_it_says_in_a_small_run(run: Path, page: str, tmp_path: Path) -> None:
    read = """
      document.querySelector("#cells .columns input").click();
      document.querySelector("#cells details").open = true;
      const rows = [...document.querySelector("#cells tbody").rows];
      seen.rows = rows.map((row) => row.innerText.replace(/\\s+/g, " ").trim());
    """
    small = probe(text(run, 10_000), read, tmp_path, 1280).values["rows"]
    large = probe(page, BROWSE, tmp_path, 1280).values["all"]
    assert len(small) == len(labelled_cells(run))
    assert large == [row.replace(" -0.0", " 0.0") for row in small]


@pytest.mark.parametrize("width", [1280, 400])
def test_the_table_fits(page: str, tmp_path: Path, width: int) -> None:
    seen = probe(page, FITS, tmp_path, width).values
    assert seen["errors"] == []
    assert seen["wide"] <= 0
    assert seen["unlabelled"] == 0


def test_without_its_script_the_first_cells_are_there_and_where_all_are(page: str, tmp_path: Path) -> None:
    script = page[page.rindex("<script>") : page.rindex("</script>")]
    read = """
      document.querySelector("#cells details").open = true;
      seen.rows = [...document.querySelectorAll("#cells tbody tr")].filter((row) => row.getClientRects().length).length;
      seen.pager = document.querySelector(".pager").getClientRects().length;
      seen.summary = document.querySelector("#cells summary").textContent;
    """
    seen = probe(page.replace(script, "<script>"), read, tmp_path, 400).values
    assert (seen["rows"], seen["pager"]) == (10, 0)
    assert seen["summary"].endswith("the first 10 are shown, cells.csv has all")

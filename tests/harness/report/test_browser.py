"""The page in Chromium: nothing is fetched, blocked or broken; it fits wide and narrow windows; its controls work."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from helpers.browser import probe
from helpers.made_run import headline_of, labelled_cells, make_run

from harness.report.page import build

pytestmark = pytest.mark.browser

WHOLE = """
  const images = [...document.images];
  seen.images = images.length;
  seen.bad = images.filter((i) => !i.complete || !i.naturalWidth).length;
  seen.fetched = performance.getEntriesByType("resource").filter((r) => !r.name.startsWith("data:")).length;
  seen.heading = document.querySelector("h1").textContent;
  document.querySelectorAll("details").forEach((d) => (d.open = true));
  const page = document.documentElement;
  const tooWide = () => [page.scrollWidth - innerWidth, ...[...document.querySelectorAll("table")].map(
    (table) => Math.ceil(table.getBoundingClientRect().right - page.clientWidth))];
  seen.wide = Math.max(...tooWide());
  document.querySelectorAll(".columns input").forEach((input) => input.click());
  seen.wideWithAllColumns = Math.max(...tooWide());
  seen.unlabelled = [...document.querySelectorAll("#setup td")].filter((td) => !td.dataset.head).length;
"""
WORDS = """
  const broken = (node) => [...node.data.matchAll(/[^\\s-]+/g)].filter((word) => {
    const range = document.createRange();
    range.setStart(node, word.index);
    range.setEnd(node, word.index + word[0].length);
    return new Set([...range.getClientRects()].map((line) => Math.round(line.top))).size > 1;
  }).map((word) => word[0]);
  const names = [...document.querySelectorAll(".place span, #setup td:not(:has(small, code))")];
  seen.names = names.length;
  seen.broken = names.filter((name) => name.firstChild).flatMap((name) => broken(name.firstChild));
"""
CONTROLS = """
  document.querySelectorAll("details").forEach((d) => (d.open = true));
  const table = document.querySelector("#cells table");
  const head = [...table.tHead.rows[0].cells].findIndex((c) => c.textContent.startsWith("targeted"));
  table.tHead.rows[0].cells[head].querySelector("button").click();
  const rates = [...table.tBodies[0].rows].map((r) => parseFloat(r.cells[head].textContent)).filter((x) => !isNaN(x));
  seen.rates = rates.length;
  seen.sorted = rates.every((x, i) => !i || rates[i - 1] <= x);

  const results = document.querySelector("#results table");
  scrollTo({top: results.getBoundingClientRect().top + scrollY + 200, behavior: "instant"});
  seen.headAt = Math.round(results.tHead.rows[0].cells[1].getBoundingClientRect().top);
  seen.tableAt = Math.round(results.getBoundingClientRect().top);

  const visible = (selector) => [...document.querySelectorAll(selector)].filter((r) => r.getClientRects().length);
  seen.steps = [visible("tr.same").length];
  document.querySelectorAll(".fold input").forEach((input) => input.click());
  seen.steps.push(visible("tr.same").length, document.querySelectorAll("tr.same").length);

  const form = document.forms[0];
  seen.filters = [...form.querySelectorAll("select")].map((select) => select.name);
  const count = () => visible("#cells tbody tr").length;
  seen.rows = [count()];
  const choose = (name, value) => {
    form.elements[name].value = value;
    form.dispatchEvent(new Event("change"));
    seen.rows.push(count());
  };
  choose("target", "litert");
  choose("attack", "gap");
  choose("victim", "resnet20");
  choose("artifact", "TFLite INT8 minmax");
  seen.figures = visible("#results figure").length;
  seen.groups = visible("#results tr.group").length;
  seen.caption = document.querySelector("#cells caption").textContent;
  form.reset();
  await new Promise((done) => setTimeout(done, 50));
  seen.rows.push(count());
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def page(run: Path) -> str:
    return build(run).read_text()


@pytest.mark.parametrize("width", [1280, 400])
def test_the_page_fits_with_some_columns_and_with_all(run: Path, page: str, tmp_path: Path, width: int) -> None:
    seen, console = probe(page, WHOLE, tmp_path, width)
    assert "CONSOLE" not in console
    assert (seen["errors"], seen["images"], seen["bad"], seen["fetched"]) == ([], 26, 0, 0)
    head = headline_of(pd.read_parquet(run / "records.parquet"))
    assert seen["heading"] == f"{head.fidelity}: {head.sentence}"
    assert seen["wide"] <= 0
    assert seen["wideWithAllColumns"] <= 0
    assert seen["unlabelled"] == 0


def test_a_name_breaks_at_hyphens_alone(page: str, tmp_path: Path) -> None:
    """Also where long lists of operators and features want the room."""
    crowded = page.replace("20 QLinearConv", "20 QLinearConv, " * 9).replace("resnet20", "shapenetwork")
    seen = probe(crowded, WORDS, tmp_path, 1280).values
    assert seen["names"] > 50
    assert seen["broken"] == []


def test_controls(run: Path, page: str, tmp_path: Path) -> None:
    seen = probe(page, CONTROLS, tmp_path, 1280).values
    cells = labelled_cells(run)
    assert seen["errors"] == []
    assert (seen["sorted"], seen["rates"]) == (True, len(cells.query("target_class >= 0")))
    assert seen["tableAt"] < 0 == seen["headAt"]  # the table is scrolled, its header stays
    folded, unfolded, every = seen["steps"]
    assert (folded, unfolded) == (0, every)
    assert every > 0
    assert seen["filters"] == ["victim", "artifact", "target", "attack"]
    assert seen["rows"] == [*_counts(cells), len(cells)]
    assert (seen["figures"], seen["groups"]) == (1, 1)
    assert seen["caption"] == f"Filtered: {seen['rows'][-2]} of {len(cells)} rows."


def _counts(cells: pd.DataFrame) -> list[int]:
    """Return how many cells are left after each filter."""
    counts = [len(cells)]
    chosen: dict[str, Any] = {"target": "litert", "attack": "gap", "victim": "resnet20"}
    for column, value in (chosen | {"artifact_label": "TFLite INT8 minmax"}).items():
        cells = cells[cells[column] == value]
        counts.append(len(cells))
    return counts


def test_without_its_script_every_row_is_there_and_no_filter(page: str, tmp_path: Path) -> None:
    script = page[page.rindex("<script>") : page.rindex("</script>")]
    count = """
      const rows = [...document.querySelectorAll("#results tbody tr")];
      seen.hidden = rows.filter((r) => !r.getClientRects().length).length;
      seen.filters = document.querySelector(".filters").getClientRects().length;
      seen.wide = document.documentElement.scrollWidth - innerWidth;
    """
    seen = probe(page.replace(script, "<script>"), count, tmp_path, 400).values
    assert (seen["hidden"], seen["filters"]) == (0, 0)
    assert seen["wide"] <= 0

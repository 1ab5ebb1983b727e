"""The page in Chromium: nothing is fetched, blocked or broken, and no window is too narrow."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shutil
import subprocess
from pathlib import Path

import pandas as pd
import pytest
from helpers.made_run import headline_of, labelled_cells, make_run
from helpers.required import absent

from harness.report.page import build


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("run"))


def text_of(page: str) -> str:
    return re.sub(r"[ \n]+", " ", re.sub(r"<[^>]+>", " ", re.sub(r"<(style|script)>.*?</\1>", "", page, flags=re.S)))


PROBE = """<script>
addEventListener("error", (e) => document.body.append("ERROR " + (e.message || e.target.src)), true);
addEventListener("securitypolicyviolation", (e) => document.body.append("BLOCKED " + e.blockedURI));
addEventListener("load", () => {
  const images = [...document.images];
  const bad = images.filter((i) => !i.complete || !i.naturalWidth).length;
  document.querySelector("#cells details").open = true;
  const table = document.querySelector("table.sortable");
  const head = [...table.tHead.rows[0].cells].findIndex((c) => c.textContent.startsWith("targeted"));
  table.tHead.rows[0].cells[head].querySelector("button").click();
  const rates = [...table.tBodies[0].rows].map((r) => parseFloat(r.cells[head].textContent)).filter((x) => !isNaN(x));
  const sorted = rates.every((x, i) => !i || rates[i - 1] <= x);
  const wide = document.documentElement.scrollWidth - innerWidth;
  const fetched = performance.getEntriesByType("resource").filter((r) => !r.name.startsWith("data:")).length;
  document.title = JSON.stringify({images: images.length, bad, rates: rates.length, sorted, wide, fetched});
});
</script>"""


@pytest.mark.browser
@pytest.mark.parametrize("width", [1200, 500])
def test_in_a_real_browser(run: Path, tmp_path: Path, width: int) -> None:
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if not chromium:
        absent("browser", "chromium is not installed")
    page = build(run).read_text()
    probe = PROBE[len("<script>") : -len("</script>")]
    digest = base64.b64encode(hashlib.sha256(probe.encode()).digest()).decode()
    probed = page.replace("script-src ", f"script-src 'sha256-{digest}' ").replace("<body>", "<body>" + PROBE, 1)
    (tmp_path / "page.html").write_text(probed)
    flags = (
        "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
        f"--disable-component-update --disable-sync --enable-logging=stderr --v=0 --window-size={width},900 --dump-dom"
    ).split()
    result = subprocess.run(
        [str(chromium), *flags, f"--user-data-dir={tmp_path / 'profile'}", f"file://{tmp_path / 'page.html'}"],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    assert "CONSOLE" not in result.stderr
    assert "ERROR " not in text_of(result.stdout)
    assert "BLOCKED " not in text_of(result.stdout)
    title = re.search(r"<title>(.*?)</title>", result.stdout)
    assert title
    seen = json.loads(title[1])
    assert (seen["images"], seen["bad"], seen["fetched"], seen["sorted"]) == (26, 0, 0, True)
    assert seen["rates"] == len(labelled_cells(run).query("target_class >= 0"))
    assert seen["wide"] <= 0  # nothing but its own boxes scrolls sideways
    sentence = headline_of(pd.read_parquet(run / "records.parquet")).sentence
    assert sentence in text_of(result.stdout).replace("&nbsp;", "\u00a0")

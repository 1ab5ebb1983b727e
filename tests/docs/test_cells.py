"""The Python of the pages runs as written, from top to bottom."""

import importlib.util
import sys

import pytest
from helpers import ROOT
from helpers.own_network import make

PAGES = ("reference/python.md", "how-to/notebook.md")


@pytest.mark.slow
@pytest.mark.parametrize("name", PAGES)
def test_the_cells_of_a_page_run_as_written(tmp_path, monkeypatch, one_thread, name):
    spec = importlib.util.spec_from_file_location("cells", ROOT / "docs" / "cells.py")
    cells = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(cells)
    folder = make(tmp_path / "own")
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(str(folder))
    page = ROOT / "docs" / "pages" / name
    said = cells.run(page)
    sys.modules.pop("network")
    assert len(said) == page.read_text().count("<!-- output:")
    assert all(said.values())

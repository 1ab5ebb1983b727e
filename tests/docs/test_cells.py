"""The Python of the pages runs as written, from top to bottom."""

import importlib.util
import sys

import pytest
from helpers import ROOT, libraries_page
from helpers.own_network import make
from helpers.peers import peers

PAGES = ("reference/python.md", "how-to/notebook.md")


def said_on(name):
    """What the cells of a page print whose output it shows."""
    spec = importlib.util.spec_from_file_location("cells", ROOT / "docs" / "cells.py")
    cells = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(cells)
    page = ROOT / "docs" / "pages" / name
    said = cells.run(page)
    assert len(said) == page.read_text().count("<!-- output:")
    assert all(said.values())
    return said


@pytest.mark.slow
@pytest.mark.parametrize("name", PAGES)
def test_the_cells_of_a_page_run_as_written(tmp_path, monkeypatch, one_thread, name):
    folder = make(tmp_path / "own")
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(str(folder))
    said_on(name)
    sys.modules.pop("network")


@pytest.mark.data
def test_attack_libraries_find_the_same_on_a_vendors_file_and_on_its_runtime(
    tmp_path, monkeypatch, one_thread, data_dir
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(peers()))
    libraries_page.prepare(data_dir)
    said = "".join(said_on("how-to/libraries.md").values())
    assert said.count("same answers") == said.count("same answers 100%") == 6

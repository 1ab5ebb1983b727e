"""What the README and the pages quote and name is true."""

import importlib.util
import re
from pathlib import Path

import pytest
from helpers import ROOT

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs" / "pages").rglob("*.md"))]
PACKAGES = ("backends", "exporters", "patches", "harness")
README = (ROOT / "README.md").read_text()


def test_the_readme_is_one_page():
    assert len(README.splitlines()) <= 150


def test_every_line_of_the_table_of_folders_is_a_folder_and_every_folder_has_one():
    table = README.split("<!-- folders -->")[1].split("<!-- /folders -->")[0]
    named = re.findall(r"^\| `([\w/]+)/` \|", table, re.MULTILINE)
    assert [name for name in named if not (ROOT / name).is_dir()] == []
    found = {str(file.parent.relative_to(ROOT)) for package in PACKAGES for file in (ROOT / package).rglob("*.py")}
    assert found - set(named) == set()


def test_the_table_of_folders_names_files_that_are_there():
    table = README.split("<!-- folders -->")[1].split("<!-- /folders -->")[0]
    for folder, text in re.findall(r"^\| `([\w/]+)/` \| (.*) \|$", table, re.MULTILINE):
        for name in re.findall(r"`(\w+\.py)`", text):
            assert (ROOT / folder / name).is_file(), f"{folder}/{name}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_quoted_files_are_up_to_date(page: Path):
    spec = importlib.util.spec_from_file_location("record", ROOT / "docs" / "record.py")
    record = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(record)
    text = page.read_text()
    assert record.QUOTED.sub(lambda found: record.filled(found, {}), text) == text, "run python docs/record.py"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_modules_named_on_a_page_are_there(page: Path):
    named = re.findall(r"`((?:backends|exporters|patches|harness|benchmarks|tests|docs)/[\w./-]+)`", page.read_text())
    assert [name for name in named if "NAME" not in name and not (ROOT / name).exists()] == []

"""What people named comes out as they named it, whatever rich could make of it."""

import ast
import io
from pathlib import Path

import pytest
from helpers import ROOT
from rich.table import Table

from harness.console import console
from harness.display import Display

NAMES = ("[red]net[/]", "a:smile:b", ":warning:", "[/]", "[link=file:///]x", "\\[bold]")
MAKERS = {"Console", "Text.from_markup", "escape"}  # of rich


@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_printed_as_it_stands(name: str) -> None:
    out = console(100, io.StringIO())
    out.print(name)
    table = Table(name, title=name)
    table.add_row(name)
    out.print(table)
    assert out.file.getvalue().count(name) == 4


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("terminal", [False, True])
def test_progress_is_told_as_it_stands(name: str, terminal: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1" if terminal else "")
    out = console(100, io.StringIO())
    assert out.is_terminal == terminal
    with Display(out).doing("train", name) as tick:
        tick(1, 2, name)
    with Display(out).preparing("prepare", name) as tell:
        tell(name)
    assert out.file.getvalue().count(name) >= 2


@pytest.mark.parametrize("folder", ["harness", "benchmarks", "backends", "exporters", "patches", "docs"])
def test_one_place_makes_consoles(folder: str) -> None:
    found = set()
    for path in (ROOT / folder).rglob("*.py"):
        calls = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
        found |= {path.relative_to(ROOT) for call in calls if ast.unparse(call.func) in MAKERS}
    assert found <= {Path("harness/console.py")}

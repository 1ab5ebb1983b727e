"""The generated pages say all that the code knows."""

import json
import sys

import pytest
from helpers import ROOT
from mkdocs.exceptions import PluginError
from pydantic import BaseModel
from typer.main import get_command

from backends.device import runtimes
from backends.device.names import modules
from harness import config
from harness.cli.app import app
from harness.gate import rules
from patches.attacks import options

TABLES = [table for table in vars(config).values() if isinstance(table, type) and issubclass(table, BaseModel)]
RULES = [rules.Rules, rules.CompareTable, rules.LimitTable]


@pytest.fixture
def hooks(monkeypatch):
    """The folder of the hooks, whose modules import each other."""
    monkeypatch.syspath_prepend(str(ROOT / "docs" / "hooks"))
    yield
    for name in ("suite_page", "attacks_page", "cli_page", "runtimes_page", "results"):
        sys.modules.pop(name, None)


@pytest.mark.parametrize("table", [*TABLES, *RULES], ids=lambda table: table.__name__)
def test_every_key_of_a_suite_has_a_meaning(table):
    assert [name for name, field in table.model_fields.items() if not field.description] == []
    assert table.__doc__


def test_the_page_of_suite_keys_has_every_key_and_default(hooks):
    import suite_page

    page = suite_page.suite()
    for table in TABLES:
        for name, field in table.model_fields.items():
            assert f"| `{field.alias or name}` |" in page
    assert "| `batch` | integer ≥ 2 | `64` | Images per step. |" in page
    assert "## `[[export]]`" in page
    assert "## `[export.qat]`" in page


@pytest.mark.parametrize("attack", ["gap", "lavan", "pgd", "sparse_rs"])
def test_the_page_of_attacks_has_every_option_and_its_default(hooks, attack):
    import attacks_page

    section = attacks_page.page().partition(f"## `{attack}`")[2]
    for option, default in options(attack, {}).items():
        row = section.partition(f"| `{option}` | `{json.dumps(default)}` |")[2].partition("\n")[0]
        assert row.strip(" |"), f"{option} has no meaning"


@pytest.mark.parametrize("name", sorted({*modules(runtimes.__path__)} - {"dummy"}))
def test_the_page_of_runtimes_has_each_with_its_options(hooks, name):
    import runtimes_page

    section = runtimes_page.page().partition(f"## `{name}`")[2].partition("\n## ")[0]
    assert f"package `{runtimes.engine(name).package}`" in section
    for option, values in getattr(runtimes.engine(name), "options", {}).items():
        row = section.partition(f"| `{option}` | ")[2].partition(" |")[0]
        assert all(str(value) in row for value in (values[0], values[-1]))


def test_the_page_of_commands_has_every_command(hooks):
    import cli_page

    page = cli_page.page()
    for name in get_command(app).commands:
        assert f"## `patchbench {name}`" in page


def test_a_page_that_asks_for_results_gets_them_or_ends_the_build(hooks):
    import results

    table = (ROOT / "benchmarks/results/trust/kill.md").read_text()
    assert results.on_page_markdown("before\n<!-- results: trust/kill.md -->\nafter") == f"before\n{table}\nafter"
    with pytest.raises(PluginError, match=r"trust/gone\.md"):
        results.on_page_markdown("<!-- results: trust/gone.md -->")

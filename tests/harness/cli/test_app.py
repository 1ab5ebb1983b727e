"""The commands, together."""

import click
import pytest
import typer
from typer.testing import CliRunner

from harness.cli import app as cli

ROOT = typer.main.get_command(cli.app)
COMMANDS = ROOT.list_commands(click.Context(ROOT))


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_shows_an_example(command):
    shown = CliRunner().invoke(cli.app, [command, "--help"])
    assert shown.exit_code == 0
    assert f"patchbench {command} " in shown.output.split("Examples:")[1]

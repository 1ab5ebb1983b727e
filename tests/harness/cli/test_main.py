"""The entry point, whatever the command."""

import sys

import click
import pytest
import typer
from typer.testing import CliRunner

from harness.cli import main as cli

ROOT = typer.main.get_command(cli.app)
COMMANDS = ROOT.list_commands(click.Context(ROOT))


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_shows_an_example(command):
    shown = CliRunner().invoke(cli.app, [command, "--help"])
    assert shown.exit_code == 0
    assert f"patchbench {command} " in shown.output.split("Examples:")[1]


def test_a_full_disk_is_one_message(monkeypatch, capsys):
    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("harness.run.run.write_results", full)
    monkeypatch.setattr(sys, "argv", ["patchbench", "report", "out/demo"])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code == 2
    assert "No space left on device. Finished work is kept" in capsys.readouterr().err


def test_ctrl_c_says_that_finished_work_is_kept(monkeypatch, capsys):
    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr("harness.run.run.run_suite", interrupted)
    monkeypatch.setattr(sys, "argv", ["patchbench", "run", "suite.toml"])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code == 130
    assert "run the same command to resume" in capsys.readouterr().err

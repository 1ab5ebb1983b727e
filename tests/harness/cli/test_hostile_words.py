"""Every argument and option of every command, given what nobody should give it: never a traceback."""

from collections.abc import Iterator
from pathlib import Path

import click
import pytest
import typer
from helpers import tiny
from helpers.suites import write
from typer.testing import CliRunner

from harness.cli import endings
from harness.cli.app import app

VALUES = (
    "", "\0", "x" * 300, "x" * 5000, "-x", "../..", "/", "/dev/null", "[red]", ":smile:", "\x1b[31m", "nan", "-1",
    "9" * 30, "a=b", "\udcff",
)  # fmt: skip
# What each command is given besides: it comes far, and ends before it works.
USUAL = {
    "run": ["suite.toml", "--targets", "none"],
    "study": ["suite.toml", "--only", "none"],
    "report": ["nowhere"],
    "train": ["suite.toml", "--into", "into", "--only", "none"],
    "export": ["suite.toml", "--into", "into", "--only", "none"],
    "craft": ["suite.toml", "--into", "into", "--only", "none"],
    "bundle": ["suite.toml", "--artifact", "a.json", "--into", "into"],
    "replay": ["bundle", "--runtime", "none", "--into", "into"],
    "inspect": ["m.onnx"],
    "targets": ["suite.toml"],
    "twin": ["m.onnx", "--kernels", "none"],
    "baseline": ["nowhere", "--into", "into.json"],
    "gate": ["nowhere"],
    "history": ["nowhere", "nowhere"],
    "compare": ["nowhere", "nowhere"],
    "verify": ["nowhere"],
    "view": ["nowhere", "--port", "none"],
    "init": ["new.toml", "--kind", "network", "--force"],
    "suites": ["nothing"],
    "board check": ["-"],
    "board compare": ["none", "-", "--suite", "suite.toml"],
    "pack": ["suite.toml", "none", "--into", "into"],
    "take": ["nowhere", "nowhere"],
}
COMMANDS: dict[str, click.Command] = typer.main.get_command(app).commands  # type: ignore[attr-defined]
COMMANDS |= {f"board {name}": command for name, command in COMMANDS.pop("board").commands.items()}  # type: ignore[attr-defined]
PARAMETERS = [(name, option) for name, command in COMMANDS.items() for option in command.params]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    here = tmp_path_factory.mktemp("hostile")
    write(here)
    tiny.bundle(here / "bundle", tiny.onnx_file(here / "m.onnx"))
    return here


@pytest.mark.slow
@pytest.mark.parametrize(("name", "option"), PARAMETERS, ids=[f"{name} {option.name}" for name, option in PARAMETERS])
def test_a_hostile_word_is_one_message(
    folder: Path, name: str, option: click.Parameter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    said: list[str] = []
    monkeypatch.setattr(endings, "fail", said.append)
    usual = USUAL[name]
    for value in VALUES:
        given = [*usual, f"{max(option.opts, key=len)}={value}"]
        if isinstance(option, click.Argument):
            given = [*usual[1:], "--", value]
        ended = CliRunner().invoke(app, [*name.split(), *given])
        if ended.exception is None or isinstance(ended.exception, SystemExit):
            assert ended.exit_code in (0, 2), value[:20]
        else:
            assert endings.explain(ended.exception) == 2, value[:20]
            assert said.pop()

"""What ships is listed and printed, runs by name, and a shell completes it."""

import io
import subprocess
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest
from helpers import ROOT
from helpers.command import environ, patchbench
from typer.testing import CliRunner

from harness.cli.app import app
from harness.cli.suites import print_suite
from harness.config import read_suite
from harness.console import console
from harness.shipped import shipped_suites


def test_the_version_is_that_of_the_package() -> None:
    shown = CliRunner().invoke(app, ["--version"])
    assert (shown.exit_code, shown.output) == (0, f"patchbench {version('patchbench')}\n")


@pytest.mark.parametrize("columns", [80, 120])
def test_every_suite_is_listed_with_its_title_and_the_command_that_runs_it(columns: int) -> None:
    out = console(columns, io.StringIO())
    for name, file in shipped_suites().items():
        print_suite(name, read_suite(file), out)
    shown = out.file.getvalue()
    assert max(map(len, shown.splitlines())) <= columns
    words = " ".join(shown.split())
    for file in shipped_suites().values():
        assert tomllib.loads(file.read_text())["title"] in words
    assert "patchbench run demo A universal" in words
    assert "patchbench study study-digits The study" in words
    assert "patchbench run gate The demo's files" in words  # which ship beside it
    assert "patchbench run targets --data DIR The same" in words
    assert "needs docker, qemu, ssh" in words
    assert "DIR has the images of cifar10, cifar10/resnet20.th, cifar10/resnet56.th" in words


def test_the_command_lists_all_of_them() -> None:
    shown = CliRunner().invoke(app, ["suites"]).output
    assert [name for name in shipped_suites() if f" {name} " not in shown and f" {name}\n" not in shown] == []


def test_a_suites_text_is_printed_as_it_stands() -> None:
    text = (ROOT / "benchmarks" / "suites" / "demo.toml").read_text()
    assert CliRunner().invoke(app, ["suites", "demo"]).output == text


def test_targets_without_a_suite_lists_every_runtime() -> None:
    shown = CliRunner().invoke(app, ["targets"]).output
    files = [file.stem for file in (ROOT / "backends/device/runtimes").glob("[a-z]*.py")]
    assert [name for name in files if f" {name} " not in shown] == ["dummy"]
    assert "--accept-licence rockchip" in " ".join(shown.replace("│", " ").split())


def test_the_list_of_suites_names_the_licences_that_they_need() -> None:
    shown = " ".join(CliRunner().invoke(app, ["suites"]).output.split())
    assert "patchbench run npus --data DIR --accept-licence qualcomm --accept-licence rockchip Does the NPU" in shown


@pytest.mark.slow
def test_a_suite_is_taken_by_its_name_from_anywhere(tmp_path: Path) -> None:
    done = patchbench("targets", "demo", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "onnxruntime" in done.stdout
    done = patchbench("run", "dmo", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (2, "error: no suite named 'dmo'; did you mean 'demo'?\n")


def completions(folder: Path, *words: str) -> list[str]:
    """What bash is offered for the last word."""
    asked = environ(_PATCHBENCH_COMPLETE="complete_bash", COMP_WORDS=" ".join(words), COMP_CWORD=str(len(words) - 1))
    command = [sys.executable, "-m", "harness.cli"]
    return subprocess.run(command, cwd=folder, env=asked, capture_output=True, text=True, check=True).stdout.split()


@pytest.mark.slow
def test_a_shell_completes_suites_and_finished_runs(tmp_path: Path) -> None:
    (tmp_path / "out" / "mine").mkdir(parents=True)
    (tmp_path / "out" / "mine" / "run.json").touch()
    (tmp_path / "out" / "unfinished").mkdir()
    assert "gate" in completions(tmp_path, "patchbench", "ga")
    assert completions(tmp_path, "patchbench", "run", "study-d") == ["study-defence", "study-digits"]
    assert completions(tmp_path, "patchbench", "run", "mine.to") == []
    assert completions(tmp_path, "patchbench", "report", "out/") == ["out/mine"]

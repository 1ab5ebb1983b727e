"""Every command on a page can be given: its options exist, and so do the files of this repository that it names."""

import re
import shlex
import tomllib

import pytest
import typer
from helpers import ROOT
from packaging.requirements import Requirement
from typer.main import get_command

from backends.conformance import __main__ as conformance
from harness.cli.app import app

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs" / "pages").rglob("*.md"))]
BLOCK = re.compile(r"```(?:sh|console)[^\n]*\n(.*?)```", re.DOTALL)
HERE = ("benchmarks/", "docs/", "tests/")
# What a reader brings, or an earlier command of the same page wrote.
THEIRS = re.compile(
    r"(s3://)?MY-.*|\.|\.\.|~.*|(out|shared|models|patches|weights|bundle|pack|answers|baselines|vendor)(/.*)?|"
    r"(model\.tflite|suite\.toml|comment\.md|junit\.xml|verdict\.json|history\.svg|compare\.html)"
)
COMMANDS = get_command(app).commands
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"].keys()
# Programs of the system and modules of others, which nothing here can check.
MODULES_ELSEWHERE = ("tf2onnx.convert",)
ELSEWHERE = ("git", "cd", "cp", "apt-get", "ssh-keygen", "minisign", "cosign")


def lines():
    for page in PAGES:
        for block in BLOCK.findall(page.read_text()):
            is_session = block.startswith("$ ")
            for line in block.splitlines():
                if line.strip() and (line.startswith("$ ") or not is_session):
                    yield pytest.param(line.removeprefix("$ "), id=f"{page.relative_to(ROOT)}: {line[:60]}")


@pytest.mark.parametrize("line", lines())
def test_a_command_can_be_given(line: str):
    words = shlex.split(line, comments=True)
    while words and "=" in words[0]:
        words = words[1:]
    if ">" in words:
        words = words[: words.index(">")]
    program, *arguments = words
    if program.endswith("patchbench"):
        patchbench(arguments)
    elif program == "make":
        targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
        assert set(arguments) <= set(targets)
    elif program.endswith("python"):
        python(arguments)
    elif program == "pip":
        assert Requirement(arguments[1]).extras <= EXTRAS
    else:
        assert program in ELSEWHERE


def patchbench(arguments: list[str]) -> None:
    name, *others = arguments
    command = COMMANDS[name]
    command.make_context(name, list(others), parent=typer.Context(get_command(app)))
    named = [word for word in others if "/" in word and not word.startswith("-")]
    ours = [word for word in named if word.startswith(HERE)]
    assert [word for word in ours if not (ROOT / word).exists()] == []
    assert [word for word in named if word not in ours and not THEIRS.fullmatch(word)] == []


def python(arguments: list[str]) -> None:
    if arguments[:2] == ["-m", "backends.conformance"]:
        conformance.parse(arguments[2])
    elif arguments[0] == "-m":
        assert arguments[1] in MODULES_ELSEWHERE
    else:
        assert arguments[0] == "prepare.py" or (ROOT / arguments[0]).is_file()

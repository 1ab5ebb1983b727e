"""Commands for writing suites: ``suites`` lists those that ship, ``schema`` tells an editor the keys."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console, Group
from rich.padding import Padding
from rich.text import Text

from harness.cli.options import examples, suite_names
from harness.console import console
from harness.shipped import shipped_suites, suite_file

if TYPE_CHECKING:
    from harness.config import Suite

PANEL = "Write a suite"
INDENT = 4
app = typer.Typer()


@app.command(
    rich_help_panel=PANEL,
    epilog=examples("patchbench suites", "patchbench suites demo > mine.toml", "patchbench run demo"),
)
def suites(
    name: Annotated[
        str | None,
        typer.Argument(metavar="NAME", autocompletion=suite_names, help="Print this suite's text, to start from."),
    ] = None,
) -> None:
    """List the suites that ship with patchbench, what each needs, and how to run it.

    Wherever a command takes a suite, a bare word is the name of one of these, and a word that ends in `.toml` or has a
    slash is a file of yours.
    """
    from harness.config import read_suite

    out = console()
    if name:
        print(suite_file(name).read_text(), end="")
        return
    for word, file in shipped_suites().items():
        print_suite(word, read_suite(file), out)


@app.command(rich_help_panel=PANEL, epilog=examples("patchbench schema > suite.schema.json"))
def schema() -> None:
    """Print the JSON Schema of suites: an editor then completes keys, says what they mean, and marks mistakes.

    Even Better TOML and Taplo read it where a suite's first line is `#:schema suite.schema.json`.
    """
    from harness.config.schema import suite_schema

    print(json.dumps(suite_schema(), indent=2))


def print_suite(name: str, suite: Suite, out: Console) -> None:
    """Print the command that runs a suite, its title, and what it needs."""
    files = list(files_needed(suite))
    hosts = sorted({target.host for target in suite.target} - {"local"})
    verb = "study" if "study" in suite.model_fields_set else "run"
    options = " --data DIR" if files else ""
    options += "".join(f" --accept-licence {licence}" for licence in licences_needed(suite))
    out.print(Text.assemble(f"patchbench {verb} ", (name, "bold"), options), highlight=False)
    lines = [Text(suite.title)]
    if files:
        lines.append(Text(f"DIR has {', '.join(files)}", "dim"))
    if hosts:
        lines.append(Text(f"needs {', '.join(hosts)}", "dim"))
    out.print(Padding(Group(*lines), (0, 0, 1, INDENT), expand=False))


def licences_needed(suite: Suite) -> list[str]:
    """Return the names of the licences that a suite's targets and exports ask to accept."""
    from backends.device.runtimes import engine
    from backends.device.toolchains import needed
    from backends.licences import OF_PACKAGES

    packages = {engine(target.runtime).package for target in suite.target}
    for export in suite.export:
        made_by = [needed(form, calibration) for form in export.format for calibration in export.calibration]
        packages |= {toolchain.package for toolchain in made_by if toolchain}
    return sorted({OF_PACKAGES[package] for package in packages if package in OF_PACKAGES})


def files_needed(suite: Suite) -> Iterator[str]:
    """Yield what a suite reads from ``--data``: its images, weights, model files and pictures."""
    if suite.files:
        return
    if suite.data.name != "digits":
        yield suite.data.path or f"the images of {suite.data.name}"
    for victim in suite.victim:
        if victim.weights and "/" in victim.weights and "://" not in victim.weights:
            yield victim.weights
    yield from (artifact.file for artifact in suite.artifact)
    for attack in suite.attack:
        yield from (str(attack.options[key]) for key in ("file", "disguise") if key in attack.options)

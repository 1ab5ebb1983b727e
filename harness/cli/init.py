"""The command ``init``: write a commented suite for a network or a file of the user's, or for digits."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from string import Template
from typing import Annotated, NamedTuple

import typer

from backends.device.errors import UserError
from harness.cli.asking import foreground
from harness.cli.options import examples
from harness.cli.suites import PANEL
from harness.console import console

TEMPLATES = Path(__file__).parent / "templates"
SIZE = "224"
app = typer.Typer()


class Kind(StrEnum):
    """What a suite attacks."""

    NETWORK = "network"
    FILE = "file"
    DIGITS = "digits"


class Question(NamedTuple):
    """What is asked on a terminal, and the placeholder, or the value, of a suite until it is known."""

    text: str
    until: str


QUESTIONS = {
    "model": Question("Function that builds the network", "<your package.module:function>"),
    "weights": Question("Its weights, under --data", "<your weights.pth>"),
    "file": Question("Model file, under --data", "<your model.tflite>"),
    "images": Question("Images, a folder per class, under --data", "<your folder of images>"),
    "size": Question("Side of the input, in pixels", SIZE),
}
ASKED = {Kind.NETWORK: ("model", "weights", "images", "size"), Kind.FILE: ("file", "images", "size"), Kind.DIGITS: ()}


@app.command(
    rich_help_panel=PANEL,
    epilog=examples(
        "patchbench init",
        "patchbench init mine.toml --kind network --model my_package.my_module:make --weights w.pth --images photos",
        "patchbench init theirs.toml --kind file --file vendor.tflite --images photos --size 96",
        "patchbench init first.toml --kind digits",
    ),
)
def init(
    into: Annotated[Path, typer.Argument(metavar="SUITE", help="File to write.")] = Path("suite.toml"),
    kind: Annotated[Kind | None, typer.Option(help="Attack a network of yours, a model file, or digits.")] = None,
    model: Annotated[
        str | None, typer.Option(metavar="MODULE:FUNCTION", help="What builds the network, for `network`.")
    ] = None,
    weights: Annotated[
        str | None, typer.Option(metavar="FILE", help="Its weights, under `--data`, for `network`.")
    ] = None,
    file: Annotated[
        str | None, typer.Option(metavar="FILE", help="The .onnx or .tflite, under `--data`, for `file`.")
    ] = None,
    images: Annotated[
        str | None, typer.Option(metavar="DIR", help="Images, a folder per class, under `--data`.")
    ] = None,
    size: Annotated[
        int | None, typer.Option(min=1, metavar="PIXELS", help=f"Side of the input [default: {SIZE}].")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a file that exists.")] = False,
) -> None:
    """Write a commented suite: for a network of yours, for a model file, or for digits, which need nothing.

    On a terminal it asks for what no option says. Elsewhere a placeholder stands in the suite, and `run` names what is
    to be filled in.
    """
    from harness.store import write_text

    if into.exists() and not force:
        raise UserError(f"{into}: already exists; give another name, or --force to replace it")
    options = {"model": model, "weights": weights, "file": file, "images": images, "size": str(size) if size else None}
    given = {name: value for name, value in options.items() if value is not None}
    if sys.stdin and sys.stdin.isatty() and sys.stdout.isatty():
        with foreground():
            kind = kind or Kind(typer.prompt("What to attack", type=Kind))
            given |= {name: _ask(name) for name in ASKED[kind] if name not in given}
    if kind is None:
        raise UserError(f"--kind: expected one of {', '.join(Kind)}")
    write_text(into, compose(kind, into.stem, given))
    _say_what_is_next(into, kind, given)


def compose(kind: Kind, name: str, given: Mapping[str, str]) -> str:
    """Return a suite's text, with placeholders for what is not given."""
    if surplus := sorted(set(given) - set(ASKED[kind])):
        raise UserError(f"--{surplus[0]}: a suite for {kind} has none; it has {', '.join(ASKED[kind]) or 'no options'}")
    for key, value in given.items():
        if not value.isprintable():
            raise UserError(f"--{key}: expected a text without control characters, got {value!r:.100}")
    values = {key: given.get(key, QUESTIONS[key].until) for key in ASKED[kind]}
    values["name"] = re.sub(r"[^A-Za-z0-9_.-]", "-", name).lstrip("_.-")[:100] or "suite"
    values["runtime"] = "onnxruntime" if values.get("file", "").endswith(".onnx") else "litert"
    quoted = {key: json.dumps(value, ensure_ascii=False) for key, value in values.items()}
    text = (TEMPLATES / f"{kind}.toml").read_text()
    return Template(text).substitute(quoted | {"size": values.get("size", "")})


def _ask(name: str) -> str:
    question = QUESTIONS[name]
    if name == "size":
        return str(typer.prompt(question.text, default=int(SIZE)))
    return str(typer.prompt(question.text, default=question.until))


def _say_what_is_next(into: Path, kind: Kind, given: Mapping[str, str]) -> None:
    left = [name for name in ASKED[kind] if given.get(name, QUESTIONS[name].until).startswith("<your ")]
    data = "" if kind is Kind.DIGITS else " --data DIR"
    out = console()
    out.print(f"{into}: written" + (f"; fill in {', '.join(left)}" if left else ""), soft_wrap=True)
    out.print(f"then: patchbench run {into}{data}", soft_wrap=True)

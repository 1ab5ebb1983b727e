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
from backends.device.toolchains import OF_FORMATS
from harness.cli.asking import foreground
from harness.cli.options import DataDir, examples
from harness.cli.suites import PANEL
from harness.console import console
from harness.run.trial import RUNTIMES

WITH_BACKGROUND = 1001  # outputs: the classes of ImageNet, behind one for "background"
TEMPLATES = Path(__file__).parent / "templates"
READERS = RUNTIMES | {f".{format}": one.module for format, one in OF_FORMATS.items()}
SIDE = 224
COLUMN = 27  # where comments begin at the earliest
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


NOTHING: Mapping[str, object] = {}
QUESTIONS = {
    "model": Question("Function that builds the network", "<your package.module:function>"),
    "weights": Question("Its weights, under --data", "<your weights.pth>"),
    "file": Question("Model file, under --data", "<your model.tflite>"),
    "images": Question("Images, a folder per class, under --data", "<your folder of images>"),
    "size": Question("Side of the input, in pixels", "<your [height, width]>"),
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
        str | None, typer.Option(metavar="FILE", help="The model file, under `--data`, for `file`.")
    ] = None,
    images: Annotated[
        str | None, typer.Option(metavar="DIR", help="Images, a folder per class, under `--data`.")
    ] = None,
    size: Annotated[
        int | None, typer.Option(min=1, metavar="PIXELS", help="Side of the input [default: the file's own].")
    ] = None,
    data: DataDir = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a file that exists.")] = False,
) -> None:
    """Write a commented suite: for a network of yours, for a model file, or for digits, which need nothing.

    On a terminal it asks for what no option says. Elsewhere a placeholder stands in the suite, and `run` names what is
    to be filled in. A model file that lies under `--data` says itself how large its images are.
    """
    from harness.store import write_text

    if into.exists() and not force:
        raise UserError(f"{into}: already exists; give another name, or --force to replace it")
    options = {"model": model, "weights": weights, "file": file, "images": images, "size": str(size) if size else None}
    given = {name: value for name, value in options.items() if value is not None}
    if sys.stdin and sys.stdin.isatty() and sys.stdout.isatty():
        with foreground():
            kind = kind or Kind(typer.prompt("What to attack", type=Kind))
            for name in ASKED[kind]:
                if name not in given and not (name == "size" and _read_file(given, data)):
                    given[name] = _ask(name)
    if kind is None:
        raise UserError(f"--kind: expected one of {', '.join(Kind)}")
    text = compose(kind, into.stem, given, _read_file(given, data))
    write_text(into, text)
    _say_what_is_next(into, kind, text)


def compose(kind: Kind, name: str, given: Mapping[str, str], found: Mapping[str, object] = NOTHING) -> str:
    """Return a suite's text, with placeholders for what is neither given nor was `found` in a model file."""
    if surplus := sorted(set(given) - set(ASKED[kind])):
        raise UserError(f"--{surplus[0]}: a suite for {kind} has none; it has {', '.join(ASKED[kind]) or 'no options'}")
    for key, value in given.items():
        if not value.isprintable():
            raise UserError(f"--{key}: expected a text without control characters, got {value!r:.100}")
    values: dict[str, object] = {key: given.get(key, QUESTIONS[key].until) for key in ASKED[kind]}
    if "size" in given:
        values["size"] = [int(given["size"])] * 2
    values |= {"divisor": 255, "mean": "<your mean of each channel>", "std": "<your std of each channel>"}
    values |= {"class_offset": 0, "output_kind": "logits", **found}
    values["name"] = re.sub(r"[^A-Za-z0-9_.-]", "-", name).lstrip("_.-")[:100] or "suite"
    values["runtime"] = READERS.get(Path(given.get("file", "")).suffix, "litert")
    quoted = {key: json.dumps(value, ensure_ascii=False) for key, value in values.items()}
    return _filled((TEMPLATES / f"{kind}.toml").read_text(), quoted)


def _filled(text: str, values: Mapping[str, str]) -> str:
    """Fill in a template; the comments of neighbouring lines begin in one column."""
    blocks = []
    for block in text.split("\n\n"):
        parts = [line.partition("  #") for line in block.splitlines()]
        codes = [Template(code).substitute(values).rstrip() for code, _, _ in parts]
        notes = [Template(note).substitute() for _, _, note in parts]
        column = max([COLUMN, *(len(code) for code, note in zip(codes, notes, strict=True) if note)])
        lines = (f"{code:<{column}}  #{note}" if note else code for code, note in zip(codes, notes, strict=True))
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks) + "\n"


def _read_file(given: Mapping[str, str], data_dir: Path | None) -> dict[str, object]:
    """Return what a model file says: its images' size, where it takes integers their preprocessing, its last layer."""
    file = (data_dir or Path()) / given.get("file", "")
    if not file.is_file():
        return {}
    from exporters.files import describe
    from exporters.files.description import MOVERS, QUANTIZERS
    from exporters.files.image_input import guess_preproc, image_axes, image_layout
    from exporters.sidecar import description_beside

    description = describe(file)
    layout = image_layout(description)
    size = image_axes(description, layout)
    found: dict[str, object] = {"size": size} if min(size) > 0 and "size" not in given else {}
    computing = [operator.name for operator in description.executed if operator.name not in QUANTIZERS | MOVERS]
    found["output_kind"] = "softmax" if computing[-1:] and computing[-1].casefold() == "softmax" else "logits"
    if description.outputs[0].shape and description.outputs[0].shape[-1] == WITH_BACKGROUND:
        found["class_offset"] = 1
    beside = description_beside(file)
    if beside or description.inputs[0].dtype in ("int8", "uint8"):
        preproc = beside.preproc if beside else guess_preproc(description, layout)
        found |= {"divisor": preproc.divisor, "mean": preproc.mean, "std": preproc.std}
    return found


def _ask(name: str) -> str:
    question = QUESTIONS[name]
    if name == "size":
        return str(typer.prompt(question.text, default=SIDE))
    return str(typer.prompt(question.text, default=question.until))


def _say_what_is_next(into: Path, kind: Kind, text: str) -> None:
    left = re.findall(r'^(\w+) = "<your ', text, re.MULTILINE)
    data = "" if kind is Kind.DIGITS else " --data DIR"
    out = console()
    out.print(f"{into}: written" + (f"; fill in {', '.join(left)}" if left else ""), soft_wrap=True)
    out.print(f"then: patchbench run {into}{data}", soft_wrap=True)

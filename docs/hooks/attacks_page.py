"""The page of the attacks, written from the signatures and docstrings of their functions."""

import json
import math
from pathlib import Path

import griffe

from patches import attacks

ROOT = Path(__file__).parents[2]
HEAD = """# Attacks and their options

`name` in an `[[attack]]` table is one of these, and `options` takes the options listed with it. This page is generated
from the functions in `patches/attacks/`; [Choose an attack](../how-to/attacks.md) says which one to use when.
"""
COMMON = """
## Options of every gradient attack

| option | default | meaning |
|---|---|---|
| `bfloat16` | `false` | run the surrogate in bfloat16: faster on some CPUs, with less precise gradients |
| `compile` | `false` | compile the surrogate with `torch.compile`: the same function, half a minute to compile |
"""
FILE = (
    "| `file` | required | picture (its alpha channel is the mask) or `.npz` with `pixels` and `mask`, under `--data` |"
)
TABLE = "| option | default | allowed | meaning |\n|---|---|---|---|"


def page() -> str:
    """Return a section per attack: its source, what it makes, and its options with their defaults."""
    names = [name for name in attacks.names() if not attacks.is_control(name)]
    return HEAD + "\n".join(_section(name) for name in names) + COMMON


def _section(name: str) -> str:
    file = ROOT / "patches" / "attacks" / f"{name}.py"
    module = griffe.visit(name, filepath=file, code=file.read_text())
    about = module.docstring.value
    if name == attacks.IMPORTED:
        return f"\n## `{name}`\n\n{about}\n\n| option | default | meaning |\n|---|---|---|\n{FILE}\n"
    text, meanings = _documented(module["craft"].docstring)
    rows = [_row(option, default, meanings[option]) for option, default in attacks.options(name, {}).items()
            if option not in attacks.COMMON_OPTIONS]  # fmt: skip
    return "\n".join([f"\n## `{name}`\n", about, "", text, "", TABLE, *rows, ""])


def _documented(docstring: griffe.Docstring) -> tuple[str, dict[str, str]]:
    """Return a docstring's text, and what it says of each argument."""
    text, meanings = "", {}
    for part in docstring.parse("google"):
        if part.kind is griffe.DocstringSectionKind.text:
            text += part.value
        elif part.kind is griffe.DocstringSectionKind.parameters:
            meanings |= {argument.name: " ".join(argument.description.split()) for argument in part.value}
    return text, meanings


def _row(option: str, default: object, meaning: str) -> str:
    return f"| `{option}` | `{json.dumps(default)}` | {_allowed(option)} | {meaning} |"


def _allowed(option: str) -> str:
    if option in attacks.CHOICES:
        return " or ".join(f"`{json.dumps(word)}`" for word in attacks.CHOICES[option])
    least, most = attacks.LIMITS.get(option, (None, math.inf))
    if least is None:
        return ""
    return f"≥ {least}" if most == math.inf else f"{least} to {most}"

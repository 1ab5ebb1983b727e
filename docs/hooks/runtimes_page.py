"""The page of the runtimes, written from their classes."""

import inspect
from collections.abc import Mapping
from pathlib import Path

from backends.device import runtimes
from backends.device.names import modules
from backends.device.runtimes import engine

ROOT = Path(__file__).parents[2]
HEAD = """# Runtimes

`runtime` of a `[[target]]`, and `--runtime` of the commands, is one of these or
[one of yours](../extending/runtime.md); `options` takes the options listed with it, by default the first value of each.
This page is generated from the classes in `backends/device/runtimes/`.
[Replay on other versions and CPUs](../how-to/qemu.md) says what is special about some.
"""
FOR_TESTS = "dummy"


def page() -> str:
    """Return a section per runtime: what it is, reads and takes."""
    return HEAD + "\n".join(_section(name) for name in sorted(modules(runtimes.__path__)) if name != FOR_TESTS)


def _section(name: str) -> str:
    found = engine(name)
    about = inspect.getdoc(found)
    reads = " and ".join(f"`.{format}`" for format in found.formats)
    lines = [f"\n## `{name}`\n", about, f"\nReads {reads}; package `{found.package}`.\n"]
    options: Mapping[str, tuple[str, ...] | range] = getattr(found, "options", {})
    if options:
        lines += ["| option | values |", "|---|---|"]
        lines += [f"| `{option}` | {_values(values)} |" for option, values in options.items()]
    return "\n".join([*lines, ""])


def _values(values: tuple[str, ...] | range) -> str:
    return f"{values[0]} to {values[-1]}" if isinstance(values, range) else ", ".join(f"`{value}`" for value in values)

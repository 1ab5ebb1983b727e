"""Run the conformance suite on targets: one line per check, exit code 1 if one fails.

A target is a name from a suite (``--suite FILE``; by default all of them), or a runtime followed by KEY=VALUE pairs
after commas: fields of a target (host, arch, cpu, image, address, version, threads, time_limit) or options of the
runtime.

    python -m backends.conformance litert
    python -m backends.conformance litert,kernels=builtin,host=qemu,arch=aarch64,cpu=max onnxruntime,threads=2
    python -m backends.conformance --suite benchmarks/suites/demo.toml
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from backends.conformance import conform
from backends.device.errors import UserError, did_you_mean
from backends.device.json_types import typed
from backends.hosts import Target
from backends.toml_files import read_toml

NUMBERS = {"threads": int, "batch": int, "time_limit": float}
WORDS = {field.name for field in fields(Target)} - {"name", "runtime", "options"}


def parse(text: str) -> Target:
    """Parse a target from ``RUNTIME[,KEY=VALUE...]``."""
    runtime, *pairs = text.split(",")
    known: dict[str, Any] = {}
    options: dict[str, str | int] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise UserError(f"{text}: expected KEY=VALUE after a comma, got {pair!r}")
        try:
            if key in WORDS:
                known[key] = NUMBERS.get(key, str)(value)
            else:
                options[key] = int(value) if value.lstrip("-").isdecimal() else value
        except ValueError as error:
            raise UserError(f"{text}: {key} must be a number, got {value!r}") from error
    return Target(text, runtime, options=options, **known)


def of_suite(path: Path, names: Sequence[str]) -> list[Target]:
    """Return the targets of a suite with these names, or all."""
    targets = typed(list[Target], read_toml(path).get("target"), f"{path}: target")
    found = {target.name: target for target in targets}
    for name in names:
        if name not in found:
            raise UserError(f"{path}: no target {name!r}; {did_you_mean(name, found)}")
    return [found[name] for name in names or found]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code."""
    parser = argparse.ArgumentParser(
        "python -m backends.conformance", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("target", nargs="*", metavar="TARGET")
    parser.add_argument("--suite", type=Path, metavar="FILE")
    given = parser.parse_args(arguments)
    if not given.target and not given.suite:
        parser.error("name a target, or a suite")
    failed = 0
    try:
        targets = of_suite(given.suite, given.target) if given.suite else [parse(text) for text in given.target]
    except UserError as error:
        print(error, file=sys.stderr)
        return 1
    for target in targets:
        print(target.name)
        try:
            for verdict in conform(target):
                failed += bool(verdict.fault)
                print(f"  {'FAIL' if verdict.fault else 'ok  '}  {verdict.check}", flush=True)
                if verdict.fault:
                    print(f"        {verdict.fault}", flush=True)
        except UserError as error:
            failed += 1
            print(f"  FAIL  it can run here\n        {error}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

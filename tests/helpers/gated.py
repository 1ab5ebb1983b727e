"""A run, and what the gate says of it."""

from __future__ import annotations

import subprocess
from pathlib import Path

from helpers.command import patchbench

NO_WORSE = 0
WORSE = 1
CANNOT_COMPARE = 2


def run(suite: str, folder: Path, out: Path, data: Path | None = None, code: int = 0, **environment: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "suite.toml").write_text(suite)
    where = ("--data", data) if data else ()
    done = patchbench("run", folder / "suite.toml", "--out", out, *where, cwd=folder, **environment)
    assert done.returncode == code, done.stdout + done.stderr


def gate(before: Path, after: Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    """The gate's answer; its text on one line, without the tables' frames."""
    said = patchbench("gate", before, after, "--markdown", cwd / "said.md", "--json", cwd / "said.json", cwd=cwd)
    assert "Traceback" not in said.stderr
    return said

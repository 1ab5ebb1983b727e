"""Whether two runs ended with the same, byte for byte and times apart."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

TIMES = ("seconds", "started", "command", "latency")  # keys of run.json that differ from run to run
SEALS = ("sha256", "files")  # and those that cover them


def drafts(run_dir: Path) -> list[str]:
    """List what was begun and is neither finished nor gone."""
    unfinished = run_dir / "store/unfinished"
    hidden = (path for path in run_dir.rglob(".*") if path.name != ".lock")
    return sorted(str(path.relative_to(run_dir)) for path in [*hidden, *unfinished.glob("*")])


def differences(one: Path, other: Path) -> Iterator[str]:
    """Yield what two run directories do not have in common, times apart."""
    for run_dir in (one, other):
        for draft in drafts(run_dir):
            yield f"left over: {draft}"
    mine, theirs = (_contents(run_dir) for run_dir in (one, other))
    for name in sorted(mine.keys() ^ theirs.keys()):
        yield f"only one has {name}"
    for name in sorted(mine.keys() & theirs.keys()):
        if mine[name] != theirs[name]:
            yield f"{name} differs"


def _contents(run_dir: Path) -> dict[str, object]:
    """Return what stays the same from run to run: files outside of the store, and the names of results inside."""
    found: dict[str, object] = {}
    for path in run_dir.rglob("*"):
        name = path.relative_to(run_dir).as_posix()
        if name.startswith("store/"):
            if name.count("/") == 2:
                found[name] = None
        elif path.name == "run.json":
            found[name] = _timeless(json.loads(path.read_text()))
        elif path.is_file() and path.name not in ("report.html", ".lock"):
            found[name] = None if path.suffix == ".npz" else path.read_bytes()  # a patch's checks hold seconds
    return found


def _timeless(value: Any, depth: int = 0) -> Any:
    if isinstance(value, list):
        return [_timeless(one, depth + 1) for one in value]
    if isinstance(value, dict):
        dropped = TIMES if depth else (*TIMES, *SEALS)
        return {key: _timeless(one, depth + 1) for key, one in value.items() if key not in dropped}
    return value

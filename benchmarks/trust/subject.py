"""What is fuzzed: files, how they are changed, and what of ours reads them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import mutations
from hypothesis import strategies as some
from mutations import Draw, either

Files = dict[str, bytes]
SUMS = "SHA256SUMS"
SEALED = ("run.json", "summary.json", "baseline.json")


class Subject(NamedTuple):
    """Files, how hypothesis changes some of them, and what reads them; `often` is its share of the processes.

    `read` gets the folder that they lie in. Where `trusted`, the file's author may name files and programs to use.
    """

    name: str
    often: int
    files: Files
    change: Callable[[Draw, Files], Files]
    read: Callable[[Path], object]
    trusted: bool = False
    most: int = 1000  # cases in one process


def files_of(folder: Path) -> Files:
    """Read a folder's files."""
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def changing(**ways: Callable[[Draw, bytes], bytes]) -> Callable[[Draw, Files], Files]:
    """Return a function that changes one file that has one of these suffixes."""

    def change(draw: Draw, files: Files) -> Files:
        suffixes = sorted({name.rpartition(".")[2] for name in files} & ways.keys())
        suffix = draw(some.sampled_from(suffixes))
        name = draw(some.sampled_from([name for name in files if name.endswith(f".{suffix}")]))
        return {name: ways[suffix](draw, files[name])}

    return change


def resealed(draw: Draw, files: Files, changed: Files) -> Files:
    """Write the hashes of changed files where the old ones' stood, most of the time, to reach what reads them next."""
    if either(draw, (9, False), (1, True)):
        return changed
    whole = dict(changed)
    for name in sorted(files, key=lambda name: (name == SUMS, name in SEALED)):
        text = whole.get(name, files[name])
        for other, data in whole.items():
            text = text.replace(mutations.sha256(files[other]), mutations.sha256(data)) if other != name else text
        if name in SEALED:
            text = _sealed(text)
        if text != files[name]:
            whole[name] = text
    return whole


def _sealed(content: bytes) -> bytes:
    """Give a JSON object that holds its own hash the right one."""
    try:
        document = json.loads(content)
        if "sha256" in document:
            del document["sha256"]
            text = json.dumps(document, sort_keys=True, separators=(",", ":"))
            document["sha256"] = hashlib.sha256(text.encode()).hexdigest()
            return json.dumps(document).encode()
    except (ValueError, TypeError, RecursionError):
        pass
    return content

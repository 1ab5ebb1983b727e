"""Names that others chose, where they become the name of a file, a path or a module."""

from __future__ import annotations

import hashlib
import pkgutil
import re
from collections.abc import Iterable
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path, PurePosixPath

from backends.device.errors import UserError
from backends.device.reading import DamagedFile

NAME_BYTES = 200  # of the 255 that file systems allow: suffixes and drafts take more
MADE_BYTES = 185  # of a name that is made here: a case adds a hash, and stays a plain name
PART_BYTES = 255
PATH_CHARACTERS = 1000
SHOWN = 80


def shown(word: str) -> str:
    """Return a word as a message quotes it: a long one cut short."""
    return repr(word if len(word) <= SHOWN else f"{word[:SHOWN]}…")


def check_name(name: str, where: Path) -> str:
    """Return the name if it is a plain file name; else raise a `UserError`."""
    if not re.fullmatch(r"[^./\\\s][^/\\\s]*", name) or not name.isprintable():
        raise UserError(f"{where}: expected a plain name without slashes, spaces or a leading dot, got {shown(name)}")
    if len(name.encode()) > NAME_BYTES:
        raise UserError(f"{where}: expected a plain name of at most {NAME_BYTES} bytes, got {shown(name)}")
    return name


def inside(root: Path, name: str) -> Path:
    """Return a regular file of a bundle; a name or link that leads out of it is a `UserError`."""
    for part in name.split("/"):
        check_name(part, root)
    path = root / name
    try:
        if not path.resolve().is_relative_to(root.resolve()):
            raise UserError(f"{path}: leads out of the bundle, to {path.resolve()}")
        if not path.is_file():
            raise UserError(f"{path}: expected a file, found {'something else' if path.exists() else 'nothing'}")
    except (OSError, RuntimeError) as error:  # a path that is too long, links in a circle
        raise DamagedFile(f"{path}: cannot be read ({error})") from error
    return path


def plain_name(words: str) -> str:
    """Return words as a plain file name: without spaces, slashes as ``_``, and where it is long, cut to its hash."""
    name = "".join(letter if letter.isprintable() else "_" for letter in re.sub(r"\s", "", words))
    name = re.sub(r"[/\\]|^\.", "_", name) or "_"
    if len(name.encode()) <= MADE_BYTES:
        return name
    digest = hashlib.sha256(words.encode(errors="surrogatepass")).hexdigest()[:12]
    return name.encode()[: MADE_BYTES - len(digest) - 1].decode(errors="ignore") + f"-{digest}"


def check_path(path: str) -> str:
    """Return a path if it stays inside the folder that it is relative to; else raise a `UserError`.

    Links in that folder may lead anywhere: they are its owner's.
    """
    parts = PurePosixPath(path).parts
    if not parts or not path.isprintable() or ".." in parts or path.startswith("/"):
        raise UserError(f"expected a path inside the folder, without .. or a leading slash, got {shown(path)}")
    if len(path) > PATH_CHARACTERS or max(len(part.encode()) for part in parts) > PART_BYTES:
        raise UserError(f"expected names of at most {PART_BYTES} bytes each, got {shown(path)}")
    return path


def modules(package_path: Iterable[str]) -> list[str]:
    """Return the names of a package's modules, in order: a module's name is its entry in the registry."""
    return sorted(module.name for module in pkgutil.iter_modules(package_path))


def third_parties(group: str) -> Iterable[EntryPoint]:
    """Return what installed packages add to a registry, by entry points of its group."""
    found = entry_points()
    return found.select(group=group) if hasattr(found, "select") else found.get(group, ())  # the latter: Python 3.9

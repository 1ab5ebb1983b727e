"""What a command line changes in a suite: ``--set KEY=VALUE`` and ``--limit N``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Any

from backends.device.errors import UserError, did_you_mean
from backends.device.reading import DamagedFile
from backends.toml_files import parse_toml


@dataclass(frozen=True)
class Overrides:
    """Settings, such as ``data.evaluate=50`` or ``target.litert.threads=2``, and the most images to evaluate on.

    A setting's key is written as in TOML; the entry of a list is named by its number, or a table's label or name. Its
    value is TOML; what is none is text.
    """

    settings: tuple[str, ...] = ()
    limit: int | None = None

    def __str__(self) -> str:
        return " ".join(f"--set {setting}" for setting in self.settings)


NO_OVERRIDES = Overrides()


def change(raw: dict[str, Any], setting: str) -> None:
    """Change a suite's TOML as a setting says; a key that leads nowhere is a `UserError`."""
    key, equals, value = setting.partition("=")
    if not equals:
        raise UserError(f"--set {setting}: expected KEY=VALUE, such as data.evaluate=50")
    *tables, last = _parts(key, setting)
    inside: Any = raw
    for part in tables:
        if isinstance(inside, dict):
            inside.setdefault(part, {})
        inside = inside[_place(inside, part, setting)]
    inside[_place(inside, last, setting)] = _value(value)


def _parts(key: str, setting: str) -> list[str]:
    """Return the parts of a dotted key, as TOML reads them: ``artifact."a.b".divisor`` has three."""
    try:
        node: Any = parse_toml(f"{key} = 0", "a key")
    except DamagedFile as error:
        raise UserError(f"--set {setting}: expected a key such as data.evaluate before the =") from error
    parts: list[str] = []
    while isinstance(node, Mapping):
        part, node = next(iter(node.items()))
        parts.append(part)
    return parts


def _value(text: str) -> Any:
    try:
        read = parse_toml(f"value = {text}", "a value")
    except DamagedFile:
        return text
    return read["value"] if set(read) == {"value"} else text


def _place(entries: object, word: str, setting: str) -> str | int:
    """Return the key that a word is in a table, or the place of the entry that it names in a list."""
    if isinstance(entries, dict):
        return word
    if not isinstance(entries, list):
        raise UserError(f"--set {setting}: expected a table to set {word!r} in, found {entries!r:.50}")
    if word.isdigit():
        if int(word) < len(entries):
            return int(word)
        raise UserError(f"--set {setting}: no entry {word}; the list has {len(entries)}, counted from 0")
    names = [_names(entry) for entry in entries]
    found = [place for place, own in enumerate(names) if word in own]
    if not found:
        raise UserError(f"--set {setting}: no table named {word!r}; {did_you_mean(word, chain(*names))}")
    if len(found) > 1:
        raise UserError(f"--set {setting}: {len(found)} tables named {word!r}; give a number, one of {found}")
    return found[0]


def _names(entry: object) -> list[str]:
    """Return what a table may be called: its label and its name."""
    table = entry if isinstance(entry, dict) else {}
    return [str(table[key]) for key in ("label", "name") if key in table]

"""What differs between runs: keys of their suites, images, weights, versions, machines and targets."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from harness.results.entries import TargetEntry
from harness.results.run_directory import RunFacts

ABSENT = "–"
DIGITS = 12  # of a hash


class Setting(NamedTuple):
    """A key, and its value in each run; `ABSENT` where a run lacks it."""

    key: str
    values: tuple[str, ...]


def differing(runs: Sequence[RunFacts]) -> list[Setting]:
    """Return the keys that are not alike in all runs; tables of a suite are known by their names."""
    known = [dict(_settings(run)) for run in runs]
    keys = dict.fromkeys(key for settings in known for key in settings)
    rows = [Setting(key, tuple(settings.get(key, ABSENT) for settings in known)) for key in keys]
    return [row for row in rows if len(set(row.values)) > 1]


def _settings(run: RunFacts) -> Iterator[tuple[str, str]]:
    yield from _flat("suite", run.suite.plain())
    yield "commit", run.commit or ABSENT
    yield from _flat("images", dict(run.data.sizes))
    yield from ((f"images.{split}.sha256", hashed[:DIGITS]) for split, hashed in run.data.ids_sha256.items())
    yield from ((f"weights.{victim.name}", victim.sha256[:DIGITS]) for victim in run.victims)
    yield from _flat("version", dict(run.versions))
    yield from _flat("machine", run.machine.plain())
    for target in run.targets:
        yield from _flat(f"target.{target.name}", _environment(target))


def _environment(target: TargetEntry) -> dict[str, object]:
    """Return what a target said of itself; what was asked of it is in the suite."""
    return dict(target.info) | target.machine.plain() | {"CPU features": " ".join(sorted(target.features))}


def _flat(key: str, value: object) -> Iterator[tuple[str, str]]:
    """Yield the values of nested tables by dotted keys; a list without tables is one value."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _flat(f"{key}.{name}", inner)
    elif isinstance(value, list | tuple) and any(isinstance(inner, dict) for inner in value):
        for number, inner in enumerate(value, 1):
            yield from _flat(f"{key}.{_name(inner, value) or number}", inner)
    elif isinstance(value, list | tuple):
        yield key, ", ".join(map(str, value))
    else:
        yield key, ABSENT if value in (None, "") else str(value)


def _name(table: object, tables: Sequence[object]) -> str:
    """Return what tells a table from the others in its list: its label or name, unless two have the same."""
    names = [str(one.get("label") or one.get("name") or "") if isinstance(one, dict) else "" for one in tables]
    own = names[next(i for i, one in enumerate(tables) if one is table)]
    return own if names.count(own) == 1 else ""

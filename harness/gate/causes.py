"""What else differs between baseline and run and may cause a change: weights, files, environments of targets."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from harness.results.entries import TargetEntry
from harness.results.frozen import Frozen

FEATURES_SHOWN = 5


def cell_changes(base: Frozen, run: Frozen, pair: tuple[int, int]) -> list[str]:
    """Return what differs between two cells: weights, settings or bytes of the file, environment of the target."""
    old, new = (f.outcomes.cell(row) for f, row in zip((base, run), pair, strict=True))
    before = base.artifact(old["artifact"])
    after = run.artifact(new["artifact"])
    weights = [f.victim(old["victim"]).sha256 for f in (base, run)]
    found = []
    if weights[0] != weights[1]:
        found.append(f"weights of {old['victim']} changed from {short_hash(weights[0])} to {short_hash(weights[1])}")
    found += _differences(before.quant or {}, after.quant or {})
    if before.sha256 != after.sha256 and not found:
        shared = {name: version for name, version in run.facts.versions.items() if name in base.facts.versions}
        versions = ", ".join(_differences(base.facts.versions, base.facts.versions | shared))
        found.append(f"the file's bytes changed although its settings did not ({versions or 'no version changed'})")
    return found + environment_changes(base, run, str(old["target"]))


def environment_changes(base: Frozen, run: Frozen, target: str) -> list[str]:
    """Return what differs between a target's environments; if nothing does, predictions have to be the same."""
    before, after = (frozen.target(target) for frozen in (base, run))
    found = list(_differences(_environment(before), _environment(after)))
    old, new = (set(entry.features) for entry in (before, after))
    for verb, features in (("lost", old - new), ("gained", new - old)):
        if features:
            shown = ", ".join(sorted(features)[:FEATURES_SHOWN])
            more = len(features) - FEATURES_SHOWN
            found.append(f"CPU features {verb}: {shown}" + (f" and {more} more" if more > 0 else ""))
    return found


def same_file(base: Frozen, run: Frozen, pair: tuple[int, int]) -> bool:
    """Return whether both cells ran the same artifact: the same bytes or, in PyTorch, the same weights."""
    cells = [(f, f.outcomes.cell(row)) for f, row in zip((base, run), pair, strict=True)]
    files = [f.artifact(cell["artifact"]).sha256 for f, cell in cells]
    weights = [f.victim(cell["victim"]).sha256 for f, cell in cells]
    return files[0] == files[1] if any(files) else weights[0] == weights[1]


def short_hash(value: object) -> str:
    """Return a value as text, a sha256 cut to 12 digits."""
    text = str(value)
    return text[:12] if len(text) == 64 else text


def _differences(before: Mapping[str, object], after: Mapping[str, object]) -> Iterator[str]:
    for name in dict.fromkeys([*before, *after]):
        if before.get(name) != after.get(name):
            yield f"{name} changed from {short_hash(before.get(name))} to {short_hash(after.get(name))}"


def _environment(target: TargetEntry) -> dict[str, object]:
    own = {name: getattr(target, name) for name in ("runtime", "host", "threads", "batch", "emulated")}
    options = {f"option {name}": value for name, value in target.options.items()}
    info = {f"{target.runtime or 'runtime'} {name}": value for name, value in target.info.items()}
    return own | options | info | {"arch": target.machine.arch}

"""What a self-check finds: that it passed, failed at some cells, or cannot tell."""

from __future__ import annotations

from collections.abc import Sequence

from harness.results.entries import Check, Where

Fault = tuple[str, Where]  # a text, and the cells it is about


def verdict(name: str, asks: str, good: str, bad: Sequence[Fault], mend: str = "") -> Check:
    """Return a check that passed, if nothing is bad, with `good` as its text; else one that failed, with its mend."""
    if not bad:
        return Check(name=name, asks=asks, status="passed", says=good, where=())
    says = "; ".join(text for text, _ in bad[:3])
    if len(bad) > 3:
        says += f"; and {len(bad) - 3} more"
    return Check(name=name, asks=asks, status="failed", says=says + mend, where=tuple(where for _, where in bad))


def unknown(name: str, asks: str, says: str = "not recorded by this run") -> Check:
    """Return a check that nothing recorded answers."""
    return Check(name=name, asks=asks, status="unknown", says=says, where=())


def place(artifact: str, target: str) -> Where:
    """Select the cells of an artifact on a target."""
    return {"artifact": artifact, "target": target}

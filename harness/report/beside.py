"""Headlines beside each other, where a run holds answers that are not to be averaged."""

from __future__ import annotations

from collections.abc import Sequence

from harness.report.wording import Headline


def side_by_side(fidelities: Sequence[str], heads: Sequence[Headline]) -> Headline:
    """Return the headline of the truest targets, with the sentences, details and figures of the others beside it."""
    head = heads[0]._replace(fidelity="" if list(fidelities) == ["device"] else fidelities[0])
    for fidelity, other in zip(fidelities[1:], heads[1:], strict=True):
        tiles = (tile._replace(name=f"{fidelity}, {tile.name}") for tile in other.tiles if tile not in heads[0].tiles)
        head = head._replace(
            also=(*head.also, (fidelity, other.sentence)),
            details=f"{head.details} {fidelity[0].upper()}{fidelity[1:]}: {other.details}",
            tiles=(*head.tiles, *tiles),
        )
    return head


def beside(head: Headline, other: Headline, what: str, mark: str) -> Headline:
    """Add a headline of its own kind to another, as its last details and figures."""
    details = f"{head.details} {what}, separately: {other.sentence} {other.details}".strip()
    tiles = tuple(tile._replace(name=f"{mark}, {tile.name}") for tile in other.tiles)
    return head._replace(details=details, tiles=head.tiles + tiles)

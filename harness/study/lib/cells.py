"""Cells of the run, selected: successful attacks with the network and bits that each patch was made on."""

from __future__ import annotations

import re

import pandas as pd

from patches.patch import CONTROLS

BITS = re.compile(r"w(\d+)a(\d+)")


def attacks(table: pd.DataFrame, defended: bool = False) -> pd.DataFrame:
    """Return the rows of cells, or of their summary, that are attacks without an error on the evaluation images.

    Of defences neither the device nor the attacker has one, unless `defended`: then all rows are kept, and ``through``
    is the defence that the attacker expects. Two columns are added: ``made_on``, the network that the patch was made
    on, and ``made_bits``, its bits (``float``, ``w4a4``, ``w4a4 trained``, ``twin of tflite-s8s8-minmax``).
    """
    rows = table[~table["attack"].isin(CONTROLS) & (table["status"] == "ok") & (table["split"] == "evaluate")]
    parts = rows["surrogate"].str.partition(" through ")
    rows = rows.assign(surrogate=parts[0], through=parts[2])
    if not defended:
        rows = rows[(rows["defence"] == "") & (rows["through"] == "")]
    victims = dict(zip(table["artifact"], table["victim"], strict=True))
    made = [made_on(victim, name, victims) for victim, name in zip(rows["victim"], rows["surrogate"], strict=True)]
    return rows.assign(made_on=[network for network, _ in made], made_bits=[bits for _, bits in made])


def made_on(victim: str, surrogate: str, victims: dict[str, str]) -> tuple[str, str]:
    """Return the network and the bits of a surrogate as cells name it; ``victims`` maps artifacts to their networks."""
    kind, _, rest = surrogate.partition(":")
    name, _, whose = rest.partition(":")
    if kind == "float":
        return rest or victim, "float"
    if kind in ("fake_quant", "qat") and BITS.fullmatch(name):
        return whose or victim, f"{name} trained" if kind == "qat" else name
    if kind == "fake_quant":
        return victims.get(rest, victim), f"as {rest}"
    if kind == "twin":
        own = victims.get(name, victim)
        return own, "twin" if name == own else f"twin of {name.removeprefix(f'{own}-')}"
    return victim, surrogate or kind

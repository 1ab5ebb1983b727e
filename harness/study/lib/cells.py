"""Cells of the run, selected: successful attacks with the network and bits that each patch was made on."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

import pandas as pd

from patches.patch import CONTROLS
from patches.surrogate import Surrogate

BITS = re.compile(r"w(\d+)a(\d+)")


def attacks(table: pd.DataFrame, defended: bool = False) -> pd.DataFrame:
    """Return the rows of cells, or of their summary, that are attacks without an error on the evaluation images.

    Neither device nor attacker has a defence, unless `defended`: then all rows are kept, and ``expected_defence`` is
    the attacker's. Two columns are added: ``made_on``, the network that the patch was made
    on, and ``made_bits``, its bits (``float``, ``w4a4``, ``w4a4 trained``, ``twin of tflite-s8s8-minmax``).
    """
    rows = table[~table["attack"].isin(CONTROLS) & (table["status"] == "ok") & (table["split"] == "evaluate")]
    parsed = [Surrogate.parse(words) for words in rows["surrogate"]]
    undefended = [replace(one, defence="") for one in parsed]
    rows = rows.assign(surrogate=[str(one) for one in undefended], expected_defence=[one.defence for one in parsed])
    victims = dict(zip(table["artifact"], table["victim"], strict=True))
    made = [made_on(victim, one, victims) for victim, one in zip(rows["victim"], undefended, strict=True)]
    rows = rows.assign(made_on=[network for network, _ in made], made_bits=[bits for _, bits in made])
    return rows if defended else rows[(rows["defence"] == "") & (rows["expected_defence"] == "")]


def made_on(victim: str, surrogate: Surrogate, victims: Mapping[str, str]) -> tuple[str, str]:
    """Return the network and the bits of a surrogate of a victim's cells; ``victims`` maps artifacts to networks."""
    kind = surrogate.kind
    if kind == "float":
        return surrogate.of or victim, "float"
    if surrogate.precision:
        return surrogate.of or victim, f"{surrogate.precision} trained" if kind == "qat" else surrogate.precision
    if kind == "fake_quant":
        return victims.get(surrogate.of, victim), f"as {surrogate.of}"
    if kind == "twin":
        own = victims.get(surrogate.of, victim)
        return own, "twin" if surrogate.of == own else f"twin of {surrogate.of.removeprefix(f'{own}-')}"
    return victim, str(surrogate)

"""What the analyses call networks, surrogates and places: one name for the same thing, whichever victim saw it."""

from __future__ import annotations

import re
from typing import Any

import pandas as pd

from patches.patch import CONTROLS

BITS = re.compile(r"w(\d+)a(\d+)")
RUNTIMES = {"litert": "LiteRT", "onnxruntime": "onnxruntime", "tflite_runtime": "tflite-runtime"}


def made(table: pd.DataFrame, defended: bool = False) -> pd.DataFrame:
    """Rows of cells or their summary that are attacks and came through, counted on evaluation images.

    Undefended ones, of patches that expect no defence, unless `defended`: then all, with ``through``, the defence that
    a patch expects. Added are ``made_on`` and ``made_bits``: the network that a surrogate is, and its bits (``float``,
    ``w4a4``, ``w4a4 trained``, ``twin of tflite-s8s8-minmax``), the same for whichever victim the patch is laid before.
    """
    rows = table[~table["attack"].isin(CONTROLS) & (table["status"] == "ok") & (table["split"] == "evaluate")]
    through = rows["surrogate"].str.partition(" through ")
    rows = rows.assign(surrogate=through[0], through=through[2])
    rows = rows if defended else rows[(rows["defence"] == "") & (rows["through"] == "")]
    victims = dict(zip(table["artifact"], table["victim"], strict=True))
    found = [maker(v, s, victims) for v, s in zip(rows["victim"], rows["surrogate"], strict=True)]
    return rows.assign(made_on=[who for who, _ in found], made_bits=[bits for _, bits in found])


def maker(victim: str, surrogate: str, victims: dict[str, str]) -> tuple[str, str]:
    """Network and bits of a surrogate as cells name it; ``victims`` are those of artifacts."""
    kind, _, rest = surrogate.partition(":")
    name, _, whose = rest.partition(":")
    if kind == "float":
        return rest or victim, "float"
    if kind in ("fake_quant", "qat") and BITS.fullmatch(name):
        return whose or victim, name + " trained" * (kind == "qat")
    if kind == "fake_quant":
        return victims.get(rest, victim), f"as {rest}"
    if kind == "twin":
        own = victims.get(name, victim)
        return own, "twin" if name == own else f"twin of {name.removeprefix(f'{own}-')}"
    return victim, surrogate or kind


def place(row: Any) -> str:
    """``w8a8, LiteRT``: the precision of a file, what of it is not as usual, and where it runs."""
    parts = ["float" if row["precision"] == "fp32" else row["precision"]]
    parts[0] += " trained" * ("qat" in str(row["granularity"]))
    parts[0] += " packed" * ("packed" in str(row["granularity"]))
    if row["calibration"] not in ("", "minmax"):  # with its constant, where that is not as usual
        constant = str(row["artifact"]).partition(f"-{row['calibration']}-")[2].removeprefix(row["calibration"])
        parts += [" ".join(filter(None, [row["calibration"].replace("_", " "), constant]))]
    own = "PyTorch" if row["precision"] == "fp32" else "simulated"
    where = own if row["runtime"] == "torch" else RUNTIMES.get(row["runtime"], row["runtime"])
    parts += [f"{where} {row['cpu'] or row['arch']}" if row["host"] not in ("local", "") else where]
    return ", ".join(parts)


def bits(precision: str) -> tuple[int, int]:
    """Bits of weights and activations; float has 32."""
    found = BITS.fullmatch(precision)
    return (int(found[1]), int(found[2])) if found else (32, 32)


def as_the_first(table: pd.DataFrame, *columns: str) -> pd.DataFrame:
    """The rows whose columns have the values of the first row: one size, one place."""
    if table.empty:
        return table
    return table[(table[list(columns)] == table[list(columns)].iloc[0]).all(axis=1)]


def over(table: pd.DataFrame) -> str:
    """What the intervals of a table's rates are over, for a caption."""
    kinds = list(dict.fromkeys(table["interval_over"].dropna()))
    alone = "over images, for these very patches"
    return alone if kinds in ([], ["images"]) else "over " + " or ".join(kinds)


def between(counts: Any) -> str:
    """``100``, or ``134 to 180`` where counts differ."""
    least, most = int(min(counts)), int(max(counts))
    return f"{least}" if least == most else f"{least} to {most}"

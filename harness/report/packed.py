"""All cells of a large run, packed into its page, whose script shows them some at a time."""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

# The rates of the table in the order of its columns: whether their interval is shown, and what they are over.
RATES = {
    "clean_accuracy": (True, "n_clean"),
    "targeted_success": (True, "n_targeted"),
    "untargeted_success": (True, "n_untargeted"),
    "targeted_success_in_common": (False, "n_in_common"),
    "targeted_excess_over_noise": (True, "n_targeted"),
    "equal_to_float": (False, "n_float"),
}


def packed(cells: pd.DataFrame, filters: dict[str, str], names: Sequence[str]) -> str:
    """Return labelled cells for the script of the page: deflated JSON in base64.

    ``filters`` are columns by the name of their filter, ``names`` those that name a cell. Of text, equal values are
    listed once, and ``of`` has the number of each cell's. Rates are in tenths of a percent, null where there is none.
    """
    content = {
        "n": len(cells),
        "filters": {name: _text(cells[column]) for name, column in filters.items()},
        "names": [_text(cells[name]) for name in names],
        "rates": [dict(_rate(cells, name, has_interval, n)) for name, (has_interval, n) in RATES.items()],
        "doubts": _text(cells["doubts"]),
        "failure": _text(_failures(cells)),
        "control_of": _text(cells["control_of"]),
    }
    text = json.dumps(content, separators=(",", ":"), ensure_ascii=False)
    return base64.b64encode(zlib.compress(text.encode(errors="replace"), 9)).decode()


def _text(column: pd.Series) -> dict[str, list[Any]]:
    of, values = pd.factorize(column)
    return {"values": list(values), "of": of.tolist()}


def _failures(cells: pd.DataFrame) -> pd.Series:
    """Return what is said of each cell that failed; empty for the others."""
    said = cells["n_error"].astype(str) + " × " + cells["error"]
    return said.where(cells["status"] != "ok", "")


def _rate(cells: pd.DataFrame, name: str, has_interval: bool, n: str) -> Iterator[tuple[str, list[int | None]]]:
    """Yield a rate's value, what it is over, and how far its interval reaches below and above: that packs best."""
    value = _tenths(cells[name])
    yield "value", _whole(value)
    yield "n", cells[n].tolist()
    if has_interval:
        yield "below", _whole(value - _tenths(cells[f"{name}_low"]))
        yield "above", _whole(_tenths(cells[f"{name}_high"]) - value)


def _tenths(fractions: pd.Series) -> NDArray[np.float64]:
    """Return tenths of a percent, rounded as text is; of 10^5 fractions few differ."""
    values, which = np.unique(fractions.to_numpy(np.float64), return_inverse=True)
    return np.array([10 * float(f"{100 * value:.1f}") for value in values.tolist()]).round()[which]


def _whole(numbers: NDArray[np.float64]) -> list[int | None]:
    return [None if number != number else int(number) for number in numbers.tolist()]

"""What the literature claims of patches on quantized networks, held against a study's numbers, simulated and real."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy.stats import bootstrap

KEPT, LOST = 0.8, 0.5  # a claim of persistence holds above the one and does not below the other
USABLE = 0.8  # of its float network's accuracy: below that a file is broken, and success on it says nothing
LEAST = 0.05  # success on the float network, below which a share of it means nothing
WHERES = ("simulated", "integer kernels")
SOURCES = {
    "patches": "Guesmi, Ouni and Shafique 2025, arXiv:2503.07058",
    "gradients": "Bernhard, Moellic and Dutertre 2019, arXiv:1909.12741, of gradients; Guesmi et al. 2026, "
    "arXiv:2508.12132, of patches",
    "features": "Guesmi, Ouni and Shafique 2026, arXiv:2508.12132",
    "us": "what follows from it for files",
}
RULE = (
    "A claim that something is kept holds where the whole interval lies above .8, does not where it lies below .5, and "
    "else holds in part; that gradients misalign holds below .5 and does not above .8. n is the number of shares or "
    "cosines that the mean is of, a network, precision and attack (of transfer a surrogate and victim, of gradients a "
    "patch and network, of features a layer) each; the interval is their bootstrap, and fewer than three have none."
)


class Share(NamedTuple):
    """A mean with its 95 % interval (bootstrap over what it is a mean of, BCa), and of how many."""

    value: float
    low: float
    high: float
    n: int


class Claim(NamedTuple):
    """A claim: what it says, what is counted for it, the shares counted, simulated and real, and whose it is."""

    name: str
    says: str
    counts: str
    shares: Callable[[dict[str, pd.DataFrame], str], np.ndarray]
    source: str = ""
    low_is_claimed: bool = False


def mean(values: np.ndarray) -> Share:
    """The mean of some shares; with fewer than three nothing is known of its interval."""
    values = values[np.isfinite(values)]
    if len(values) < 3 or np.ptp(values) == 0:
        value = float(values.mean()) if len(values) else np.nan
        return Share(value, *(value, value) if len(values) > 2 else (np.nan, np.nan), len(values))
    found = bootstrap((values,), np.mean, n_resamples=5000, rng=0).confidence_interval
    return Share(float(values.mean()), float(found.low), float(found.high), len(values))


def verdict(share: Share, low_is_claimed: bool = False) -> str:
    """``holds``, ``holds in part``, ``does not hold``; the whole interval has to say so, and there has to be one."""
    if np.isnan(share.low):
        return "too few" if share.n else "not measured"
    if low_is_claimed:
        return "holds" if share.high < LOST else "does not hold" if share.low > KEPT else "holds in part"
    return "holds" if share.low > KEPT else "does not hold" if share.high < LOST else "holds in part"


def measure(folder: Path) -> pd.DataFrame:
    """A row a claim and place (simulated, integer kernels), from the tables that the analyses left in a folder."""
    tables = {file.stem: _read(file) for file in sorted(folder.glob("*.csv")) if file.stem != "findings"}
    rows = []
    for claim in CLAIMS:
        for where in WHERES:
            try:
                share = mean(claim.shares(tables, where))
            except KeyError:  # an analysis that was not carried out, or had nothing to look at
                share = Share(np.nan, np.nan, np.nan, 0)
            said = verdict(share, claim.low_is_claimed)
            about = {c: getattr(claim, c) for c in ("says", "source", "counts")} | {"claim": claim.name, "where": where}
            rows.append(about | share._asdict() | {"verdict": said})
    return pd.DataFrame(rows)


def markdown(table: pd.DataFrame) -> str:
    """The findings as a table of Markdown, a row a claim that something was counted for."""
    lines = ["| claim | counted | simulated | | integer kernels | |", "|---|---|---:|---|---:|---|"]
    for _, rows in table.groupby("claim", sort=False):
        cells = {row["where"]: row for row in rows.to_dict("records")}
        if not rows["n"].any():
            continue
        parts = [part for where in WHERES for part in (_number(cells[where]), cells[where]["verdict"])]
        first = rows.iloc[0]
        lines.append(f"| {first['says']} ({first['source']}) | {first['counts']} | {' | '.join(parts)} |")
    return "\n".join([*lines, "", RULE]) + "\n"


def _number(row: Mapping[Any, Any]) -> str:
    if not row["n"]:
        return "–"
    interval = "" if np.isnan(row["low"]) else f" ({row['low']:.2f}–{row['high']:.2f})"
    return f"{row['value']:.2f}{interval}, n = {row['n']:.0f}"


def _read(file: Path) -> pd.DataFrame:
    try:
        return pd.read_csv(file, keep_default_na=True)
    except pd.errors.EmptyDataError:
        return pd.DataFrame()


def _kept_at_few_bits(tables: dict[str, pd.DataFrame], where: str) -> np.ndarray:
    """Success at each bitwidth as a share of the same patches' on float, where the network is still usable."""
    table = tables["bitwidth"]
    table = table[(table["made"] == "float") & (table["patch_px"] == table["patch_px"].mode().iloc[0])]
    known = ["victim", "attack"]
    lab = table[table["weights"] == 32].set_index(known)
    here = table[table["weights"] < 32]
    here = here[here["kind"].str.startswith("integer") == (where != "simulated")].drop_duplicates([*known, "artifact"])
    here = here.join(lab[["targeted_success", "clean_accuracy"]], on=known, rsuffix="_float")
    usable = here["clean_accuracy"] >= USABLE * here["clean_accuracy_float"]
    here = here[usable & (here["targeted_success_float"] >= LEAST)]
    shares: pd.Series = here["targeted_success"] / here["targeted_success_float"]
    return shares.to_numpy(float)


def _kept_in_other_ranges(tables: dict[str, pd.DataFrame], where: str) -> np.ndarray:
    """Success in files of eight bits whose ranges are not minmax, as a share of the same patches' on float."""
    table = tables["saturation"]
    table = table[table["layer"] == "all"]
    simulated = table["target"] == "torch"
    known = table[(table["calibration"] != "minmax") & (simulated if where == "simulated" else ~simulated)]
    return known.drop_duplicates(["artifact", "patch"])["relative_success"].to_numpy(float)


def _transfer(tables: dict[str, pd.DataFrame], where: str, same_network: bool) -> np.ndarray:
    """Success of patches from elsewhere as a share of that of patches made on the network itself, at this place."""
    table = tables["transfer"]
    table = table[(table["simulated"] == (where == "simulated")) & ~table["made_bits"].str.contains("twin")]
    lab = tables["transfer"].query("precision == 'fp32' and simulated").groupby("network")["clean_accuracy"].max()
    table = table[table["clean_accuracy"] >= USABLE * table["network"].map(lab).astype(float)]
    own = table[table["same_network"]].groupby("victim")["targeted"].max()
    other = table[(table["same_network"] == same_network) & ~(table["same_bits"] & table["same_network"])]
    best = other["victim"].map(own).astype(float)  # of no rows it would be text
    shares: pd.Series = (other["targeted"] / best)[best >= LEAST]
    return shares.to_numpy(float)


def _alignment(tables: dict[str, pd.DataFrame], where: str) -> np.ndarray:
    """Cosines of gradients inside the patch, where at least 80 % of the float network's success transfers."""
    table = tables["gradients"]
    table = table[(table["region"] == "patch") & (table["transfer"] >= KEPT)]
    kind = "simulated" if where == "simulated" else "twin"  # not float itself on moved pixels
    return np.asarray(table[table["kind"] == kind]["cosine"], float)


def _features(tables: dict[str, pd.DataFrame], where: str) -> np.ndarray:
    """CKA of each layer on patched images, against the float network's."""
    table = tables["features"]
    table = table[(table["comparison"] == "quantization, patched") & (table["precision"] != "fp32")]
    simulated = table["target"] == "torch"
    return table[simulated if where == "simulated" else ~simulated]["cka"].to_numpy(float)


CLAIMS = (
    Claim(
        "bitwidths", "Success stays high at every bitwidth",
        "success at each bitwidth, network and attack, as a share of the same patches' on float; networks that keep "
        "80 % of their accuracy", _kept_at_few_bits, SOURCES["patches"],
    ),
    Claim(
        "ranges", "… and in every file of eight bits",
        "the same in files whose ranges are calibrated otherwise than by the extremes", _kept_in_other_ranges,
        SOURCES["us"],
    ),
    Claim(
        "across bitwidths", "Patches transfer across bitwidths",
        "success of patches made at other bits of the same network, as a share of the best made on it",
        lambda tables, where: _transfer(tables, where, same_network=True), SOURCES["patches"],
    ),
    Claim(
        "across architectures", "Patches transfer across architectures",
        "success of patches made on other networks, as a share of the best made on the network itself",
        lambda tables, where: _transfer(tables, where, same_network=False), SOURCES["patches"],
    ),
    Claim(
        "alignment", "Gradients misalign though patches transfer",
        "cosine of gradients inside the patch with the float network's, where 80 % of success transfers; it holds "
        "where that is below .5", _alignment, SOURCES["gradients"], low_is_claimed=True,
    ),
    Claim(
        "features", "Localized features persist through quantization",
        "CKA of each layer with the float network's, on patched images", _features, SOURCES["features"],
    ),
)  # fmt: skip

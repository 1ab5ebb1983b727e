"""Verdicts on what the literature claims of patches on quantized networks, from a study's tables."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import bootstrap

from harness.study.lib.success import LEAST
from harness.study.lib.tables import where

KEPT = 0.8  # a claim of persistence holds above it
LOST = 0.5  # and does not hold below it
USABLE = 0.8  # of the float network's accuracy; success on a network that keeps less says nothing
SIMULATED = "simulated"
PLACES = (SIMULATED, "integer kernels")
PATCHES = "Guesmi, Ouni and Shafique 2025, arXiv:2503.07058"
FEATURES = "Guesmi, Ouni and Shafique 2026, arXiv:2508.12132"
GRADIENTS = (
    "Bernhard, Moellic and Dutertre 2019, arXiv:1909.12741, for gradients; Guesmi et al. 2026, arXiv:2508.12132, for "
    "patches"
)
RULE = (
    "A claim that something persists holds where the whole interval lies above 0.8, does not hold where it lies below "
    "0.5, and holds in part otherwise. The claim that gradients misalign holds below 0.5 and does not hold above 0.8. "
    "n counts the shares or cosines behind a mean: one per network, precision and attack (for transfer one per "
    "surrogate and victim, for gradients one per patch and network, for features one per layer). The interval is their "
    "bootstrap (BCa); fewer than three have none."
)

COLUMNS = ("says", "source", "counts", "claim", "where", "value", "low", "high", "n", "verdict")

Tables = dict[str, pd.DataFrame]  # by the name of the analysis
Shares = NDArray[np.float64]


class Share(NamedTuple):
    """The mean of ``n`` shares with its 95 % interval."""

    value: float
    low: float
    high: float
    n: int


class Claim(NamedTuple):
    """A claim, what is counted to test it, its source, and how the shares are computed from tables and a place."""

    name: str
    says: str
    counts: str
    source: str
    shares: Callable[[Tables, str], Shares]
    low_is_claimed: bool = False


def mean_share(values: Shares) -> Share:
    """Return the mean of some shares with its bootstrap interval (BCa), NaN from fewer than three."""
    values = values[np.isfinite(values)]
    n = len(values)
    value = float(values.mean()) if n else np.nan
    if n < 3:
        return Share(value, np.nan, np.nan, n)
    if np.ptp(values) == 0:
        return Share(value, value, value, n)
    interval = bootstrap((values,), np.mean, n_resamples=5000, rng=0).confidence_interval
    return Share(value, float(interval.low), float(interval.high), n)


def verdict(share: Share, low_is_claimed: bool = False) -> str:
    """Return ``holds``, ``holds in part`` or ``does not hold``, as the whole interval says."""
    if np.isnan(share.low):
        return "too few" if share.n else "not measured"
    is_high = share.low > KEPT
    is_low = share.high < LOST
    if is_low if low_is_claimed else is_high:
        return "holds"
    return "does not hold" if is_low or is_high else "holds in part"


def measure(tables: Tables) -> pd.DataFrame:
    """Return one row per claim and place, a `Share` and its verdict, from the analyses' tables."""
    rows = []
    for claim in CLAIMS:
        for place in PLACES:
            try:
                share = mean_share(claim.shares(tables, place))
            except KeyError:  # the analysis did not run, or had nothing to look at
                share = Share(np.nan, np.nan, np.nan, 0)
            said = verdict(share, claim.low_is_claimed)
            rows.append((claim.says, claim.source, claim.counts, claim.name, place, *share, said))
    return pd.DataFrame(rows, columns=COLUMNS)


def markdown(table: pd.DataFrame) -> str:
    """Return the findings as a Markdown table, one row per claim that was measured anywhere."""
    lines = ["| claim | counted | simulated | | integer kernels | |", "|---|---|---:|---|---:|---|"]
    for _, rows in table.groupby("claim", sort=False):
        if rows["n"].any():
            first = rows.iloc[0]
            cells = [f"{first['says']} ({first['source']})", first["counts"]]
            for share, said in zip(rows[list(Share._fields)].to_numpy(), rows["verdict"], strict=True):
                cells += [_number(Share(*share)), said]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, "", RULE]) + "\n"


def _number(share: Share) -> str:
    if not share.n:
        return "–"
    interval = "" if np.isnan(share.low) else f" ({share.low:.2f}–{share.high:.2f})"
    return f"{share.value:.2f}{interval}, n = {share.n:.0f}"


def _kept_at_few_bits(tables: Tables, place: str) -> Shares:
    """Return success at each bitwidth as a share of the same patches' on float, on networks that are still usable."""
    table = tables["bitwidth"]
    table = where(table, made="float", patch_px=table["patch_px"].mode().iloc[0])
    keys = ["victim", "attack"]
    lab = table[table["weights"] == 32].set_index(keys)
    on_kernels = table["kind"].str.startswith("integer")
    here = table[(table["weights"] < 32) & (on_kernels == (place != SIMULATED))].drop_duplicates([*keys, "artifact"])
    here = here.join(lab[["targeted_success", "clean_accuracy"]], on=keys, rsuffix="_float")
    usable = here["clean_accuracy"] >= USABLE * here["clean_accuracy_float"]
    here = here[usable & (here["targeted_success_float"] >= LEAST)]
    return (here["targeted_success"] / here["targeted_success_float"]).to_numpy(float)


def _kept_in_other_ranges(tables: Tables, place: str) -> Shares:
    """Return success in 8-bit files whose ranges are not minmax, as a share of the same patches' on float."""
    table = where(tables["saturation"], layer="all")
    table = table[_is_at(table, place) & (table["calibration"] != "minmax")]
    return table.drop_duplicates(["artifact", "patch"])["relative_success"].to_numpy(float)


def _transferred(tables: Tables, place: str, same_network: bool) -> Shares:
    """Return success of patches made elsewhere as a share of that of patches made on the network, at this place."""
    every = tables["transfer"]
    lab = every.query("precision == 'fp32' and simulated").groupby("network")["clean_accuracy"].max()
    table = every[(every["simulated"] == (place == SIMULATED)) & ~every["made_bits"].str.contains("twin")]
    table = table[table["clean_accuracy"] >= USABLE * table["network"].map(lab).astype(float)]
    own = table[table["same_network"]].groupby("victim")["targeted"].max()
    other = table[(table["same_network"] == same_network) & ~(table["same_bits"] & table["same_network"])]
    best = other["victim"].map(own).astype(float)  # an empty column would have the type of text
    return (other["targeted"] / best)[best >= LEAST].to_numpy(float)


def _alignment(tables: Tables, place: str) -> Shares:
    """Return cosines of gradients inside the patch, where at least 80 % of the success on float transfers."""
    kind = "simulated" if place == SIMULATED else "twin"
    table = where(tables["gradients"], region="patch", kind=kind)
    return table[table["transfer"] >= KEPT]["cosine"].to_numpy(float)


def _similar_features(tables: Tables, place: str) -> Shares:
    """Return each layer's CKA with the float network, on patched images."""
    table = where(tables["features"], comparison="quantization, patched")
    return table[_is_at(table, place) & (table["precision"] != "fp32")]["cka"].to_numpy(float)


def _is_at(table: pd.DataFrame, place: str) -> pd.Series:
    return (table["target"] == "torch") == (place == SIMULATED)


CLAIMS = (
    Claim(
        "bitwidths",
        "Success stays high at every bitwidth",
        "success at each bitwidth, on each network and for each attack, as a share of the same patches' success on "
        "float; only networks that keep 80 % of their accuracy",
        PATCHES,
        _kept_at_few_bits,
    ),
    Claim(
        "ranges",
        "… and in every 8-bit file",
        "the same, in files whose ranges are not calibrated by the extremes",
        "our extension to files",
        _kept_in_other_ranges,
    ),
    Claim(
        "across bitwidths",
        "Patches transfer across bitwidths",
        "success of patches made at other bitwidths of the same network, as a share of the best made on it",
        PATCHES,
        partial(_transferred, same_network=True),
    ),
    Claim(
        "across architectures",
        "Patches transfer across architectures",
        "success of patches made on other networks, as a share of the best made on the network itself",
        PATCHES,
        partial(_transferred, same_network=False),
    ),
    Claim(
        "alignment",
        "Gradients misalign even where patches transfer",
        "cosine with the float network's gradient inside the patch, where 80 % of the success transfers; the claim "
        "holds below 0.5",
        GRADIENTS,
        _alignment,
        low_is_claimed=True,
    ),
    Claim(
        "features",
        "Localized features persist through quantization",
        "CKA of each layer with the same layer of the float network, on patched images",
        FEATURES,
        _similar_features,
    ),
)

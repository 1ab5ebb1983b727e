"""Bitwidth by architecture: success of each attack from float down to two bits, simulated and on integer kernels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup
from matplotlib.axes import Axes

from harness.report.svg import COLOURS, INK, MARKERS, SOFT, drawing, legend, percent_axis
from harness.study.lib.inputs import Figure, Inputs
from harness.study.lib.words import between, bits, made, over

QUESTION = "How do patches fare as bits go, on one architecture and another, simulated and on real kernels?"
SIMULATED, ALONE, KERNELS = (
    "simulated, wNaN",
    "simulated, wNa8",
    "integer kernels, wNa8",
)
SCALE = (32, 8, 6, 5, 4, 3, 2)
RATES = ("targeted_success", "untargeted_success", "clean_accuracy")
PANEL = 2.3  # inches


def measure(inputs: Inputs) -> pd.DataFrame:
    """A row an attack, size, kind of surrogate, victim, precision and place, over target classes and seeds.

    ``kind`` says whether rounding is simulated, of weights and activations or weights alone, or done by a runtime;
    ``trained`` whether the network was trained to its bits. ``made`` is ``float``, ``same bits`` where the patch was
    made on this very rounding, or ``its twin`` where it was made on what this very file computes; patches from
    elsewhere are `transfer`'s. Beside success stand the clean accuracy, since few bits are also a worse network, and
    what noise and a grey square of that size do.
    """
    found = made(inputs.over_patches)
    found = found[(found["made_on"] == found["victim"]) & found["calibration"].isin(["", "minmax"])]
    found = found[~found["granularity"].astype(str).str.contains("packed|per_tensor")]  # other files of the same bits
    rows = []
    for row in found.to_dict("records"):
        trained = "qat" in str(row["granularity"])
        own = row["precision"].replace("fp32", "float") + " trained" * trained
        twin = f"twin of {row['artifact'].removeprefix(row['victim'] + '-')}"
        twin = "twin" if row["artifact"] == row["victim"] else twin  # a file that a user brought is its own network
        how = {own: "same bits", twin: "its twin", "float": "float"}.get(row["made_bits"])
        if how is None or (row["precision"] == "fp32" and row["runtime"] != "torch"):
            continue
        weights, activations = bits(row["precision"])
        kind = KERNELS if row["runtime"] != "torch" else SIMULATED if weights == activations else ALONE
        rows.append(
            {
                **{
                    c: row[c] for c in ("victim", "attack", "patch_px", "patch_area", "artifact", "target", "precision")
                },
                "weights": weights,
                "activations": activations,
                "kind": kind,
                "trained": trained,
                "made": how,
                **{f"{r}{end}": row[f"{r}{end}"] for r in RATES for end in ("", "_low", "_high")},
                **{
                    c: row[c]
                    for c in ("n_clean", "n_targeted", "n_untargeted", "n_patches", "noise", "grey", "interval_over")
                },
            }
        )
    return pd.DataFrame(rows)


def draw(table: pd.DataFrame) -> list[Figure]:
    """A figure an attack: networks across, success above clean accuracy; and one of sizes."""
    figures = []
    usual = table.groupby("victim")["patch_px"].transform(lambda px: px.mode().iloc[0])
    for attack, rows in table[table["patch_px"] == usual].groupby("attack", sort=False):
        rate = "targeted_success" if rows["targeted_success"].notna().any() else "untargeted_success"
        caption = (
            f"{attack}: {rate.replace('_', ' ')} of {between(rows['patch_px'])}-pixel patches, {_counts(rows, rate)}; "
            "grey is what noise of that size brings. wNaN: weights and activations of N bits; wNa8: activations of 8. "
            "Below, the accuracy on clean images. Marks of the same bits stand side by "
            "side; float is PyTorch's in each line. Hollow: trained to these bits. Where hardly any image is "
            "classified correctly, success says little."
        )
        figures.append(Figure(str(attack), caption, _by_network(rows, rate)))
    sizes = table[(table["made"] == "float") & ~table["trained"]]
    if sizes["patch_px"].nunique() > 1:
        figures.append(_sizes(sizes))
    return figures


def _by_network(rows: pd.DataFrame, rate: str) -> Markup:
    networks = list(dict.fromkeys(rows["victim"]))
    dress = {
        ("float", SIMULATED): (COLOURS[0], "o", "-"),
        ("same bits", SIMULATED): (COLOURS[1], "s", "-"),
        ("float", ALONE): (COLOURS[5], "v", ":"),
        ("float", KERNELS): (COLOURS[2], "^", "--"),
        ("its twin", KERNELS): (COLOURS[3], "D", ":"),
    }
    top = max(0.1, min(1.0, 1.1 * float(rows.loc[rows["clean_accuracy"] > 0.3, f"{rate}_high"].max())))
    labels = {"noise": (SOFT, "_", "none")}
    width = max(7.5, 0.7 + PANEL * len(networks))  # room for what the marks mean
    with drawing(width, 4.4) as (figure, out):
        grid = figure.subplots(2, len(networks), squeeze=False, sharex=True, sharey="row", height_ratios=[2.2, 1])
        for (above, below), network in zip(grid.T, networks, strict=True):
            here = rows[rows["victim"] == network]
            for i, ((how, kind), (colour, marker, line)) in enumerate(dress.items()):
                series = here[(here["made"] == how) & ((here["kind"] == kind) | (here["weights"] == 32))]
                if (series["weights"] < 32).any():
                    labels[f"made on {how}; {kind}"] = (colour, marker, line)
                    _line(above, series, rate, colour, marker, line, aside=0.09 * (i - 2))
                    _line(below, series, "clean_accuracy", colour, marker, line, aside=0.09 * (i - 2))
            noise = here.groupby("weights")["noise"].mean()
            above.plot([_x(w) for w in noise.index], noise, "_", color=SOFT, ms=9)
            above.set_title(network, loc="left")
            percent_axis(above, "y", top, f"{rate.split('_')[0]} success, %" if above is grid[0][0] else "")
            percent_axis(below, "y", 1.0, "clean accuracy, %" if below is grid[1][0] else "")
            below.set_xticks(range(len(SCALE)), ["float", *map(str, SCALE[1:])])
            below.set_xlabel("N, bits")
        for label, (colour, marker, line) in labels.items():
            grid[0][0].plot([], [], ls=line, marker=marker, color=colour, ms=5, lw=1.4, label=label)
        legend(figure, grid[0][0])
        figure.subplots_adjust(0.6 / width, 0.11, 0.99, 0.83, wspace=0.1, hspace=0.12)
    return out[0]


def _x(weights: Any) -> float:
    return float(np.interp(-weights, [-b for b in SCALE], range(len(SCALE))))


def _line(axes: Axes, series: pd.DataFrame, rate: str, colour: str, marker: str, line: str, aside: float) -> None:
    """Rounded ones joined by a line; those trained to their bits are rings of their own."""
    for trained, rows in series.groupby("trained"):
        # one runtime stands for the kernels; the others are in the table
        rows = rows[(rows["kind"] != KERNELS) | (rows["target"] == rows.loc[rows["kind"] == KERNELS, "target"].min())]
        rows = rows.sort_values("weights", ascending=False)
        x = [_x(w) + aside for w in rows["weights"]]
        axes.vlines(x, rows[f"{rate}_low"], rows[f"{rate}_high"], color=colour, lw=1.1)
        face = "none" if trained else colour
        axes.plot(x, rows[rate], ls="none" if trained else line, marker=marker, color=colour, mfc=face, ms=5, lw=1.4)


def _sizes(rows: pd.DataFrame) -> Figure:
    """Success against the patch's share of the image, a line a precision, of the attack and network with most sizes."""
    of_sizes = {pair: part["patch_px"].nunique() for pair, part in rows.groupby(["attack", "victim"])}
    attack, network = max(of_sizes, key=lambda pair: of_sizes[pair])
    here = rows[(rows["attack"] == attack) & (rows["victim"] == network)]
    here = here[here["kind"].isin([SIMULATED]) | ((here["kind"] == KERNELS) & (here["weights"] == 8))]
    with drawing(6.4, 3.4) as (figure, out):
        axes = figure.subplots()
        for i, ((weights, kind, target), series) in enumerate(here.groupby(["weights", "kind", "target"], sort=False)):
            series = series.sort_values("patch_area")
            name = "float" if weights == 32 else f"{weights} bits" if kind == SIMULATED else f"INT8, {target}"
            colour, marker = COLOURS[i % len(COLOURS)], MARKERS[(i + i // len(COLOURS)) % len(MARKERS)]
            x = series["patch_area"] + 0.0007 * i
            line = "-" if kind == SIMULATED else "--"
            axes.vlines(x, series["targeted_success_low"], series["targeted_success_high"], color=colour, lw=1)
            axes.plot(x, series["targeted_success"], line, marker=marker, color=colour, ms=5, lw=1.4, label=name)
        noise = here.groupby("patch_area")["noise"].mean()
        axes.plot(noise.index, noise, "_", color=INK, ms=10, label="noise")
        percent_axis(axes, "y", max(0.1, float(here["targeted_success_high"].max())), "targeted success, %")
        percent_axis(axes, "x", float(here["patch_area"].max()) * 1.1, "share of the image's area, %")
        legend(figure, axes)
        figure.subplots_adjust(0.1, 0.14, 0.98, 0.82)
    caption = (
        f"{attack} on {network}, made on float: success by the patch's size, {_counts(here, 'targeted_success')}. "
        "Bits are simulated. Marks of one size stand side by side, the first at its place."
    )
    return Figure("sizes", caption, out[0])


def _counts(rows: pd.DataFrame, rate: str) -> str:
    """Of how many patches and images marks are, and what the lines on them are."""
    n = rows[f"n_{rate.split('_')[0]}"] / rows["n_patches"]
    patches = f"{between(rows['n_patches'])} patches a mark, {between(n)} images a patch"
    if rows["attack"].astype(str).str.endswith("-each").all():
        patches = f"a patch an image, {between(n)} images"
    return f"{patches}; lines are 95 % intervals {over(rows)}"

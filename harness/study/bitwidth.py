"""Bitwidth by architecture: success of each attack from float down to two bits, simulated and on integer kernels."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd
from markupsafe import Markup
from matplotlib.axes import Axes

from harness.report.svg import COLOURS, INK, MARKERS, SOFT, covering, drawing, legend, percent_axis
from harness.study.lib.cells import attacks
from harness.study.lib.inputs import Figure, Inputs
from harness.study.lib.labels import between, bits, interval_over
from harness.study.lib.tables import where, with_interval

QUESTION = "How does the success of patches change with bitwidth, by architecture, simulated and on real kernels?"
SIMULATED = "simulated"
WEIGHTS_ONLY = "simulated, 8-bit activations"
KERNELS = "integer kernels, 8-bit activations"
SCALE = (32, 8, 6, 5, 4, 3, 2)  # bits, from left to right
RATES = ("targeted_success", "untargeted_success", "clean_accuracy")
PANEL = 2.3  # inches


class Series(NamedTuple):
    """A line of a figure: what its patches were made on, what rounds the networks, and how it is drawn."""

    made: str
    kind: str
    colour: str
    marker: str
    line: str

    @property
    def label(self) -> str:
        """The series in the legend."""
        return f"made on {self.made}; {self.kind}"


SERIES = (
    Series("float", SIMULATED, COLOURS[0], "o", "-"),
    Series("same bits", SIMULATED, COLOURS[1], "s", "-"),
    Series("float", WEIGHTS_ONLY, COLOURS[5], "v", ":"),
    Series("float", KERNELS, COLOURS[2], "^", "--"),
    Series("its twin", KERNELS, COLOURS[3], "D", ":"),
)


def measure(inputs: Inputs) -> pd.DataFrame:
    """Return one row per attack, size, kind of surrogate, victim, precision and place, over target classes and seeds.

    ``kind`` says whether rounding is simulated, of weights and activations or of weights alone, or done by a runtime;
    ``trained`` whether the network was trained for its bits. ``made`` is ``float``, ``same bits`` where the patch was
    made on this very rounding, or ``its twin`` where it was made on what this very file computes; patches from
    elsewhere belong to `transfer`. Clean accuracy stands beside success, since fewer bits also make a worse network,
    and so does the success of noise and of a grey square of that size.
    """
    table = attacks(inputs.over_patches)
    table = table[(table["made_on"] == table["victim"]) & table["calibration"].isin(["", "minmax"])]
    granularity = table["granularity"].astype(str)
    other_files = granularity.str.contains("packed|per_tensor")  # of the same bits
    float_files = (table["precision"] == "fp32") & (table["runtime"] != "torch")
    table = table.assign(trained=granularity.str.contains("qat"))[~other_files & ~float_files]
    if table.empty:
        return pd.DataFrame()
    width = table["precision"].map(bits)
    table = table.assign(weights=width.str[0], activations=width.str[1], made=_made(table))
    rounds_all = table["weights"] == table["activations"]
    kinds = np.select([table["runtime"] != "torch", rounds_all], [KERNELS, SIMULATED], WEIGHTS_ONLY)
    table = table.assign(kind=kinds)
    columns = [
        *("victim", "attack", "patch_px", "patch_area", "artifact", "target", "precision", "weights", "activations"),
        *("kind", "trained", "made"),
        *with_interval(*RATES),
        *("n_clean", "n_targeted", "n_untargeted", "n_patches", "noise", "grey", "interval_over"),
    ]
    return table.loc[table["made"] != "", columns]


def _made(table: pd.DataFrame) -> list[str]:
    """Return what each row's patches were made on: ``float``, ``same bits``, ``its twin``, or nothing of these."""
    found = []
    for row in table.itertuples():
        own_bits = f"{row.precision} trained" if row.trained else row.precision
        file = str(row.artifact).removeprefix(f"{row.victim}-")
        twin = "twin" if file == row.victim else f"twin of {file}"  # a brought file is its own network
        names = {own_bits: "same bits", twin: "its twin", "float": "float"}
        found.append(names.get(row.made_bits, ""))
    return found


def draw(table: pd.DataFrame) -> list[Figure]:
    """Draw one figure per attack, networks across, success above clean accuracy; and one of sizes."""
    figures = []
    usual = table.groupby("victim")["patch_px"].transform(lambda px: px.mode().iloc[0])
    for attack, rows in table[table["patch_px"] == usual].groupby("attack", sort=False):
        rate = "targeted_success" if rows["targeted_success"].notna().any() else "untargeted_success"
        caption = (
            f"{attack}: {rate.replace('_', ' ')} of {between(rows['patch_px'])}-pixel patches, {_counts(rows, rate)}; "
            "grey marks are noise of that size. Weights have N bits, and so have activations unless the legend says 8. "
            "Below, the accuracy on clean images. Marks of the same bits stand side by side; each line's float mark is "
            "PyTorch's. Hollow: trained for these bits. Where hardly any image is classified correctly, success says "
            "little."
        )
        figures.append(Figure(str(attack), caption, _by_network(rows, rate)))
    sizes = table[(table["made"] == "float") & ~table["trained"]]
    if sizes["patch_px"].nunique() > 1:
        figures.append(_by_size(sizes))
    return figures


def _by_network(rows: pd.DataFrame, rate: str) -> Markup:
    networks = list(dict.fromkeys(rows["victim"]))
    top = min(1.0, 1.1 * covering(rows[f"{rate}_high"]))
    drawn: dict[Series, None] = {}
    width = max(7.5, 0.7 + PANEL * len(networks))  # room for the legend
    with drawing(width, 4.4) as (figure, out):
        grid = figure.subplots(2, len(networks), squeeze=False, sharex=True, sharey="row", height_ratios=[2.2, 1])
        for (above, below), network in zip(grid.T, networks, strict=True):
            here = where(rows, victim=network)
            for i, series in enumerate(SERIES):
                part = here[(here["made"] == series.made) & ((here["kind"] == series.kind) | (here["weights"] == 32))]
                if (part["weights"] < 32).any():
                    drawn[series] = None
                    _line(above, part, rate, series, aside=0.09 * (i - 2))
                    _line(below, part, "clean_accuracy", series, aside=0.09 * (i - 2))
            noise = here.groupby("weights")["noise"].mean()
            above.plot([_x(weights) for weights in noise.index], noise, "_", color=SOFT, ms=9)
            above.set_title(network, loc="left")
            percent_axis(above, "y", top, f"{rate.split('_')[0]} success, %" if above is grid[0][0] else "")
            percent_axis(below, "y", 1.0, "clean accuracy, %" if below is grid[1][0] else "")
            below.set_xticks(range(len(SCALE)), ["float", *map(str, SCALE[1:])])
            below.set_xlabel("N, bits")
        grid[0][0].plot([], [], ls="none", marker="_", color=SOFT, ms=5, lw=1.4, label="noise")
        for series in drawn:
            look = {"ls": series.line, "marker": series.marker, "color": series.colour}
            grid[0][0].plot([], [], **look, ms=5, lw=1.4, label=series.label)
        legend(figure, grid[0][0])
        figure.subplots_adjust(0.6 / width, 0.11, 0.99, 0.83, wspace=0.1, hspace=0.12)
    return out[0]


def _x(weights: float) -> float:
    return float(np.interp(-weights, [-bits for bits in SCALE], range(len(SCALE))))


def _line(axes: Axes, table: pd.DataFrame, rate: str, series: Series, aside: float) -> None:
    """Join the rounded networks by a line; draw those trained for their bits as rings of their own."""
    colour = series.colour
    for trained, rows in table.groupby("trained"):
        on_kernels = rows["kind"] == KERNELS
        one_runtime = rows["target"] == rows.loc[on_kernels, "target"].min()  # the others are in the table
        rows = rows[~on_kernels | one_runtime].sort_values("weights", ascending=False)
        x = [_x(weights) + aside for weights in rows["weights"]]
        axes.vlines(x, rows[f"{rate}_low"], rows[f"{rate}_high"], color=colour, lw=1.1)
        line = "none" if trained else series.line
        face = "none" if trained else colour
        axes.plot(x, rows[rate], ls=line, marker=series.marker, color=colour, mfc=face, ms=5, lw=1.4)


def _by_size(rows: pd.DataFrame) -> Figure:
    """Draw success against the patch's share of the image, for the attack and network with the most sizes."""
    pairs = {pair: part["patch_px"].nunique() for pair, part in rows.groupby(["attack", "victim"])}
    attack, network = max(pairs, key=lambda pair: pairs[pair])
    here = where(rows, attack=attack, victim=network)
    int8 = (here["kind"] == KERNELS) & (here["weights"] == 8)
    here = here[(here["kind"] == SIMULATED) | int8]
    with drawing(6.4, 3.4) as (figure, out):
        axes = figure.subplots()
        for i, ((weights, kind, target), part) in enumerate(here.groupby(["weights", "kind", "target"], sort=False)):
            part = part.sort_values("patch_area")
            x = part["patch_area"] + 0.0007 * i
            colour = COLOURS[i % len(COLOURS)]
            marker = MARKERS[(i + i // len(COLOURS)) % len(MARKERS)]
            line = "-" if kind == SIMULATED else "--"
            name = f"{weights} bits" if kind == SIMULATED else f"INT8, {target}"
            label = "float" if weights == 32 else name
            axes.vlines(x, part["targeted_success_low"], part["targeted_success_high"], color=colour, lw=1)
            axes.plot(x, part["targeted_success"], line, marker=marker, color=colour, ms=5, lw=1.4, label=label)
        noise = here.groupby("patch_area")["noise"].mean()
        axes.plot(noise.index, noise, "_", color=INK, ms=10, label="noise")
        percent_axis(axes, "y", covering(here["targeted_success_high"], here["noise"]), "targeted success, %")
        percent_axis(axes, "x", float(here["patch_area"].max()) * 1.1, "share of the image's area, %")
        legend(figure, axes)
        figure.subplots_adjust(0.1, 0.14, 0.98, 0.82)
    caption = (
        f"{attack} on {network}, made on float: success by the patch's size, {_counts(here, 'targeted_success')}. "
        "Bits are simulated. Marks of one size stand side by side, the first at its true place."
    )
    return Figure("sizes", caption, out[0])


def _counts(rows: pd.DataFrame, rate: str) -> str:
    """Return how many patches and images a mark stands for, and what the lines are."""
    n = rows[f"n_{rate.split('_')[0]}"] / rows["n_patches"]
    patches = f"{between(rows['n_patches'])} patches per mark, {between(n)} images per patch"
    if rows["attack"].astype(str).str.endswith("-each").all():
        patches = f"one patch per image, {between(n)} images"
    return f"{patches}; lines are 95 % intervals {interval_over(rows)}"

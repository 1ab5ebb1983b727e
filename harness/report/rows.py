"""The rows of the page's tables, from run.json and the cells."""

from __future__ import annotations

import base64
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from harness.results.entries import ExampleEntry, PatchEntry
from harness.results.metrics import is_lab
from harness.results.run_directory import RunFacts
from patches.patch import CONTROLS

SUCCESS = ("targeted_success", "untargeted_success")
FILTERS = {"victim": "victim", "artifact": "artifact_label", "target": "target", "attack": "attack"}
PNG = b"\x89PNG\r\n\x1a\n"
CONTROL_NAMES = {
    "noise": "noise",
    "grey": "grey",
    "sticker": "picture of the class",
    "other_class": "other class’s patch",
}


class Failure(NamedTuple):
    """Cells that failed at one place with one message; counts are empty for an error outside any cell."""

    target: str
    error: str
    victim: str = ""
    artifact_label: str = ""
    cells: int | str = ""
    images: int | str = ""


class Attack(NamedTuple):
    """Patches of one kind, and what they cost: the most ``steps`` and ``queries`` of one, the ``seconds`` of all."""

    attack: str
    surrogate: str
    px: int
    shape: str
    patches: int
    classes: list[int]
    seeds: list[int]
    steps: int | None
    queries: int | None
    seconds: float


class Evaluated(NamedTuple):
    """How many images clean accuracy is over, how many patches ran, and on how many images each: from, to."""

    clean: list[int]
    patches: int
    least: int
    most: int


class PatchCard(NamedTuple):
    """A patch with its picture, and its success in the lab and on integer targets (lowest, highest)."""

    entry: PatchEntry
    picture: str
    lab: float
    least: float
    most: float
    victims: list[str]


class ExampleCard(NamedTuple):
    """An example with its pictures, and the places where each answer was given, the most common answer first."""

    entry: ExampleEntry
    attack: str
    surrogate: str
    clean: str
    patched: str
    answers: list[tuple[int, list[str]]]


def evaluated(cells: pd.DataFrame) -> dict[str, Evaluated]:
    """Return what each victim was evaluated on."""
    out = {}
    attacked = cells[~cells["attack"].isin(CONTROLS) & (cells["status"] == "ok")]
    for victim in cells["victim"].unique():
        own = attacked[attacked["victim"] == victim]
        targeted = own.loc[own["n_targeted"] > 0, "n_targeted"]
        over = targeted if len(targeted) else own["n_untargeted"]
        clean = set(cells.loc[cells["victim"] == victim, "n_clean"].tolist()) - {0}
        ends = (int(over.min()), int(over.max())) if len(over) else (0, 0)
        out[str(victim)] = Evaluated(sorted(clean), own["patch"].nunique(), *ends)
    return out


def filters(cells: pd.DataFrame) -> dict[str, list[str]]:
    """Return what the rows of the page can be filtered by, and the values that this run has."""
    return {name: list(cells[column].unique()) for name, column in FILTERS.items()}


def failures(cells: pd.DataFrame, run: RunFacts) -> list[Failure]:
    """Return the cells that failed, by place and message, then the run's errors that no cell shows."""
    failed = cells[cells["status"] == "error"]
    keys = ["target", "error", "victim", "artifact_label"]
    groups = failed.groupby([*keys[2:], *keys[:2]], sort=False)
    counted = groups.agg(cells=("n_error", "size"), images=("n_error", "sum")).reset_index()
    out = [Failure(*row) for row in counted[[*keys, "cells", "images"]].itertuples(index=False, name=None)]
    shown = set(failed[["artifact", "target", "error"]].itertuples(index=False, name=None))
    for error in run.errors:
        if (error.artifact, error.target, error.message) not in shown:
            place = error.plain(without=frozenset({"message"}))
            where = ", ".join(f"{name} {value}" for name, value in place.items() if value not in ("", None))
            out.append(Failure(where, error.message))
    return out


def results(summary: pd.DataFrame) -> pd.DataFrame:
    """Return a row per victim, artifact, target and attack; where nothing was patched, the clean one.

    Added columns: ``kind`` of success, its ``mean`` over the patches with the interval ``low`` to ``high``, the
    extremes ``min`` and ``max`` of the patches, and ``n``, the images of all patches.
    """
    places = ["victim", "artifact", "target"]
    attacked = ~summary["attack"].isin(CONTROLS)
    patched = set(summary.loc[attacked, places].itertuples(index=False, name=None))
    alone = np.array([place not in patched for place in summary[places].itertuples(index=False, name=None)], bool)
    shown = summary[attacked | ((summary["attack"] == "none") & alone)]
    targeted = shown["targeted_success"].notna()
    added = {"kind": targeted.map({True: "targeted", False: "untargeted"})}
    for name, column in [("mean", "success"), *((end, f"success_{end}") for end in ("min", "max", "low", "high"))]:
        added[name] = shown[f"targeted_{column}"].where(targeted, shown[f"untargeted_{column}"])
    added["n"] = shown["n_targeted"].where(targeted, shown["n_untargeted"])
    return shown.assign(**added)


def controls_shown(summary: pd.DataFrame) -> dict[str, str]:
    """Return the names of the controls that a run has; every success is shown beside theirs."""
    return {name: text for name, text in CONTROL_NAMES.items() if name in summary and summary[name].notna().any()}


def attacks(run: RunFacts) -> list[Attack]:
    """Return a row for each kind of patch."""
    kinds: dict[tuple[str, str, int, str], list[PatchEntry]] = defaultdict(list)
    for patch in run.patches:
        kinds[patch.attack, patch.surrogate, patch.px, patch.shape].append(patch)
    out = []
    for kind, alike in kinds.items():
        steps = [patch.checks.steps for patch in alike if patch.checks.steps is not None]
        queries = [patch.checks.queries for patch in alike if patch.checks.queries is not None]
        classes = {patch.target_class for patch in alike if patch.target_class not in (None, -1)}
        out.append(
            Attack(
                *kind,
                patches=len(alike),
                classes=sorted(c for c in classes if c is not None),
                seeds=sorted({patch.seed for patch in alike}),
                steps=max(steps, default=None),
                queries=max(queries, default=None),
                seconds=sum(patch.checks.seconds or 0 for patch in alike),
            )
        )
    return out


def patches(run: RunFacts, cells: pd.DataFrame, run_dir: Path, most: int) -> list[PatchCard]:
    """Return the first patches, controls last; success is without a defence, where there is such a cell."""
    ok = cells[cells["status"] == "ok"]
    undefended = ok["defence"] == ""
    if (undefended & ~ok["attack"].isin(CONTROLS)).any():
        ok = ok[undefended]
    own = ok.loc[ok["attack"] != "other_class", ["patch", "victim", "precision", "format", *SUCCESS]]
    rows = own.groupby("patch", observed=True).indices
    out = []
    for patch in sorted(run.patches, key=lambda patch: patch.attack in CONTROLS)[:most]:
        here = own.iloc[rows.get(patch.name, [])]
        rate = "targeted_success" if here["targeted_success"].notna().any() else "untargeted_success"
        integer = here.loc[~here["precision"].isin(["fp32", ""]) & (here["format"] != "torch"), rate]
        lab = here.loc[is_lab(here), rate].mean()
        victims = list(here["victim"].unique())
        out.append(PatchCard(patch, picture(run_dir, patch.file), lab, integer.min(), integer.max(), victims))
    return out


def examples(run: RunFacts, labels: Mapping[str, str], run_dir: Path) -> list[ExampleCard]:
    """Return every example; ``labels`` are the artifacts'."""
    patch_of = {patch.name: patch for patch in run.patches}
    out = []
    for example in run.examples:
        places: dict[int, list[str]] = defaultdict(list)
        for answer in example.preds:
            places[answer.pred].append(f"{labels.get(answer.artifact, answer.artifact)} on {answer.target}")
        patch = patch_of.get(example.patch)
        attack, surrogate = (patch.attack, patch.surrogate) if patch else ("", "")
        clean, patched = (picture(run_dir, file) for file in (example.clean_png, example.patched_png))
        answers = sorted(places.items(), key=lambda item: -len(item[1]))
        out.append(ExampleCard(example, attack, surrogate, clean, patched, answers))
    return out


def picture(run_dir: Path, file: str) -> str:
    """Return a PNG of the run directory as a data URI; empty for anything else."""
    path = (run_dir / file).resolve()
    if not file or not path.is_relative_to(run_dir.resolve()) or not path.is_file():
        return ""
    content = path.read_bytes()
    return f"data:image/png;base64,{base64.b64encode(content).decode()}" if content.startswith(PNG) else ""

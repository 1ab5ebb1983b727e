"""The page's lists: what run.json and the cells say, as rows for its tables."""

from __future__ import annotations

import base64
from collections import defaultdict
from pathlib import Path
from typing import Any

import pandas as pd

from harness.results.entries import PatchEntry
from harness.results.metrics import is_lab
from harness.results.run_directory import Run
from patches.patch import CONTROLS

PNG = b"\x89PNG\r\n\x1a\n"
Row = dict[Any, Any]
CONTROL_NAMES = {
    "noise": "noise",
    "grey": "grey",
    "sticker": "picture of the class",
    "other_class": "other class’s patch",
}
CLOCK_SHARE = 0.01  # of a latency, that a step of the clock may be


def failures(cells: pd.DataFrame, run: Run) -> list[Row]:
    """What failed: cells in error by place and message, then those of the run's own errors that no cell tells of."""
    bad = cells[cells["status"] == "error"]
    keys = ["victim", "artifact_label", "target", "error"]
    grouped = bad.groupby(keys, sort=False).agg(cells=("n_error", "size"), images=("n_error", "sum")).reset_index()
    out: list[Row] = list(grouped.to_dict("records"))
    told = set(bad[["artifact", "target", "error"]].itertuples(index=False, name=None))
    for error in run.errors:
        if (error.artifact, error.target, error.message) in told:
            continue
        place = error.plain(without=frozenset({"message"}))
        where = ", ".join(f"{name} {value}" for name, value in place.items() if value not in ("", None))
        out.append({"target": where, "error": error.message})
    return out


def results(summary: pd.DataFrame) -> list[Row]:
    """A row per victim, artifact, target and attack; where nothing was patched, the clean one.

    ``mean`` is the success of its ``kind`` with its interval ``low`` to ``high``, least and greatest of its patches
    (``min``, ``max``) and ``n``, the images of all its patches.
    """
    places = ["victim", "artifact", "target"]
    made = summary[~summary["attack"].isin(CONTROLS)]
    patched = set(made[places].itertuples(index=False, name=None))
    out = []
    for row in summary.to_dict("records"):
        place = tuple(row[c] for c in places)
        if row["attack"] not in CONTROLS or (row["attack"] == "none" and place not in patched):
            targeted = not pd.isna(row["targeted_success"])
            rate = "targeted" if targeted else "untargeted"
            ends = {end: row[f"{rate}_success_{end}"] for end in ("min", "max", "low", "high")}
            out.append(row | ends | {"kind": rate, "mean": row[f"{rate}_success"], "n": row[f"n_{rate}"]})
    return out


def controls_shown(summary: pd.DataFrame) -> dict[str, str]:
    """Return the names of the controls that a run has; every success is shown beside theirs."""
    return {name: text for name, text in CONTROL_NAMES.items() if name in summary and summary[name].notna().any()}


def attacks(run: Run) -> list[Row]:
    """A row per kind of patch: how many, of which classes, at what cost."""
    kinds: dict[tuple[str, str, int, str], list[PatchEntry]] = defaultdict(list)
    for patch in run.patches:
        kinds[patch.attack, patch.surrogate, patch.px, patch.shape].append(patch)
    out = []
    for (attack, surrogate, px, shape), made in kinds.items():
        checks = [patch.checks for patch in made]
        out.append(
            {
                "attack": attack, "surrogate": surrogate, "px": px, "shape": shape, "patches": len(made),
                "classes": sorted({p.target_class for p in made if p.target_class not in (None, -1)}),
                "seeds": sorted({p.seed for p in made}),
                "steps": max((c.steps for c in checks if c.steps is not None), default=None),
                "queries": max((c.queries for c in checks if c.queries is not None), default=None),
                "seconds": sum(c.seconds or 0 for c in checks),
            }
        )  # fmt: skip
    return out


def patches(run: Run, cells: pd.DataFrame, run_dir: Path) -> list[Row]:
    """Each patch with its picture and its success in the lab and on integer targets (least, most).

    Success is that without a defence, where there is such a cell.
    """
    ok = cells[cells["status"] == "ok"]
    made = ok[~ok["attack"].isin(CONTROLS)]
    ok = ok[ok["defence"] == ""] if (made["defence"] == "").any() else ok
    out = []
    for patch in run.patches:
        here = ok[(ok["patch"] == patch.name) & (ok["attack"] != "other_class")]
        rate = "targeted_success" if here["targeted_success"].notna().any() else "untargeted_success"
        integer = here.loc[~here["precision"].isin(["fp32", ""]) & (here["format"] != "torch"), rate]
        lab = here.loc[is_lab(here), rate].mean()
        rates = {"lab": lab, "least": integer.min(), "most": integer.max(), "victims": list(here["victim"].unique())}
        out.append(patch.plain() | rates | {"picture": picture(run_dir, patch.file)})
    return sorted(out, key=lambda row: row.get("attack") in CONTROLS)


def examples(run: Run, cells: pd.DataFrame, run_dir: Path) -> list[Row]:
    """Each example with its pictures, what made its patch, and where each answer was given, the commonest first."""
    of = {patch.name: {"attack": patch.attack, "surrogate": patch.surrogate} for patch in run.patches}
    labels = dict(zip(cells["artifact"], cells["artifact_label"], strict=True))
    out = []
    for example in run.examples:
        answers: dict[int, list[str]] = defaultdict(list)
        for one in example.preds:
            answers[one.pred].append(f"{labels.get(one.artifact, one.artifact)} on {one.target}")
        pictures = {"clean": picture(run_dir, example.clean_png), "patched": picture(run_dir, example.patched_png)}
        order = sorted(answers.items(), key=lambda item: -len(item[1]))
        out.append(of.get(example.patch, {}) | example.plain() | pictures | {"answers": order})
    return out


def latency(run: Run, cells: pd.DataFrame) -> list[Row]:
    """The measured latencies with the artifacts' labels; a victim's emulated ones last: they compare with nothing."""
    labels = dict(zip(cells["artifact"], cells["artifact_label"], strict=True))
    victims = dict(zip(cells["artifact"], cells["victim"], strict=True))
    plain = {(row.artifact, row.target, row.threads): row.p50_ms for row in run.latency if not row.defence}
    measured: list[Row] = []
    for row in run.latency:
        undefended = plain.get((row.artifact, row.target, row.threads))
        added = row.p50_ms - undefended if row.defence and undefended is not None else None
        more = {
            "added_ms": added,
            "label": labels.get(row.artifact, row.artifact),
            "victim": victims.get(row.artifact),
            "coarse": row.clock_ns > row.p50_ms * 1e6 * CLOCK_SHARE,
        }
        measured.append(row.plain() | more)
    return sorted(measured, key=lambda row: (str(row["victim"]), bool(row.get("emulated"))))


def picture(run_dir: Path, file: str) -> str:
    """A PNG of the run directory as a data URI; empty for anything else."""
    path = (run_dir / file).resolve()
    if not file or not path.is_relative_to(run_dir.resolve()) or not path.is_file():
        return ""
    content = path.read_bytes()
    return f"data:image/png;base64,{base64.b64encode(content).decode()}" if content.startswith(PNG) else ""

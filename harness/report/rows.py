"""The page's lists: what run.json and the cells say, as rows for its tables."""

from __future__ import annotations

import base64
from collections import defaultdict
from pathlib import Path
from typing import Any

import pandas as pd

from harness.results.metrics import is_lab
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


def failures(cells: pd.DataFrame, run: Row) -> list[Row]:
    """What failed: cells in error by place and message, then those of the run's own errors that no cell tells of."""
    bad = cells[cells["status"] == "error"]
    keys = ["victim", "artifact_label", "target", "error"]
    grouped = bad.groupby(keys, sort=False).agg(cells=("n_error", "size"), images=("n_error", "sum")).reset_index()
    out: list[Row] = list(grouped.to_dict("records"))
    told = set(bad[["artifact", "target", "error"]].itertuples(index=False, name=None))
    for row in run.get("errors", []):
        if (row.get("artifact"), row.get("target"), row.get("message")) in told:
            continue
        where = ", ".join(f"{k} {v}" for k, v in row.items() if k != "message" and v not in ("", None))
        out.append({"target": where, "error": row.get("message", "")})
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


def attacks(run: Row) -> list[Row]:
    """A row per kind of patch: how many, of which classes, at what cost."""
    kinds: dict[tuple[Any, ...], list[Row]] = defaultdict(list)
    for patch in run.get("patches", []):
        kinds[tuple(patch.get(k) for k in ("attack", "surrogate", "px", "shape"))].append(patch)
    out = []
    for (attack, surrogate, px, shape), made in kinds.items():
        checks = [patch.get("checks") or {} for patch in made]
        out.append(
            {
                "attack": attack, "surrogate": surrogate, "px": px, "shape": shape, "patches": len(made),
                "classes": sorted({c for p in made if (c := p.get("target_class")) not in (None, -1)}),
                "seeds": sorted({p.get("seed", 0) for p in made}),
                "steps": max((c["steps"] for c in checks if "steps" in c), default=None),
                "queries": max((c["queries"] for c in checks if c.get("queries") is not None), default=None),
                "seconds": sum(c.get("seconds", 0) for c in checks),
            }
        )  # fmt: skip
    return out


def patches(run: Row, cells: pd.DataFrame, run_dir: Path) -> list[Row]:
    """Each patch with its picture and its success in the lab and on integer targets (least, most).

    Success is that without a defence, where there is such a cell.
    """
    ok = cells[cells["status"] == "ok"]
    made = ok[~ok["attack"].isin(CONTROLS)]
    ok = ok[ok["defence"] == ""] if (made["defence"] == "").any() else ok
    out = []
    for patch in run.get("patches", []):
        here = ok[(ok["patch"] == patch.get("name")) & (ok["attack"] != "other_class")]
        rate = "targeted_success" if here["targeted_success"].notna().any() else "untargeted_success"
        integer = here.loc[~here["precision"].isin(["fp32", ""]) & (here["format"] != "torch"), rate]
        lab = here.loc[is_lab(here), rate].mean()
        rates = {"lab": lab, "least": integer.min(), "most": integer.max(), "victims": list(here["victim"].unique())}
        out.append(patch | rates | {"picture": picture(run_dir, patch.get("file"))})
    return sorted(out, key=lambda row: row.get("attack") in CONTROLS)


def examples(run: Row, cells: pd.DataFrame, run_dir: Path) -> list[Row]:
    """Each example with its pictures, what made its patch, and where each answer was given, the commonest first."""
    of = {patch.get("name"): {k: patch.get(k, "") for k in ("attack", "surrogate")} for patch in run.get("patches", [])}
    labels = dict(zip(cells["artifact"], cells["artifact_label"], strict=True))
    out = []
    for example in run.get("examples", []):
        answers: dict[int, list[str]] = defaultdict(list)
        for one in example.get("preds", []):
            place = labels.get(one.get("artifact"), one.get("artifact", ""))
            answers[one.get("pred", -1)].append(f"{place} on {one.get('target', '')}")
        pictures = {kind: picture(run_dir, example.get(f"{kind}_png")) for kind in ("clean", "patched")}
        order = sorted(answers.items(), key=lambda item: -len(item[1]))
        out.append(of.get(example.get("patch"), {}) | example | pictures | {"answers": order})
    return out


def latency(run: Row, cells: pd.DataFrame) -> list[Row]:
    """The measured latencies with the artifacts' labels; a victim's emulated ones last: they compare with nothing."""
    labels = dict(zip(cells["artifact"], cells["artifact_label"], strict=True))
    victims = dict(zip(cells["artifact"], cells["victim"], strict=True))
    plain = {_timed(row): row.get("p50_ms") for row in run.get("latency", []) if not row.get("defence")}
    measured = [
        row
        | {
            "added_ms": row["p50_ms"] - plain[_timed(row)] if row.get("defence") and _timed(row) in plain else None,
            "label": labels.get(row.get("artifact"), row.get("artifact")),
            "victim": victims.get(row.get("artifact")),
            "coarse": row.get("clock_ns", 0) > row.get("p50_ms", 0) * 1e6 * CLOCK_SHARE,
        }
        for row in run.get("latency", [])
    ]
    return sorted(measured, key=lambda row: (str(row["victim"]), bool(row.get("emulated"))))


def _timed(row: Row) -> tuple[Any, ...]:
    """What a latency with a defence shares with that without."""
    return row.get("artifact"), row.get("target"), row.get("threads")


def picture(run_dir: Path, file: str | None) -> str:
    """A PNG of the run directory as a data URI; empty for anything else."""
    path = (run_dir / (file or "")).resolve()
    if not file or not path.is_relative_to(run_dir.resolve()) or not path.is_file():
        return ""
    content = path.read_bytes()
    return f"data:image/png;base64,{base64.b64encode(content).decode()}" if content.startswith(PNG) else ""

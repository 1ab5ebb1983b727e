"""Metrics against a slow reference, on random records."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np
import pandas as pd
import pytest
from helpers.records import CELL
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

from harness.results.columns import CELL_COLUMNS, RECORD_COLUMNS
from harness.results.metrics import CLEAN, RATES, cells


@st.composite
def random_records(draw: st.DrawFn) -> pd.DataFrame:
    """Two victims' artifacts on several targets, any patches on any of them, images missing and failed at random."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    failing, missing = draw(st.sampled_from([(0, 0), (0.02, 0.02), (0, 0.05), (0.3, 0)]))
    classes, images = draw(st.integers(2, 4)), draw(st.integers(1, 12))
    labels = rng.integers(classes, size=images)
    places = [
        {"victim": v, "artifact": f"{v}-{f}-{p}", "format": f, "target": t, "precision": p}
        for v in ("a", "b")
        for f, t, p in (
            ("torch", "torch", "fp32"), ("torch", "torch", "w8a8"), ("onnx", "ort", "w8a8"), ("onnx", "ort2", "w8a8"),
            ("tflite", "litert", "w8a8"),
        )
    ]  # fmt: skip
    attacks = [{"attack": "none", "target_class": -1}] * 2 + [
        {"attack": a, "target_class": c, "seed": s, "patch_px": p, "surrogate": "float" if a == "gap" else "",
         "patch": f"{a}-{s}-{p}" + (f"-{c}" if a == "gap" else "")}
        for a in ("gap", "noise", "grey") for c in (-1, 0, 1) for s in (0, 1) for p in (4, 6)
    ]  # fmt: skip
    rows, seen = [], set()
    for place in places:
        for attack in (attacks[i] for i in rng.choice(len(attacks), 7)):
            cell = CELL | place | attack
            if tuple(cell.values()) in seen:
                continue
            seen.add(tuple(cell.values()))
            for i, label in enumerate(labels):
                if rng.random() < missing:
                    continue
                failed = rng.random() < failing
                right = int(label) if rng.random() < 0.6 else int(rng.integers(classes))
                record = {"image": f"i{i}", "label": int(label), "status": "crash: SIGSEGV" if failed else "ok"}
                rows.append(cell | record | {"pred": -1 if failed else right, "margin": 0.0})
    frame = pd.DataFrame(rows, columns=[*CELL_COLUMNS, *RECORD_COLUMNS])
    return frame.sample(frac=1, random_state=int(rng.integers(2**31)))


def reference(records: pd.DataFrame) -> dict[tuple[Any, ...], dict[str, float]]:
    """The definitions of the README, image by image."""
    groups: dict[tuple[Any, ...], dict[str, dict[str, Any]]] = defaultdict(dict)
    for row in records.to_dict("records"):
        groups[tuple(row[c] for c in CELL_COLUMNS)][row["image"]] = row
    named = {key: dict(zip(CELL_COLUMNS, key, strict=True)) for key in groups}

    def partner(cell: dict[str, Any], columns: tuple[str, ...], **fixed: Any) -> tuple[Any, ...] | None:
        same = {c: cell[c] for c in columns} | fixed
        return next((k for k, other in named.items() if all(other[c] == v for c, v in same.items())), None)

    out: dict[tuple[Any, ...], dict[str, float]] = {}
    for key, rows in groups.items():
        cell, clean = named[key], groups[k] if (k := partner(named[key], CLEAN, attack="none")) else {}
        wrong = {i for i in rows if rows[i]["status"] != "ok" or i not in clean or clean[i]["status"] != "ok"}
        out[key] = {"n_error": len(wrong | (set(clean) - set(rows)))} | dict.fromkeys(RATES, float("nan"))
        if out[key]["n_error"]:
            continue
        right = [i for i in rows if clean[i]["pred"] == rows[i]["label"]]
        out[key]["clean_accuracy"] = len(right) / len(rows)
        if cell["attack"] == "none":
            continue
        goal = cell["target_class"]
        aimed = [i for i in right if goal >= 0 and rows[i]["label"] != goal]
        if aimed:
            out[key]["targeted_success"] = sum(rows[i]["pred"] == goal for i in aimed) / len(aimed)
        if right:
            out[key]["untargeted_success"] = sum(rows[i]["pred"] != rows[i]["label"] for i in right) / len(right)
    ran = [k for k, cell in named.items() if cell["attack"] == "none" and not out[k]["n_error"]]
    judges = [k for k in ran if named[k]["format"] != "torch" or named[k]["precision"] == "fp32"]
    for key, rates in out.items():
        cell = named[key]
        own = [k for k in ran if k == partner(cell, CLEAN, attack="none")]  # a simulation is no judge but of itself
        mine = [groups[k] for k in {*judges, *own} if named[k]["victim"] == cell["victim"]]
        goal = cell["target_class"]
        common = [
            i
            for i, row in groups[key].items()
            if goal >= 0 and row["label"] != goal and all(i in m and m[i]["pred"] == row["label"] for m in mine)
        ]
        if common and cell["attack"] != "none" and not rates["n_error"]:
            hits = sum(groups[key][i]["pred"] == goal for i in common)
            rates["targeted_success_in_common"] = hits / len(common)
        same = {c: cell[c] for c in (*CLEAN, "patch_px", "shape", "placement", "target_class")} | {"attack": "noise"}
        draws = [out[k]["targeted_success"] for k, c in named.items() if all(c[n] == v for n, v in same.items())]
        if draws:
            rates["targeted_excess_over_noise"] = rates["targeted_success"] - sum(draws) / len(draws)
        columns = ("victim", "attack", "target_class", "seed", "patch_px", "patch")
        lab = partner(cell, columns, format="torch", precision="fp32")
        if lab and not out[lab]["n_error"] and not rates["n_error"]:
            both = set(groups[key]) & set(groups[lab])
            if both:
                equal = sum(groups[key][i]["pred"] == groups[lab][i]["pred"] for i in both)
                rates["equal_to_float"] = equal / len(both)
    return out


@settings(max_examples=60, deadline=None)
@given(random_records())
def test_against_the_reference(records: pd.DataFrame) -> None:
    table, wanted = cells(records), reference(records)
    assert len(table) == len(wanted)
    for rate, n in zip(RATES, ("n_clean", "n_targeted", "n_untargeted", "n_in_common"), strict=False):
        some = table[table[n] > 0]
        known = [
            binomtest(round(row[rate] * row[n]), row[n]).proportion_ci(0.95, "wilson")
            for row in some.to_dict("records")
        ]
        assert np.allclose(some[[f"{rate}_low", f"{rate}_high"]], np.array(known).reshape(-1, 2))
        assert table.loc[table[n] == 0, f"{rate}_low"].isna().all()
    for row in table.to_dict("records"):
        expected = wanted[tuple(row[c] for c in CELL_COLUMNS)]
        assert row["status"] == ("error" if expected["n_error"] else "ok")
        for name, value in expected.items():
            assert row[name] == pytest.approx(value, nan_ok=True), (name, row)

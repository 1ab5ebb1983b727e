"""Pictures for the report: for each victim a few evaluation images, clean and patched, and what each place answered."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from backends.device.artifact import Pixels
from backends.device.bundle import paste
from harness.plan.cells import Cell
from harness.plan.steps import TORCH, VictimStep
from harness.run import crafting, stages
from patches.patch import CONTROLS

MOST = 3  # a victim


def examples(work: stages.Work, records: pd.DataFrame, run_dir: Path) -> Iterator[dict[str, Any]]:
    """Writes PNGs into ``examples/`` and gives what `harness.report` shows of them, another patch and image each."""
    taken = records[(records["split"] == "evaluate") & (records["label"] != records["target_class"])]
    for victim in dict.fromkeys(artifact.victim for artifact in work.plan.artifacts):
        chosen: dict[tuple[str, str], Cell] = {}
        for cell in work.plan.cells:
            case = cell.replay.case
            attacked = case.patch and case.patch.attack not in CONTROLS and not cell.control
            if case.patch and attacked and cell.replay.artifact.victim == victim and len(chosen) < MOST:
                chosen.setdefault((case.patch.name, case.place), cell)  # the first of a suite's defences
        shown: set[str] = set()
        for cell in chosen.values():
            here = _same_patch(taken, victim, cell)
            fresh = here[~here["image"].isin(shown)]
            lab = fresh[(fresh["target"] == TORCH) & (fresh["precision"] == "fp32")]
            seen = fresh if lab.empty else lab  # a brought file has no float network
            if seen.empty:
                continue
            hits = seen[seen["pred"] == cell.target_class]  # an image that falls for it, where there is one
            image = str((seen if hits.empty else hits)["image"].iloc[0])
            shown.add(image)
            yield _example(work, victim, cell, here[here["image"] == image], image, run_dir)


def _same_patch(records: pd.DataFrame, victim: VictimStep, cell: Cell) -> pd.DataFrame:
    case = cell.replay.case
    alike = {"victim": victim.name, "target_class": cell.target_class, "patch": case.patch.name if case.patch else ""}
    alike["defence"] = case.defence
    keep = (records[list(alike)].astype(object) == pd.Series(alike)).all(axis=1)
    return records[keep & (records["placement"].astype(str) == case.place)]


def _example(
    work: stages.Work, victim: VictimStep, cell: Cell, here: pd.DataFrame, image: str, run_dir: Path
) -> dict[str, Any]:
    seen = stages.images(work, victim.data, "evaluate")
    at = seen.ids.index(image)
    clean = np.array(seen.pixels[at : at + 1])
    stamps = crafting.stamps(work, cell.replay.case, [image])
    patched = paste(clean, *stamps) if stamps else clean
    patch = str(here["patch"].iloc[0])
    return {
        "patch": patch, "image": image, "label": int(here["label"].iloc[0]), "target_class": cell.target_class,
        "clean_png": _write(clean, run_dir, f"examples/{victim.name}-{at}-clean.png"),
        "patched_png": _write(patched, run_dir, f"examples/{victim.name}-{at}-{patch}.png"),
        "preds": here[["artifact", "target", "pred"]].astype({"artifact": str, "target": str}).to_dict("records"),
    }  # fmt: skip


def _write(pixels: Pixels, run_dir: Path, name: str) -> str:
    (run_dir / name).parent.mkdir(exist_ok=True)
    Image.fromarray(pixels[0]).save(run_dir / name)
    return name

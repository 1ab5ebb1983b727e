"""Pictures for the report: a few evaluation images of each victim, clean and patched, with all answers to them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from backends.device.artifact import Pixels
from backends.device.bundle import paste
from backends.device.files import replacing
from harness.plan.cells import Cell
from harness.plan.steps import VictimStep
from harness.results.entries import AnswerEntry, ExampleEntry
from harness.results.metrics import is_lab
from harness.results.success import hits
from harness.run import crafting, stages
from patches.patch import CONTROLS

EXAMPLES = 3  # of a victim


def examples(work: stages.Work, records: pd.DataFrame, run_dir: Path) -> Iterator[ExampleEntry]:
    """Write PNGs into ``examples/``, and yield what the report shows of them: another patch and image each."""
    attacked = records[(records["split"] == "evaluate") & (records["label"] != records["target_class"])]
    for victim in dict.fromkeys(artifact.victim for artifact in work.plan.artifacts):
        shown: set[str] = set()
        for cell in _chosen(work, victim):
            here = _same_patch(attacked, victim, cell)
            fresh = here[~here["image"].isin(shown)]
            lab = fresh[is_lab(fresh)]
            seen = fresh if lab.empty else lab  # a user's file has no float network
            if seen.empty:
                continue
            reached = seen[hits("targeted", seen["pred"].to_numpy(), seen["label"].to_numpy(), cell.target_class)]
            image = str((seen if reached.empty else reached)["image"].iloc[0])
            shown.add(image)
            yield _example(work, victim, cell, here[here["image"] == image], image, run_dir)


def _chosen(work: stages.Work, victim: VictimStep) -> list[Cell]:
    """Return a cell of each of the first patches and placements, with the first of the suite's defences."""
    chosen: dict[tuple[str, str], Cell] = {}
    for cell in work.plan.cells:
        patch = cell.replay.case.patch
        is_attack = patch is not None and patch.attack not in CONTROLS and not cell.control
        if patch and is_attack and cell.replay.artifact.victim == victim and len(chosen) < EXAMPLES:
            chosen.setdefault((patch.name, cell.replay.case.place), cell)
    return list(chosen.values())


def _same_patch(records: pd.DataFrame, victim: VictimStep, cell: Cell) -> pd.DataFrame:
    case = cell.replay.case
    alike = {
        "victim": victim.name,
        "target_class": cell.target_class,
        "patch": case.patch.name if case.patch else "",
        "defence": case.defence,
    }
    same = (records[list(alike)].astype(object) == pd.Series(alike)).all(axis=1)
    return records[same & (records["placement"].astype(str) == case.place)]


def _example(
    work: stages.Work, victim: VictimStep, cell: Cell, here: pd.DataFrame, image: str, run_dir: Path
) -> ExampleEntry:
    seen = stages.images(work, victim.data, "evaluate")
    at = seen.ids.index(image)
    clean = np.array(seen.pixels[at : at + 1])
    stamps = crafting.stamps(work, cell.replay.case, [image])
    patched = paste(clean, *stamps) if stamps else clean
    patch = str(here["patch"].iloc[0])
    return ExampleEntry(
        patch=patch,
        image=image,
        label=int(here["label"].iloc[0]),
        target_class=cell.target_class,
        clean_png=_write(clean, run_dir, f"examples/{victim.name}-{at}-clean.png"),
        patched_png=_write(patched, run_dir, f"examples/{victim.name}-{at}-{patch}.png"),
        preds=tuple(
            AnswerEntry(artifact=str(artifact), target=str(target), pred=int(pred))
            for artifact, target, pred in zip(here["artifact"], here["target"], here["pred"], strict=True)
        ),
    )


def _write(pixels: Pixels, run_dir: Path, name: str) -> str:
    with replacing(run_dir / name) as draft:
        Image.fromarray(pixels[0]).save(draft)
    return name

"""Pictures for the report: a few evaluation images of each victim, clean and patched, with all answers to them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from backends.device.artifact import Pixels
from backends.device.bundle import paste
from backends.device.files import replacing
from harness.plan.cells import Cell
from harness.plan.steps import VictimStep
from harness.results.entries import AnswerEntry, ExampleEntry
from harness.results.metrics import is_lab
from harness.results.outcomes import ABSENT, Outcomes
from harness.results.success import hits
from harness.run import crafting, stages
from patches.patch import CONTROLS

EXAMPLES = 3  # of a victim


def examples(work: stages.Work, known: Outcomes, run_dir: Path) -> Iterator[ExampleEntry]:
    """Write PNGs into ``examples/``, and yield what the report shows of them: another patch and image each."""
    for victim in dict.fromkeys(artifact.victim for artifact in work.plan.artifacts):
        is_fresh = np.ones(len(known.images), bool)
        for cell in _chosen(work, victim):
            rows = _same_patch(known.cells, victim, cell)
            labs = rows[is_lab(known.cells.iloc[rows]).to_numpy(bool)]
            seen = rows if not len(labs) else labs  # a user's file has no float network
            may_be = (known.preds[seen] != ABSENT) & is_fresh & (known.labels != cell.target_class)
            if not may_be.any():
                continue
            reached = may_be & hits("targeted", known.preds[seen], known.labels, cell.target_class)
            image = int(np.argwhere(reached if reached.any() else may_be)[0][1])
            is_fresh[image] = False
            yield _example(work, victim, cell, known, rows, image, run_dir)


def _chosen(work: stages.Work, victim: VictimStep) -> list[Cell]:
    """Return a cell of each of the first patches and placements, with the first of the suite's defences."""
    chosen: dict[tuple[str, str], Cell] = {}
    for cell in work.plan.cells:
        patch = cell.replay.case.patch
        is_attack = patch is not None and patch.attack not in CONTROLS and not cell.control
        if patch and is_attack and cell.replay.artifact.victim == victim and len(chosen) < EXAMPLES:
            chosen.setdefault((patch.name, cell.replay.case.place), cell)
    return list(chosen.values())


def _same_patch(cells: pd.DataFrame, victim: VictimStep, cell: Cell) -> NDArray[np.int64]:
    """Return the rows of the same patch on a victim's files, at the same place."""
    case = cell.replay.case
    alike = {
        "victim": victim.name,
        "target_class": cell.target_class,
        "patch": case.patch.name if case.patch else "",
        "defence": case.defence,
        "placement": case.place,
    }
    return np.flatnonzero(np.logical_and.reduce([cells[column] == value for column, value in alike.items()]))


def _example(
    work: stages.Work,
    victim: VictimStep,
    cell: Cell,
    known: Outcomes,
    rows: NDArray[np.int64],
    column: int,
    run_dir: Path,
) -> ExampleEntry:
    here = known.cells.iloc[rows[known.preds[rows, column] != ABSENT]]
    image = str(known.images[column])
    seen = stages.images(work, victim.data, "evaluate")
    at = seen.ids.index(image)
    clean = np.array(seen.pixels[at : at + 1])
    stamps = crafting.stamps(work, cell.replay.case, [image])
    patched = paste(clean, *stamps) if stamps else clean
    patch = str(here["patch"].iloc[0])
    return ExampleEntry(
        patch=patch,
        image=image,
        label=int(known.labels[column]),
        target_class=cell.target_class,
        clean_png=_write(clean, run_dir, f"examples/{victim.name}-{at}-clean.png"),
        patched_png=_write(patched, run_dir, f"examples/{victim.name}-{at}-{patch}.png"),
        preds=tuple(
            AnswerEntry(artifact=str(artifact), target=str(target), pred=int(pred))
            for artifact, target, pred in zip(
                here["artifact"], here["target"], known.preds[here.index, column], strict=True
            )
        ),
    )


def _write(pixels: Pixels, run_dir: Path, name: str) -> str:
    with replacing(run_dir / name) as draft:
        Image.fromarray(pixels[0]).save(draft)
    return name

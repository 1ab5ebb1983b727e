"""From logits to records: a row per image and cell, with what the cell was and how it came out."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from harness.plan.cells import Cell
from harness.plan.steps import ArtifactStep
from harness.results.columns import CELL_COLUMNS, RECORD_COLUMNS


class Answers(NamedTuple):
    """What came back of one replay: float32 logits ``(n, classes)``, or why there are none; and what really ran."""

    logits: NDArray[np.float32] | None
    error: str
    info: Mapping[str, str]
    machine: Mapping[str, str]
    integers: NDArray[np.generic] | None = None  # the file's own outputs, where they are integers


class Truth(NamedTuple):
    """The images of a split: their ids, and int64 labels ``(n,)``."""

    ids: NDArray[np.str_]
    labels: NDArray[np.int64]


def judge(answers: Answers, labels: NDArray[np.int64], class_offset: int = 0) -> pd.DataFrame:
    """Status, prediction and margin per image; ties go to the lower class, and what is not finite is no prediction.

    The margin is the label's logit less the best other one: below zero is a misclassification.
    """
    n = len(labels)
    if answers.logits is None:
        return pd.DataFrame({"label": labels, "status": answers.error, "pred": -1, "margin": np.nan})
    logits = answers.logits[:, class_offset:].astype(np.float64)
    if len(logits) != n:
        error = f"expected logits of {n} images, got {len(logits)}"
        return pd.DataFrame({"label": labels, "status": error, "pred": -1, "margin": np.nan})
    finite = np.isfinite(logits).all(axis=1)
    others = logits.copy()
    others[np.arange(n), labels] = -np.inf
    with np.errstate(invalid="ignore"):
        margin = logits[np.arange(n), labels] - others.max(axis=1)
    return pd.DataFrame(
        {
            "label": labels,
            "status": np.where(finite, "ok", "nan logits"),
            "pred": np.where(finite, logits.argmax(axis=1), -1),
            "margin": np.where(finite, margin, np.nan),
        }
    )


def records(cells: list[Cell], truths: Mapping[tuple[str, str], Truth], answers: Mapping[str, Answers]) -> pd.DataFrame:
    """The records of all cells; truths by (data key, split), answers by replay key. Columns as in `harness.schema`."""
    frames = []
    for cell in cells:
        case = cell.replay.case
        truth, answer = truths[case.data.key, case.split], answers[cell.replay.key]
        brought = cell.replay.artifact.brought
        frame = judge(answer, truth.labels, brought.class_offset if brought else 0)
        frame.insert(0, "image", truth.ids)
        for name, value in columns(cell, answer).items():
            frame[name] = pd.Categorical([value] * len(frame)) if isinstance(value, str) else value
        frames.append(frame)
    whole = pd.concat(frames, ignore_index=True)[[*CELL_COLUMNS, *RECORD_COLUMNS]]
    texts = {name: "category" for name in CELL_COLUMNS if not pd.api.types.is_numeric_dtype(whole[name])}
    return whole.astype(texts | {"status": "category", "pred": "int32", "label": "int32"})


def _granularity(artifact: ArtifactStep) -> str:
    """Whose steps the weights have; trained ones are compared with none merely rounded, packed with none embedded."""
    if artifact.quant is None:
        return ""
    steps = ("per_channel" if artifact.quant.per_channel else "per_tensor") + "_packed" * artifact.quant.packed
    return f"{steps}_{artifact.training.short}" if artifact.training else steps


def columns(cell: Cell, answer: Answers) -> dict[str, str | int | float]:
    """What identifies a cell, by the names of `harness.results.columns.CELL_COLUMNS`."""
    replay, case, target = cell.replay, cell.replay.case, cell.replay.target
    artifact, patch, quant = replay.artifact, case.patch, replay.artifact.quant
    covered = (patch.fill if patch else 1.0) * case.px**2 / math.prod(case.data.size)
    return {
        "victim": artifact.victim.name,
        "precision": artifact.precision,
        "format": artifact.format,
        "signature": quant.signature if quant else "",
        "calibration": quant.calibration if quant else "",
        "granularity": _granularity(artifact),
        "artifact": artifact.name,
        "surrogate": patch.surrogate_for(artifact.victim.name) if patch else "",
        "attack": cell.control or ((patch.label or patch.attack) if patch else "none"),
        "target_class": cell.target_class,
        "seed": patch.seed if patch else 0,
        "patch_px": case.px,
        "patch_area": covered,
        "shape": patch.shape if patch else "",
        "placement": case.place,
        "defence": case.defence,
        "split": case.split,
        "runtime": target.runtime,
        "target": target.name,
        "host": target.host,
        "arch": answer.machine.get("arch", ""),
        "cpu": answer.machine.get("cpu", ""),
        "threads": target.threads,
        "kernels": answer.info.get("kernels", ""),
        "patch": (patch.name + (f"@{case.at.name}" if case.at else "")) if patch else "",
    }

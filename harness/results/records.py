"""Records from logits: one row per image and cell, with the answer and the columns that identify the cell."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from backends.device.protocol import MachineFacts
from backends.fidelity import fidelity
from backends.hosts import Target, is_emulated
from harness.plan.cells import Cell
from harness.plan.steps import TORCH, ArtifactStep
from harness.results.columns import CELL_COLUMNS, OF_FLEETS, OF_MANY_PASSES, RECORD_COLUMNS
from harness.results.success import NO_ANSWER, answer


class Passes(NamedTuple):
    """What a defence that runs the network many times says of each image; see `backends.device.many_passes`."""

    verdicts: NDArray[np.str_]
    passes: NDArray[np.int32]
    certified: NDArray[np.bool_]


class Answers(NamedTuple):
    """The result of a replay: float32 logits ``(n, classes)`` or an error, and what was in force."""

    logits: NDArray[np.float32] | None
    error: str
    info: Mapping[str, str]
    machine: MachineFacts
    integers: NDArray[np.generic] | None = None  # the file's own outputs, if they are integers
    passes: Passes | None = None
    board: str = ""  # of a fleet, the address of the one that answered


class Truth(NamedTuple):
    """The images of a split: their ids, and int64 labels ``(n,)``."""

    ids: NDArray[np.str_]
    labels: NDArray[np.int64]


def judge(answers: Answers, labels: NDArray[np.int64], class_offset: int = 0) -> pd.DataFrame:
    """Return label, status, prediction and margin per image; see `harness.results.success.answer`."""
    n = len(labels)
    error = answers.error
    if answers.logits is not None and len(answers.logits) != n:
        error = f"expected logits of {n} images, got {len(answers.logits)}"
    if answers.logits is None or error:
        return pd.DataFrame({"label": labels, "status": error, "pred": NO_ANSWER, "margin": np.nan})
    pred, margin = answer(answers.logits[:, class_offset:], labels)
    status = np.where(pred == NO_ANSWER, "nan logits", "ok")
    return pd.DataFrame({"label": labels, "status": status, "pred": pred, "margin": margin})


def _with_passes(frame: pd.DataFrame, passes: Passes | None) -> pd.DataFrame:
    """Add the columns of `harness.results.columns.OF_MANY_PASSES`."""
    if passes is None:
        return frame.assign(verdict=pd.Categorical([""] * len(frame)), passes=1, certified=0)
    return frame.assign(
        verdict=pd.Categorical(passes.verdicts), passes=passes.passes, certified=passes.certified.astype(int)
    )


def records(
    cells: list[Cell],
    truths: Mapping[tuple[str, str], Truth],
    answers: Mapping[str, Answers],
    precisions: Mapping[str, str],
    has_passes: bool = False,
    has_boards: bool = False,
) -> pd.DataFrame:
    """Return the records of cells; truths by (data key, split), answers by replay key, precisions by artifact.

    With ``has_passes`` they have `harness.results.columns.OF_MANY_PASSES` too, as all of a run do where any cell's
    defence runs the network many times, with ``has_boards`` `OF_FLEETS`, as where any target is a fleet.
    """
    frames = []
    added = (OF_MANY_PASSES if has_passes else ()) + (OF_FLEETS if has_boards else ())
    for cell in cells:
        case = cell.replay.case
        truth, answer = truths[case.data.key, case.split], answers[cell.replay.key]
        brought = cell.replay.artifact.brought
        frame = judge(answer, truth.labels, brought.class_offset if brought else 0)
        frame.insert(0, "image", truth.ids)
        if has_passes:
            frame = _with_passes(frame, answer.passes)
        if has_boards:
            frame = frame.assign(board=pd.Categorical([answer.board] * len(frame)))
        for name, value in columns(cell, answer, precisions[cell.replay.artifact.key]).items():
            frame[name] = pd.Categorical([value] * len(frame)) if isinstance(value, str) else value
        frames.append(frame)
    whole = pd.concat(frames, ignore_index=True)[[*CELL_COLUMNS, *RECORD_COLUMNS, *added]]
    texts = {name: "category" for name in CELL_COLUMNS if not pd.api.types.is_numeric_dtype(whole[name])}
    texts |= {"status": "category", "pred": "int32", "label": "int32"}
    return whole.astype(texts | {name: "category" if name in ("verdict", *OF_FLEETS) else "int32" for name in added})


def _granularity(artifact: ArtifactStep) -> str:
    """Return whose scales the weights have, and whether they are packed or trained, which are groups of their own."""
    if artifact.quant is None:
        return ""
    granularity = "per_channel" if artifact.quant.per_channel else "per_tensor"
    if artifact.quant.packed:
        granularity += "_packed"
    return f"{granularity}_{artifact.training.short}" if artifact.training else granularity


def _fidelity(target: Target, machine: MachineFacts) -> str:
    """Return how true a target is, by what it reported or, where it failed, by what was asked for."""
    if target.name == TORCH:
        return ""
    arch, emulated = machine.get("arch", target.arch), machine.get("emulated", is_emulated(target))
    return fidelity(target.runtime, target.host, arch, emulated)


def columns(cell: Cell, answer: Answers, precision: str) -> dict[str, str | int | float]:
    """Return what identifies a cell, by the names of `harness.results.columns.CELL_COLUMNS`.

    The precision is that of the file, which may be partly integer.
    """
    replay, case, target = cell.replay, cell.replay.case, cell.replay.target
    artifact, patch, quant = replay.artifact, case.patch, replay.artifact.quant
    covered = (patch.fill if patch else 1.0) * case.px**2 / math.prod(case.data.size)
    return {
        "victim": artifact.victim.name,
        "precision": precision,
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
        "fidelity": _fidelity(target, answer.machine),
        "arch": answer.machine.get("arch", ""),
        "cpu": answer.machine.get("cpu", ""),
        "threads": target.threads,
        "kernels": answer.info.get("kernels", ""),
        "patch": (patch.name + (f"@{case.at.name}" if case.at else "")) if patch else "",
    }

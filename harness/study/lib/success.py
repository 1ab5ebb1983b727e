"""Success of a patch: as the run counted it, as a share of its success on float, and counted from predictions."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from harness.plan.cells import Case
from harness.plan.steps import ArtifactStep
from harness.results.success import counts
from harness.results.success import hits as hits_of
from harness.study.lib.inputs import Inputs
from harness.study.lib.tables import where

LEAST = 0.05  # success on the float network; a share of less is noise


class Counted(NamedTuple):
    """Which images a patch hits, and which count at all: bool ``(patches, images)`` each."""

    hits: NDArray[np.bool_]
    among: NDArray[np.bool_]


def goal(case: Case) -> int:
    """Return the target class of a case's patch, -1 for none."""
    if case.patch is None or case.patch.target_class is None:
        return -1
    return case.patch.target_class


def count(
    labels: NDArray[np.int64], clean: NDArray[np.int64], patched: NDArray[np.int64], goals: NDArray[np.int64]
) -> Counted:
    """Count ``patched`` predictions ``(patches, images)``: a hit is the goal, or any error where the goal is -1.

    The images that count are classified correctly without the patch and are not of the target class.
    """
    goals = goals[:, None]
    is_targeted = goals >= 0
    hits = np.where(
        is_targeted, hits_of("targeted", patched, labels, goals), hits_of("untargeted", patched, labels, goals)
    )
    among = np.where(is_targeted, counts("targeted", clean, labels, goals), counts("untargeted", clean, labels, goals))
    return Counted(hits, among)


def of_case(table: pd.DataFrame, case: Case) -> pd.DataFrame:
    """Return the undefended rows, without those in error, of the attack, size, place and split of a case."""
    assert case.patch is not None
    attack = case.patch.label or case.patch.attack
    table = where(table, attack=attack, patch_px=case.px, placement=case.place, split=case.split)
    return where(table, defence="", status="ok")


def success(inputs: Inputs, artifact: ArtifactStep, case: Case) -> pd.DataFrame:
    """Return a patch's success on an artifact with ``low``, ``high`` and ``n``, one row per target.

    It is the targeted success, or the untargeted where the patch has no target class; failed cells are left out.
    """
    patch = case.patch
    assert patch is not None
    cells = where(of_case(inputs.cells, case), artifact=artifact.name, patch=patch.name, target_class=goal(case))
    kind = "untargeted" if patch.target_class is None else "targeted"
    rate = f"{kind}_success"
    names = {rate: "success", f"{rate}_low": "low", f"{rate}_high": "high", f"n_{kind}": "n"}
    return cells[["target", "runtime", *names]].rename(columns=names)


def relative_success(inputs: Inputs, artifact: ArtifactStep, lab: ArtifactStep, case: Case) -> pd.DataFrame:
    """Return `success` with ``relative``, its share of the same patch's success on the float network ``lab``.

    NaN where that is below `LEAST`.
    """
    on_float = success(inputs, lab, case)["success"].to_numpy(float)
    base = on_float[0] if len(on_float) and on_float[0] >= LEAST else np.nan
    table = success(inputs, artifact, case)
    return table.assign(relative=table["success"] / base)

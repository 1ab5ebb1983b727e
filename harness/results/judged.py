"""The judgement of a run: its outcomes, the rates of its cells, their means over patches, and its checks of itself."""

from __future__ import annotations

from typing import NamedTuple

import pandas as pd

from harness.results.checks import checks, doubts
from harness.results.entries import Check
from harness.results.gathering import Splits
from harness.results.metrics import cells, summarise
from harness.results.run_directory import RunFacts


class Judged(NamedTuple):
    """What is said of a run; ``cells`` have their doubts, ``over_patches`` is `harness.results.metrics.summarise`."""

    outcomes: Splits
    cells: pd.DataFrame
    over_patches: pd.DataFrame
    checks: tuple[Check, ...]


def judged(run: RunFacts, outcomes: Splits) -> Judged:
    """Judge a run; checks that it made of itself before are taken as they are."""
    table = cells(outcomes)
    made = run.checks or checks(run, table)
    table["doubts"] = doubts(table, made)
    return Judged(outcomes, table, summarise(table, outcomes), made)

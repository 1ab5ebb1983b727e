"""The layer where a target begins to differ: a file's beginnings, on the target and on another, by bisection."""

from __future__ import annotations

import tempfile
from bisect import bisect_left
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np

from backends.device.artifact import Artifact, sha256_file
from backends.device.errors import UserError
from backends.device.reading import read_json
from backends.hosts import Target
from exporters.files.beginnings import beginnings, cut
from harness.plan.cells import ReplayStep
from harness.plan.steps import decided
from harness.results.alike import KERNELS, correlation
from harness.run import stages
from harness.run.probe import Hear, replayed
from harness.store import key, write_json

IMAGES = 4


def begins(work: stages.Work, step: ReplayStep, other: Target, hear: Hear) -> str:
    """Name the first operator whose values on a target do not correlate with those on another; kept in the store.

    What goes wrong stays wrong, so some six beginnings of a file tell, by the path of any replay. Empty where a
    beginning does not run by itself, or where none is wrong.
    """
    by = (step.decided or decided(step.target), decided(other))
    name = key("begins", artifact=step.artifact.key, by=by, images=IMAGES)
    if not work.store.has("begins", name):
        operator = ""
        with suppress(UserError), work.display.doing("check", f"where {step.pair} begins to differ"):
            operator = _first(work, step, other, hear)
        with work.store.writing("begins", name) as folder:
            write_json(folder / "begins.json", {"operator": operator})
    return str(read_json(work.store.path("begins", name) / "begins.json")["operator"])


def _first(work: stages.Work, step: ReplayStep, other: Target, hear: Hear) -> str:
    described, folder = stages.artifact(work, step.artifact)
    file = folder / described.file
    pixels = np.array(stages.images(work, step.artifact.victim.data, "evaluate").pixels[:IMAGES])
    found = beginnings(file)

    def is_wrong(number: int) -> bool:
        with tempfile.TemporaryDirectory(dir=work.store.scratch) as scratch:
            part = Path(scratch) / file.name
            cut(file, found[number].tensor, part)
            ends = _artifact(described, part)
            mine, its = (
                replayed(target, ends, part, pixels, Path(scratch), hear)[0] for target in (step.target, other)
            )
            return not correlation(mine, its) >= KERNELS.correlation

    first = bisect_left(range(len(found)), True, key=is_wrong)
    if first == len(found):
        return ""
    return f"{found[0].operator}, the first: is its input right?" if first == 0 else found[first].operator


def _artifact(described: Artifact, part: Path) -> Artifact:
    return replace(described, sha256=sha256_file(part), classes=1, class_offset=0, quant=None)

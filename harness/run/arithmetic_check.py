"""Arithmetic check: hold what integer targets answered against exact integers, on the first clean evaluation images."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path

import numpy as np

from backends.device.artifact import Artifact
from backends.device.errors import UserError
from backends.device.reading import read_json
from backends.device.runtimes import engine
from exporters.files import describe
from harness.extras import require
from harness.plan.cells import ReplayStep
from harness.results.agreement import output_integers
from harness.results.measured import ArithmeticEntry
from harness.results.records import Answers
from harness.run import replays, stages
from harness.run.arithmetic import compare
from harness.run.repeat_check import first_clean
from harness.store import key, write_json

IMAGES = 32
WEIGHTED = ("Conv", "Gemm", "MatMul")  # in the names of ONNX operators that sum products


def arithmetics(work: stages.Work) -> Iterator[ArithmeticEntry]:
    """Yield for each INT8 artifact on each target how its integers differ from its twin's, or why none can tell.

    Kept in the store, under a key that covers the code of the twins.
    """
    for step in first_clean(work):
        answer = replays.answers(work, step)
        if step.artifact.precision != "fp32" and answer.logits is not None:
            name = key("arithmetic", replay=step.key, images=IMAGES)
            if not work.store.has("arithmetic", name):
                with work.display.doing("check", f"arithmetic of {step.artifact.name} on {step.target.name}"):
                    entry = _compare(work, step, answer)
                with work.store.writing("arithmetic", name) as folder:
                    write_json(folder / "arithmetic.json", entry.plain())
            kept = read_json(work.store.path("arithmetic", name) / "arithmetic.json")
            place = {"artifact": step.artifact.name, "target": step.target.name}
            yield ArithmeticEntry.model_validate(kept | place)


def _compare(work: stages.Work, step: ReplayStep, answer: Answers) -> ArithmeticEntry:
    described, folder = stages.artifact(work, step.artifact)
    file = folder / described.file
    place = {"artifact": step.artifact.name, "target": step.target.name}
    try:
        found = _against_twin(work, step, answer, described, file)
    except UserError as error:
        return ArithmeticEntry.model_validate(place | {"unknown": str(error).splitlines()[0]})
    return ArithmeticEntry.model_validate(place | {"signature": _signature(described, file)} | found)


def _against_twin(
    work: stages.Work, step: ReplayStep, answer: Answers, described: Artifact, file: Path
) -> dict[str, float]:
    require("torch")
    from patches.twins import twin

    exact = twin(file, _kernels(step, answer), described.preproc)
    scale = stages.contents(work, step.artifact).output_scale
    if described.output_kind == "softmax" or scale is None or not np.isclose(scale, exact.quant.scale):
        raise UserError(f"{file.name}: its output is not the integers of its last layer")
    assert answer.logits is not None
    integers = None if answer.integers is None else answer.integers[:IMAGES]
    found = output_integers(answer.logits[:IMAGES], integers, scale, exact.quant.zero_point)
    if found is None:
        raise UserError(f"{file.name}: its output is not the integers of its last layer")
    pixels = np.array(stages.images(work, step.case.data, step.case.split).pixels[:IMAGES])
    return asdict(compare(exact, pixels, found))


def _kernels(step: ReplayStep, answer: Answers) -> str | None:
    """Return the kernels of the twin that follows a target's arithmetic; where none does, raise a `UserError`."""
    kernels = answer.info.get("kernels", "")
    runtime = step.target.runtime
    twins: Mapping[str, str | None] = getattr(engine(runtime), "twins", {})
    if kernels not in twins:
        raise UserError(f"no twin follows the arithmetic of {runtime}, kernels {kernels or 'unknown'}")
    return twins[kernels]


def _signature(described: Artifact, file: Path) -> str:
    """Return the types of a file's activations and weights, ``u8s8``; empty where no operator tells."""
    if described.quant:
        return described.quant.signature
    short = {"uint8": "u8", "int8": "s8"}
    for operator in describe(file).operators:
        types = [short.get(tensor.integers or tensor.dtype, "") for tensor in operator.inputs]
        types = [one for one in types if one]
        if any(word in operator.name for word in WEIGHTED) and len(types) > 1:
            return "".join(types[:2])
    return ""

"""How far features persist: activations with and without the patch, float and quantized, compared layer by layer.

For the float network and its simulations torch's graph is watched. A file is cut at the layer and replayed, so that
what is compared is what its device computes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from backends.device.errors import UserError
from harness.plan.cells import Case, ReplayStep
from harness.plan.steps import ArtifactStep
from harness.run.stages import trained
from harness.study.lib import readings
from harness.study.lib.features_drawn import draw
from harness.study.lib.inputs import Inputs, Subject, is_simulated
from harness.study.lib.layers import Layer, choose
from harness.study.lib.readings import Reading, Readings
from harness.study.lib.similarity import cka, cosines, gram, mean, relative_norms
from patches.fake_quant.graph import describe
from patches.fake_quant.network import folded

__all__ = ["QUESTION", "draw", "measure"]

QUESTION = "Do features persist through quantization, with the patch and without, and where does the patch enter them?"
PATCHES = 4  # that are looked at, the first of the suite
LEAST_COSINE = 0.9  # between a file and its own simulation, or the tensors are not the same

Read = Callable[[Case], Readings]


def measure(inputs: Inputs) -> pd.DataFrame:
    """A row an artifact, patch, layer and comparison, ``n`` images each; ``error`` where a target gave nothing.

    ``comparison`` is "patch" (patched against clean, on that artifact), "quantization" (it against the float network,
    both clean) or "quantization, patched". ``cka``, ``cosine`` (mean over images) and ``relative_norm`` (of the
    difference, mean over images) have 95 % intervals over images, by jackknife and t. ``saturated`` is the share of
    activations at an end of the levels that is not zero, in the first of the two, ``saturated_clean`` on clean images.
    """
    parts = [_of_artifact(inputs, subject, step) for subject in inputs.subjects() for step in subject.artifacts]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()


def _of_artifact(inputs: Inputs, subject: Subject, step: ArtifactStep) -> pd.DataFrame:
    """One artifact on its first target."""
    patches = subject.patches[:PATCHES]
    on = [r for r in inputs.work.plan.replays if r.artifact == step and r.case in (subject.clean, *patches)]
    target = on[0].target
    asked = [ReplayStep(case, step, target).key for case in (subject.clean, *patches)]
    place = {"victim": subject.victim.name, "artifact": step.name, "precision": step.precision, "target": target.name}
    try:
        found = inputs.kept(
            "features", lambda: _compared(inputs, subject, on[0]), asked=asked, images=inputs.settings.images
        )
    except UserError as error:
        found = pd.DataFrame([{"error": str(error)}])
    return pd.DataFrame([place | row for row in found.to_dict("records")])


def _compared(inputs: Inputs, subject: Subject, on: ReplayStep) -> pd.DataFrame:
    work, step, patches = inputs.work, on.artifact, subject.patches[:PATCHES]
    graph = folded(work.network(subject.victim))
    described = describe(graph)
    layers = choose(described)
    _, shapes = readings.of_torch(graph, layers, described, inputs.pixels(subject.clean, 1))

    def of_float(case: Case) -> Readings:
        return readings.of_torch(graph, layers, described, inputs.pixels(case))[0]

    def simulated(case: Case) -> Readings:
        return readings.of_torch(work.simulated(step), layers, described, inputs.pixels(case))[0]  # type: ignore[arg-type]

    read: Callable[[Case], Readings] = of_float if step.quant is None else simulated
    if not is_simulated(step):
        own = describe(folded(graph, trained(work, step.training))) if step.training else described
        cases, n = [subject.clean, *patches], inputs.settings.images
        answers = readings.of_device(work, step, on.target, layers, own, shapes, cases, n)
        _require_same(step, layers, answers[subject.clean], read(subject.clean))
        read = answers.__getitem__
    is_reference = is_simulated(step) and step.quant is None
    return pd.DataFrame(_rows(layers, subject, read, None if is_reference else of_float))


def _require_same(step: ArtifactStep, layers: list[Layer], device: Readings, simulation: Readings) -> None:
    """A `UserError` where what came from the device is not the tensor that we took it for."""
    for layer in layers:
        alike = np.nanmean(cosines(device[layer.name].values, simulation[layer.name].values))
        if not alike >= LEAST_COSINE:
            raise UserError(f"{step.name}, {layer.name}: its activations are not the simulation's (cosine {alike:.2f})")


def _rows(layers: list[Layer], subject: Subject, read: Read, of_float: Read | None) -> list[dict[str, Any]]:
    clean = read(subject.clean)
    rows = []
    for case in (subject.clean, *subject.patches[:PATCHES]):
        here, there = read(case), of_float(case) if of_float else {}
        patch = {"patch": case.name, "target_class": case.patch.target_class if case.patch else None}
        pairs = {"patch": (here, clean)} if case.patch else {}
        pairs |= {"quantization" + ", patched" * bool(case.patch): (here, there)} if of_float else {}
        for i, layer in enumerate(layers):
            for comparison, (a, b) in pairs.items():
                row = {"layer": i, "layer_name": layer.name, "comparison": comparison}
                row |= _alike(a[layer.name], b[layer.name]) | {"saturated_clean": clean[layer.name].saturated}
                rows.append(patch | row)
    return rows


def _alike(a: Reading, b: Reading) -> dict[str, Any]:
    """How far two readings of a layer resemble each other; ``b`` is the one that norms are relative to."""
    x, y = a.values, b.values
    found = {"cka": cka(gram(x), gram(y)), "cosine": mean(cosines(x, y)), "relative_norm": mean(relative_norms(x, y))}
    flat = {f"{name}{end}": value for name, one in found.items() for end, value in zip(ENDS, one, strict=True)}
    return flat | {"saturated": a.saturated, "n": len(x)}


ENDS = ("", "_low", "_high")

"""The content of run.json: what was attacked, with what, where, and what failed; everything but the rates."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

import numpy as np

from backends.device.artifact import Artifact
from backends.device.cpu_speed import CpuSpeed, has_throttled
from backends.device.machine import describe
from backends.device.reading import read_json
from backends.environments import installed
from harness.data import splits
from harness.data.datasets import class_names
from harness.data.splits import SPLITS
from harness.plan.cells import LatencyStep, ReplayStep
from harness.plan.described import input_doubt
from harness.plan.steps import TORCH, ArtifactStep, PatchStep, VictimStep
from harness.results.agreement import Replayed, agreement, output_integers
from harness.results.entries import (
    ArtifactEntry,
    CraftingEntry,
    DataEntry,
    ErrorEntry,
    MachineEntry,
    PatchEntry,
    SuiteEntry,
    TargetEntry,
    VictimEntry,
)
from harness.results.gathering import Splits, outcomes
from harness.results.measured import LatencyEntry
from harness.results.metrics import is_lab
from harness.results.outcomes import Outcomes
from harness.results.run_directory import SCHEMA, RunFacts
from harness.run import crafting, evidence, fleets, replays, stages
from harness.run.arithmetic_check import arithmetics
from harness.run.elsewhere_check import elsewheres
from harness.run.examples import examples
from harness.run.repeat_check import alike, repeats
from harness.run.stages import Work
from harness.run.target_facts import target_entry
from harness.run.twin_check import twins
from harness.store import write_json

PACKAGES = (
    "patchbench",
    "torch",
    "torchvision",
    "onnx",
    "onnxruntime",
    "litert-torch",
    "ai-edge-quantizer",
    "ai-edge-litert",
    "numpy",
)


def describe_run(work: Work, splits: Splits, run_dir: Path, about: Timing) -> RunFacts:
    """Return the content of run.json; put artifacts, patches and example pictures into the run directory."""
    plan = work.plan
    machine = describe()
    known = outcomes(splits)
    facts = RunFacts(
        schema=SCHEMA,
        suite=SuiteEntry.model_validate(plan.suite.model_dump(by_alias=True)),
        title=plan.suite.title,
        label=about.label,
        versions={name: found for name in PACKAGES if (found := installed(name))},
        machine=MachineEntry(cpu=machine.cpu, arch=machine.arch, cores=machine.cores, kernel=machine.kernel),
        commit=commit(),
        data=_data(work, run_dir),
        class_names=tuple(class_names(plan.suite.data, plan.data_dir)),
        victims=tuple(_victim(work, step, known) for step in plan.victims),
        artifacts=tuple(_artifact(work, step, run_dir) for step in plan.artifacts),
        patches=tuple(_patch(work, step, run_dir) for step in plan.patches),
        targets=tuple(_targets(work)),
        cases=tuple(evidence.cases(work)),
        outputs=tuple(evidence.outputs(work)),
        again=tuple(repeats(work)),
        arithmetic=tuple(arithmetics(work)),
        elsewhere=tuple(elsewheres(work)),
        twins=tuple(twins(work)),
        latency=tuple(_latencies(work)),
        agreement=tuple(agreement(list(_replayed(work)))),
        examples=tuple(examples(work, known, run_dir)),
        errors=tuple(_errors(work)),
        plan=plan.key,
        started=about.started,
        seconds=about.seconds,
        command=about.command,
    )
    of_fleets = tuple(alike(work))
    return facts.model_copy(update={"alike": of_fleets}) if of_fleets else facts


class Timing(NamedTuple):
    """When a run started (ISO 8601), how long it took, the command that started it, and what the user called it."""

    started: str
    seconds: float
    command: str
    label: str = ""


def _data(work: Work, run_dir: Path) -> DataEntry:
    spec = work.plan.suite.data
    ids = {split: stages.images(work, work.plan.data[0], split).ids for split in (*SPLITS, "train")}
    per_image = {step.name: crafting.patch(work, step).images for step in work.plan.patches if step.per_image}
    content = splits.describe(ids, per_image)
    write_json(run_dir / splits.FILE, content)
    return DataEntry(
        name=spec.name,
        note=spec.note,
        sizes={name: part["n"] for name, part in content["splits"].items()},
        ids_sha256={name: part["sha256"] for name, part in content["splits"].items()},
        copies=evidence.copies(work),
    )


def commit() -> str:
    """Return the commit of the working directory, with a plus where files differ; empty outside a repository."""
    try:
        git = ["git", "describe", "--always", "--abbrev=12", "--exclude=*", "--dirty=+"]
        return subprocess.run(git, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""


def _victim(work: Work, step: VictimStep, known: Outcomes) -> VictimEntry:
    victim = stages.victim(work, step)
    of_victim = known.cells[(known.cells["victim"] == step.name) & is_lab(known.cells)]
    undefended = of_victim.index[(of_victim["attack"] == "none") & (of_victim["defence"] == "")]
    clean = known.preds[undefended]
    entry = VictimEntry(
        name=step.name,
        model=victim.model,
        classes=victim.classes,
        input_size=victim.input_size,
        sha256=victim.sha256,
        float_accuracy=float((clean == known.labels).mean()) if len(clean) else None,
    )
    claim = step.table.claimed_accuracy
    return entry.model_copy(update={"claimed_accuracy": claim}) if claim else entry


def _artifact(work: Work, step: ArtifactStep, run_dir: Path) -> ArtifactEntry:
    file = stages.place_artifact(work, step, run_dir / "artifacts")
    described = Artifact.read(file.with_suffix(".json"))
    quant = described.quant
    held = stages.contents(work, step)
    entry = ArtifactEntry(
        name=described.name,
        victim=described.victim,
        format=described.format,
        precision=described.precision,
        file=str(file.relative_to(run_dir)),
        sha256=described.sha256,
        bytes=file.stat().st_size,
        signature=quant.signature if quant else "",
        calibration=quant.calibration if quant else "",
        quant=asdict(quant) if quant else None,
        operators=held.operators,
        input_scale=held.input_scale,
        input_zero_point=held.input_zero_point,
    )
    told = {
        "but_for": held.but_for,
        "claimed_accuracy": step.brought.claimed_accuracy if step.brought else None,
        "input_doubt": input_doubt(step),
    }
    return entry.model_copy(update={key: value for key, value in told.items() if value})


def _patch(work: Work, step: PatchStep, run_dir: Path) -> PatchEntry:
    file = crafting.place_patch(work, step, run_dir / "patches").with_suffix(".png")
    patch = crafting.patch(work, step)
    return PatchEntry(
        name=step.name,
        attack=patch.attack,
        surrogate=step.surrogate_for(),
        target_class=patch.target_class,
        seed=patch.seed,
        px=patch.px,
        shape=patch.shape,
        file=str(file.relative_to(run_dir)),
        per_image=step.per_image,
        made_on=step.split if step.surrogate or step.attack == "sticker" else "",
        sha256=patch.sha256,
        made_of=crafting.surrogate_sha256(work, step.surrogate) if step.surrogate else "",
        checks=CraftingEntry.model_validate(patch.checks),
    )


def _targets(work: Work) -> Iterator[TargetEntry]:
    seen = set()
    for step in work.plan.replays:
        target = step.target
        answer = replays.answers(work, step)
        if target.name not in seen and answer.info:
            seen.add(target.name)
            entry = target_entry(target, answer.info, answer.machine)
            boards = fleets.boards(work, target)
            yield entry.model_copy(update={"boards": boards}) if boards else entry


def _replayed(work: Work) -> Iterator[Replayed]:
    """Yield every answer to an evaluation case that more than one target could have given."""
    for cell in {(c.replay.key, c.replay.target.name): c for c in work.plan.cells}.values():
        step, case = cell.replay, cell.replay.case
        answer = replays.answers(work, step) if step.target.name != TORCH and case.split == "evaluate" else None
        if answer and answer.logits is not None and np.isfinite(answer.logits).all():
            scale = stages.contents(work, step.artifact).output_scale
            integers = output_integers(answer.logits, answer.integers, scale)
            patched = case.patch is not None
            yield Replayed(step.artifact.name, step.target.name, case.name, patched, answer.logits, integers)


def _latencies(work: Work) -> Iterator[LatencyEntry]:
    for step in work.plan.latencies:
        if work.store.has("latency", step.key):
            measured = read_json(work.store.path("latency", step.key) / "latency.json")
            arena = str(measured["info"].get("arena_bytes", ""))
            before, after = (CpuSpeed(**measured.get(when, {})) for when in ("before", "after"))
            entry = LatencyEntry(
                p50_ms=measured["p50_ms"],
                p90_ms=measured["p90_ms"],
                p99_ms=measured["p99_ms"],
                n=measured["n"],
                threads=measured["threads"],
                artifact=step.artifact.name,
                target=step.target.name,
                defence=step.defence,
                throughput=measured["throughput_per_second"],
                clock_ns=measured["clock_resolution_ns"],
                cold_start_ms=1000 * measured["cold_start_seconds"],
                peak_rss_mb=measured["peak_rss_bytes"] / 1e6,
                arena_kb=int(arena) / 1e3 if re.fullmatch(r"[0-9]{1,15}", arena) else None,
                emulated=bool(measured["machine"].get("emulated", False)),
                governors=tuple(after.governors),
                mhz_before=before.mhz,
                mhz_after=after.mhz,
                most_mhz=after.most_mhz,
                celsius=after.celsius,
                throttled=has_throttled(before, after),
            )
            yield entry.model_copy(update={"board": measured["board"]}) if "board" in measured else entry


def _errors(work: Work) -> Iterator[ErrorEntry]:
    for replay in work.plan.replays:
        if message := work.errors.get(replay.key):
            yield _error(replay, replay.case.name, message)
    for latency in work.plan.latencies:
        if message := work.errors.get(latency.key):
            yield _error(latency, f"latency, {latency.defence}" if latency.defence else "latency", message)


def _error(step: ReplayStep | LatencyStep, case: str, message: str) -> ErrorEntry:
    return ErrorEntry(artifact=step.artifact.name, target=step.target.name, case=case, message=message)

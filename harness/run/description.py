"""What run.json says of a run: what was attacked, with what, where, and what failed; everything but the figures."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from backends.device.artifact import Artifact
from backends.device.machine import describe
from harness.data import splits
from harness.data.datasets import class_names
from harness.data.splits import SPLITS
from harness.plan.cells import LatencyStep, ReplayStep
from harness.plan.plan import Plan
from harness.plan.steps import TORCH, ArtifactStep, PatchStep, VictimStep
from harness.results.agreement import Ran, agreement, steps_of
from harness.run import crafting, evidence, replays, stages
from harness.run.examples import examples
from harness.run.repeat_check import again
from harness.run.stages import Work
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

MACHINE = ("arch", "cpu", "emulated", "emulator", "image", "cores", "kernel", "python", "numpy")


def facts(work: Work, records: pd.DataFrame, run_dir: Path) -> dict[str, Any]:
    """The content of run.json, times apart; puts artifacts, patches and example pictures into the run directory."""
    plan, spec, machine = work.plan, work.plan.suite.data, describe()
    return {
        "schema": 1,
        "suite": plan.suite.model_dump(by_alias=True),
        "title": plan.suite.title,
        "versions": {name: version(name) for name in PACKAGES},
        "machine": {"cpu": machine.cpu, "arch": machine.arch, "cores": machine.cores, "kernel": machine.kernel},
        "commit": _commit(),
        "data": {"name": spec.name, "note": spec.note} | _splits(work, run_dir),
        "class_names": class_names(spec, plan.data_dir),
        "victims": [_victim(work, step, records) for step in plan.victims],
        "artifacts": [_artifact(work, step, run_dir) for step in plan.artifacts],
        "patches": [_patch(work, step, run_dir) for step in plan.patches],
        "targets": list(_targets(work)),
        "cases": evidence.cases(work),
        "outputs": list(evidence.outputs(work)),
        "again": again(work),
        "latency": list(_latencies(work)),
        "agreement": list(agreement(list(_ran(work)))),
        "examples": list(examples(work, records, run_dir)),
        "errors": list(_errors(work, plan)),
    }


def _splits(work: Work, run_dir: Path) -> dict[str, Any]:
    ids = {split: stages.images(work, work.plan.data[0], split).ids for split in (*SPLITS, "train")}
    each = {step.name: crafting.patch(work, step).images for step in work.plan.patches if step.per_image}
    content = splits.describe(ids, each)
    write_json(run_dir / splits.FILE, content)
    sizes, hashes = ({name: part[what] for name, part in content["splits"].items()} for what in ("n", "sha256"))
    return {"sizes": sizes, "ids_sha256": hashes, "copies": evidence.copies(work)}


def _commit() -> str:
    """The commit of the folder that the run was started in, with a plus where files differ from it; else nothing."""
    try:
        git = ["git", "describe", "--always", "--abbrev=12", "--exclude=*", "--dirty=+"]
        return subprocess.run(git, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""


def _victim(work: Work, step: VictimStep, records: pd.DataFrame) -> dict[str, Any]:
    known = stages.victim(work, step)
    clean = records[(records["victim"] == step.name) & (records["target"] == TORCH) & (records["attack"] == "none")]
    clean = clean[clean["precision"] == "fp32"]
    clean = clean[clean["split"] == "evaluate"]
    return {
        "name": step.name, "model": known.model, "classes": known.classes, "input_size": known.input_size,
        "sha256": known.sha256, "float_accuracy": float((clean["pred"] == clean["label"]).mean()),
    } | ({"claimed_accuracy": step.table.claimed_accuracy} if step.table.claimed_accuracy else {})  # fmt: skip


def _artifact(work: Work, step: ArtifactStep, run_dir: Path) -> dict[str, Any]:
    file = stages.place_artifact(work, step, run_dir / "artifacts")
    described = Artifact.read(file.with_suffix(".json"))
    quant, claim = described.quant, step.brought.claimed_accuracy if step.brought else None
    return {
        "name": described.name, "victim": described.victim, "format": described.format,
        "precision": described.precision,
        "file": str(file.relative_to(run_dir)), "sha256": described.sha256, "bytes": file.stat().st_size,
        "signature": quant.signature if quant else "", "calibration": quant.calibration if quant else "",
        "quant": asdict(quant) if quant else None,
        "operators": stages.found(work, step)["operators"],
    } | ({"claimed_accuracy": claim} if claim else {})  # fmt: skip


def _patch(work: Work, step: PatchStep, run_dir: Path) -> dict[str, Any]:
    file = crafting.place_patch(work, step, run_dir / "patches").with_suffix(".png")
    made = crafting.patch(work, step)
    made_of = crafting.surrogate_sha256(work, step.surrogate) if step.surrogate else ""
    return {
        "name": step.name, "attack": made.attack, "surrogate": step.surrogate_for(), "target_class": made.target_class,
        "seed": made.seed, "px": made.px, "shape": made.shape, "file": str(file.relative_to(run_dir)),
        "per_image": step.per_image, "made_on": step.split if step.surrogate or step.attack == "sticker" else "",
        "sha256": made.sha256, "made_of": made_of, "checks": made.checks,
    }  # fmt: skip


def _targets(work: Work) -> Iterator[dict[str, Any]]:
    seen = set()
    for step in work.plan.replays:
        target, answer = step.target, replays.answers(work, step)
        if target.name not in seen and answer.info:
            seen.add(target.name)
            machine = {name: answer.machine.get(name, "") for name in MACHINE}
            machine["detected"] = " ".join(answer.machine.get("detected", ()))
            yield {
                "name": target.name,
                "runtime": target.runtime,
                "host": target.host,
                "info": answer.info,
                "machine": machine,
                "features": list(answer.machine.get("features", ())),
                "emulated": bool(answer.machine.get("emulated", False)),
                **{name: getattr(target, name) for name in ("options", "threads", "batch")},
            }


def _ran(work: Work) -> Iterator[Ran]:
    """Every answer on an evaluation case that more than one target could have given."""
    for cell in {(c.replay.key, c.replay.target.name): c for c in work.plan.cells}.values():
        step, case = cell.replay, cell.replay.case
        answer = replays.answers(work, step) if step.target.name != TORCH and case.split == "evaluate" else None
        if answer and answer.logits is not None and np.isfinite(answer.logits).all():
            scale = stages.found(work, step.artifact)["output_scale"]
            integers = steps_of(answer.logits, answer.integers, scale)
            patched = case.patch is not None
            yield Ran(step.artifact.name, step.target.name, case.name, patched, answer.logits, integers)


def _latencies(work: Work) -> Iterator[dict[str, Any]]:
    for step in work.plan.latencies:
        file = work.store.path("latency", step.key) / "latency.json"
        if file.is_file():
            took = json.loads(file.read_text())
            yield {name: took[name] for name in ("p50_ms", "p90_ms", "p99_ms", "n", "threads")} | {
                "artifact": step.artifact.name, "target": step.target.name, "defence": step.defence,
                "throughput": took["throughput_per_second"], "clock_ns": took["clock_resolution_ns"],
                "cold_start_ms": 1000 * took["cold_start_seconds"], "peak_rss_mb": took["peak_rss_bytes"] / 1e6,
                "emulated": bool(took["machine"].get("emulated", False)),
            }  # fmt: skip


def _errors(work: Work, plan: Plan) -> Iterator[dict[str, str]]:
    for replay in plan.replays:
        if message := work.errors.get(replay.key):
            yield _where(replay) | {"case": replay.case.name, "message": message}
    for latency in plan.latencies:
        if message := work.errors.get(latency.key):
            case = f"latency, {latency.defence}" if latency.defence else "latency"
            yield _where(latency) | {"case": case, "message": message}


def _where(step: ReplayStep | LatencyStep) -> dict[str, str]:
    return {"artifact": step.artifact.name, "target": step.target.name}

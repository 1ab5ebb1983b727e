"""A run directory from random logits whose truth is known, for the tests of what reads one."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from harness.report.headline import headline
from harness.report.labels import labelled
from harness.report.wording import Headline
from harness.results.columns import CELL_COLUMNS, RECORD_COLUMNS
from harness.results.gathering import outcomes
from harness.results.metrics import cells
from harness.results.run_directory import RunFacts, write_run

CLASSES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
VICTIMS = ("resnet20", "resnet56")
FILES = [  # format, precision, signature, calibration, targets
    ("torch", "fp32", "", "", ("torch",)),
    ("onnx", "fp32", "", "", ("ort",)),
    ("tflite", "fp32", "", "", ("litert",)),
    ("onnx", "w8a8", "u8s8", "minmax", ("ort",)),
    ("onnx", "w8a8", "u8s8", "moving_average", ("ort",)),
    ("onnx", "w8a8", "s8s8", "minmax", ("ort",)),
    ("onnx", "w8a8", "s8s8", "moving_average", ("ort",)),
    ("tflite", "w8a8", "s8s8", "minmax", ("litert", "litert-arm64")),
    ("tflite", "w8a8", "s8s8", "moving_average", ("litert", "litert-arm64")),
]
RUNTIMES = {"torch": "torch", "ort": "onnxruntime", "litert": "litert", "litert-arm64": "litert"}


def make_run(
    root: Path, victims: tuple[str, ...] = VICTIMS, images: int = 300, goals: tuple[int, ...] = (3, 5, 8),
    seeds: int = 2, survives: float = 0.55, files: list[Any] = FILES, broken: tuple[str, ...] = (),
    classes: list[str] = CLASSES,
) -> Path:  # fmt: skip
    """A run directory as `patchbench run` leaves it, from random logits.

    The patch adds to its class's logit what the network feels of it: all of it in float and after ``minmax``, the share
    ``survives`` of it after ``moving_average``. Integer targets add a little noise of their own. On the targets that
    are ``broken`` every image of the patches dies of SIGSEGV.
    """
    rng = np.random.default_rng(0)
    (root / "patches").mkdir(parents=True)
    labels = np.arange(images) % 10
    frames, patches, examples, artifacts = [], [], [], []
    made = [("gap", g, s, rng.uniform(1.6, 3.6, images)) for g in goals for s in range(seeds)]
    controls = [("noise", -1, s, rng.normal(0, 0.6, (images, 10))) for s in range(2)] + [("grey", -1, 0, 0.0)]
    for victim in victims:
        logits = rng.normal(0, 0.8, (images, 10)) + 3.0 * np.eye(10)[labels]
        for attack, goal, seed, _ in made + controls:
            name = f"{victim}-{attack}" + (f"-t{goal}" if goal >= 0 else "") + f"-s{seed}"
            _picture(root / "patches" / f"{name}.png", attack, seed + goal)
            patches.append(
                {"name": name, "attack": attack, "surrogate": "float" if attack == "gap" else "", "seed": seed,
                 "target_class": goal if goal >= 0 else None, "px": 8, "shape": "square", "file": f"patches/{name}.png",
                 "sha256": hashlib.sha256(name.encode()).hexdigest(),
                 "checks": {"loss": [2.31, 1.2, 0.87], "zero_gradient_share": 0.002, "seconds": 24.8, "steps": 300}
                 if attack == "gap" else {}}
            )  # fmt: skip
        for form, precision, signature, calibration, targets in files:
            artifact = "-".join(p for p in (victim, form, precision, signature, calibration) if p)
            integer = precision != "fp32"
            artifacts.append(
                {"name": artifact, "victim": victim, "format": form, "precision": precision, "signature": signature,
                 "calibration": calibration, "file": f"artifacts/{artifact}.{form}", "bytes": 290_000,
                 "sha256": hashlib.sha256(artifact.encode()).hexdigest(),
                 "operators": {"QLinearConv": 20, "QLinearAdd": 9} if integer else {"Conv": 20, "Add": 9}}
            )  # fmt: skip
            for target in targets:
                own = rng.normal(0, 0.08, (images, 10)) * integer
                base = {
                    "victim": victim, "precision": precision, "format": form, "signature": signature, "defence": "",
                    "calibration": calibration, "granularity": "per_channel" if integer else "", "artifact": artifact,
                    "runtime": RUNTIMES[target], "target": target, "host": "qemu" if "arm" in target else "local",
                    "fidelity": "emulated CPU" if "arm" in target else "device",
                    "arch": "aarch64" if "arm" in target else "x86_64", "cpu": "any",
                    "threads": 1, "kernels": "default", "split": "evaluate",
                }  # fmt: skip
                cases: list[tuple[dict[str, Any], np.ndarray]] = [
                    ({"attack": "none", "target_class": -1, "patch_px": 0, "patch": ""}, logits + own)
                ]
                share = survives if calibration == "moving_average" else 1.0
                for attack, goal, seed, felt in made:
                    patched = logits + own + share * np.outer(felt, np.eye(10)[goal])
                    case = {"attack": attack, "target_class": goal, "seed": seed, "surrogate": "float"}
                    cases.append((case | {"patch": f"{victim}-{attack}-t{goal}-s{seed}"}, patched))
                for attack, _, seed, felt in controls:
                    for goal in goals:
                        case = {
                            "attack": attack,
                            "target_class": goal,
                            "seed": seed,
                            "patch": f"{victim}-{attack}-s{seed}",
                        }
                        cases.append((case, logits + own + felt))
                for case, out in cases:
                    bad = target in broken and case["attack"] != "none"
                    default = {"seed": 0, "surrogate": "", "patch_px": 8, "patch_area": 0.0625, "shape": "square",
                               "placement": "random"}  # fmt: skip
                    best = out.argmax(1)
                    frames.append(
                        pd.DataFrame(
                            default | base | case
                            | {"image": [f"test-{i:05d}" for i in range(images)], "label": labels, "margin": 0.0,
                               "status": "crash: SIGSEGV" if bad else "ok", "pred": 0 * best - 1 if bad else best}
                        )
                    )  # fmt: skip
    records = pd.concat(frames)[[*CELL_COLUMNS, *RECORD_COLUMNS]].reset_index(drop=True)
    records.to_parquet(root / "records.parquet", index=False)
    for patch in patches[: len(made)][:4]:
        here = records[(records["patch"] == patch["name"]) & (records["image"] == "test-00007")]
        for kind in ("clean", "patched"):
            _picture(root / "patches" / f"{patch['name']}-{kind}.png", kind, patch["seed"], 32)
        examples.append(
            {"patch": patch["name"], "image": "test-00007", "label": 7, "target_class": patch["target_class"],
             "clean_png": f"patches/{patch['name']}-clean.png", "patched_png": f"patches/{patch['name']}-patched.png",
             "preds": here[["artifact", "target", "pred"]].to_dict("records")}
        )  # fmt: skip
    run = {
        "schema": 2, "suite": {"name": "cifar10", "schema": 1}, "title": "CIFAR-10, calibration beside calibration",
        "started": "2026-11-24 04:20", "seconds": 412.0,
        "command": "patchbench run benchmarks/suites/cifar10.toml --data $PATCHBENCH_DATA",
        "versions": {"patchbench": "0.1.0", "torch": "2.13.0", "onnxruntime": "1.32.0", "ai-edge-litert": "2.3.0"},
        "machine": {"cpu": "Intel Xeon", "arch": "x86_64", "cores": 2, "kernel": "6.1", "memory": "8 GiB"},
        "data": {"name": "cifar10", "note": "the networks were trained on the official training images",
                 "sizes": {"calibration": 128, "craft": 512, "select": 0, "evaluate": images},
                 "ids_sha256": {"evaluate": "ab" * 32}},
        "victims": [{"name": v, "model": v, "classes": 10, "input_size": [32, 32], "sha256": "cd" * 32,
                     "float_accuracy": 0.915} for v in victims],
        "artifacts": artifacts, "patches": patches, "examples": examples, "class_names": classes, "errors": [],
        "targets": [{"name": t, "runtime": r, "host": "local", "info": {"version": "1.0", "kernels": "xnnpack"},
                     "machine": {"arch": "x86_64", "cpu": "Intel Xeon", "emulated": "", "emulator": "", "cores": 2}}
                    for t, r in RUNTIMES.items()],
        "latency": [{"artifact": a["name"], "target": t, "threads": 1, "p50_ms": 0.41, "p90_ms": 0.47, "p99_ms": 0.6,
                     "throughput": 2400.0, "n": 1200, "cold_start_ms": 14.2, "peak_rss_mb": 81.0,
                     "emulated": "arm" in t}
                    for a, (*_, targets) in zip(artifacts, files * len(victims), strict=False) for t in targets],
    }  # fmt: skip
    write_run(root, RunFacts.model_validate(run))
    return root


def labelled_cells(run_dir: Path) -> pd.DataFrame:
    return labelled(cells(pd.read_parquet(run_dir / "records.parquet")))


def headline_of(records: pd.DataFrame, per_image: Sequence[str] = ()) -> Headline:
    return headline(outcomes(records), labelled(cells(records)), per_image)


def _picture(path: Path, kind: str, seed: int, side: int = 8) -> None:
    rng = np.random.default_rng(seed + 2)
    pixels = rng.integers(0, 256, (side, side, 3)).astype(np.uint8)
    if kind == "grey":
        pixels[:] = 128
    if kind in ("clean", "patched"):
        wave = np.sin(np.add.outer(np.arange(side) / 9, np.arange(side) / 14) + seed)
        pixels = np.stack([110 + 60 * wave, 140 + 40 * wave, 160 - 50 * wave], -1).astype(np.uint8)
    if kind == "patched":
        pixels[18:26, 4:12] = rng.integers(0, 256, (8, 8, 3))
    Image.fromarray(pixels).save(path)

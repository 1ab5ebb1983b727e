"""A made run of any size, for what measures judging: records drawn by numpy, the same ones each time."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from harness.results.columns import CELL_COLUMNS, CELL_NUMBERS, RECORD_COLUMNS
from harness.results.record_files import IN_ONE_FILE, write_records
from harness.results.run_directory import RunFacts, write_run

CLASSES = 10
RIGHT, REACHED, NOISY = 0.92, 0.6, 0.04  # shares of images: without a patch, by a patch, by noise
DRAWS = 2  # of noise
Columns = dict[str, Any]


class Shape(NamedTuple):
    """How many of each: every file runs on every target, and every patch on every file."""

    victims: int
    files: int
    targets: int
    series: int
    classes: int
    seeds: int
    images: int

    @property
    def places(self) -> int:
        """Files on targets, with each victim's float network."""
        return self.victims * (1 + self.files * self.targets)

    @property
    def cells(self) -> int:
        """Cells of all places: patches, draws of noise for each class, and the images alone."""
        return self.places * (1 + self.classes * (self.series * self.seeds + DRAWS))


def make(root: Path, shape: Shape, changed: float = 0.0) -> Path:
    """Write a run's records and ``run.json``; its report, cells and summary follow from them.

    Of its answers the share ``changed`` is others than those of the run in which none is.
    """
    root.mkdir(parents=True)
    in_one_file = shape.cells * shape.images <= IN_ONE_FILE
    tables = (_table(place, shape, seed, changed) for seed, place in enumerate(_places(shape)))
    write_records(root, [pd.concat(tables)] if in_one_file else tables, in_one_file=in_one_file)
    write_run(root, RunFacts.model_validate(_facts(shape)))
    return root


def _places(shape: Shape) -> Iterator[Columns]:
    for victim in (f"net{i}" for i in range(shape.victims)):
        yield {
            "victim": victim, "precision": "fp32", "format": "torch", "artifact": f"{victim}-torch-fp32",
            "runtime": "torch", "target": "torch",
        }  # fmt: skip
        for file, target in product(range(shape.files), range(shape.targets)):
            yield {
                "victim": victim, "precision": "w8a8", "format": "onnx", "signature": "s8s8", "runtime": "onnxruntime",
                "calibration": f"percentile{file}", "granularity": "per_channel", "target": f"target{target}",
                "artifact": f"{victim}-onnx-w8a8-s8s8-percentile{file}",
            }  # fmt: skip


def _cases(shape: Shape) -> Iterator[Columns]:
    yield {"attack": "none", "target_class": -1, "patch_px": 0}
    for goal in range(shape.classes):
        for series, seed in product(range(shape.series), range(shape.seeds)):
            name = f"gap{series}-t{goal}-s{seed}"
            yield {"attack": f"gap{series}", "surrogate": "float", "target_class": goal, "seed": seed, "patch": name}
        for seed in range(DRAWS):
            yield {"attack": "noise", "target_class": goal, "seed": seed, "patch": f"noise-s{seed}"}


def _table(place: Columns, shape: Shape, seed: int, changed: float) -> pd.DataFrame:
    """Draw the records of one place."""
    rng = np.random.default_rng(seed)
    cases = [
        dict.fromkeys(CELL_COLUMNS, "")
        | {"seed": 0, "patch_px": 8, "patch_area": 0.0625, "threads": 1, "split": "evaluate", "shape": "square"}
        | {"placement": "random", "fidelity": "device", "host": "local", "arch": "x86_64", "cpu": "any"}
        | place | case
        for case in _cases(shape)
    ]  # fmt: skip
    labels = np.arange(shape.images) % CLASSES
    clean = np.where(rng.random(shape.images) < RIGHT, labels, (labels + 1) % CLASSES)
    easy = rng.random(shape.images, np.float32)  # the same images are reached by most patches
    preds = np.tile(clean.astype(np.int32), (len(cases), 1))
    for row, case in zip(preds, cases, strict=True):
        if case["attack"] != "none":
            share = NOISY if case["attack"] == "noise" else REACHED
            row[(easy + rng.random(shape.images, np.float32)) / 2 < share] = case["target_class"]
    other = np.random.default_rng([seed, 1])
    for row in preds:
        row[other.random(len(row), np.float32) < changed] = other.integers(CLASSES)
    whole = len(cases) * shape.images
    columns: Columns = {}
    for name in CELL_COLUMNS:
        values = [case[name] for case in cases]
        if name in CELL_NUMBERS:
            columns[name] = np.repeat(np.array(values), shape.images)
        else:
            codes, words = pd.factorize(np.array(values, object))
            columns[name] = pd.Categorical.from_codes(np.repeat(codes, shape.images), words)
    images = np.array([f"test-{i:05d}" for i in range(shape.images)], object)
    columns["image"] = pd.Categorical.from_codes(np.tile(np.arange(shape.images), len(cases)), images)
    columns["label"] = np.tile(labels.astype(np.int32), len(cases))
    columns["status"] = pd.Categorical.from_codes(np.zeros(whole, np.int8), ["ok"])
    columns["pred"] = preds.ravel()
    columns["margin"] = np.round(rng.normal(0, 3, whole).astype(np.float32) * 8).astype(np.float64) / 8
    return pd.DataFrame({name: columns[name] for name in (*CELL_COLUMNS, *RECORD_COLUMNS)})


def _facts(shape: Shape) -> dict[str, Any]:
    places = list(_places(shape))
    patches = {case["patch"]: case for case in _cases(shape) if "patch" in case}
    kept = ("victim", "format", "precision", "signature", "calibration")
    artifacts = {place["artifact"]: {"name": place["artifact"], "sha256": "ab" * 32, "file": ""} for place in places}
    for place in places:
        artifacts[place["artifact"]] |= {name: place[name] for name in kept if name in place}
    return {
        "schema": 2,
        "suite": {"name": "made"},
        "class_names": [f"class {i}" for i in range(CLASSES)],
        "victims": [{"name": f"net{i}", "sha256": "cd" * 32, "classes": CLASSES} for i in range(shape.victims)],
        "artifacts": list(artifacts.values()),
        "targets": [{"name": name, "runtime": "onnxruntime"} for name in {place["target"]: None for place in places}],
        "patches": [
            {"name": name, "attack": case["attack"], "surrogate": case.get("surrogate", ""), "seed": case["seed"],
             "target_class": case["target_class"], "px": 8, "shape": "square", "sha256": "ef" * 32}
            for name, case in patches.items()
        ],
    }  # fmt: skip

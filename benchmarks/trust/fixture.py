"""A small run with its store, bundles, a baseline and a patch, for campaigns to damage."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
from campaign import SUITE, patchbench

from backends.conformance import networks
from backends.device.bundle import Stamps, write_bundle


def make_fixture(fixture: Path) -> None:
    """Make a run with its store, bundles, a baseline and a patch; what is there already is kept."""
    run = fixture / "run"
    fixture.mkdir(parents=True, exist_ok=True)
    made = patchbench("run", SUITE, "--out", run, folder=fixture)
    (fixture / "frozen").mkdir(exist_ok=True)
    frozen_too = patchbench("baseline", run, "-o", "frozen/baseline.json", folder=fixture)
    if made.code or frozen_too.code:
        raise SystemExit(f"the run to be damaged cannot be made: {made.stderr}{frozen_too.stderr}")
    (fixture / "patch").mkdir(exist_ok=True)
    shutil.copy2(next((run / "patches").glob("gap*.npz")), fixture / "patch" / "patch.npz")
    pixels = np.random.default_rng(0).integers(0, 256, (6, networks.SIZE, networks.SIZE, 3), np.uint8)
    stamps = Stamps(pixels[:1, :3, :3], np.ones((1, 3, 3), bool), np.ones((6, 2), np.int32))
    for kind in ("onnx", "tflite"):
        file = networks.file(kind)
        write_bundle(fixture / kind, networks.artifact(file), file, pixels, {"none": None, "patch": stamps})

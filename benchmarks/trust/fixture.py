"""A small run with its store, bundles, a baseline and a patch, for campaigns to damage."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
from campaign import SUITE, patchbench

from backends.conformance import networks
from backends.device.bundle import Stamps, write_bundle
from backends.device.files import replacing
from harness.store import code_digest


def fixture(beside: Path) -> Path:
    """Return a folder with a run, its store, two bundles, a baseline and a patch; it is made once by the same code."""
    digest = code_digest("backends", "exporters", "harness", "patches")
    folder = beside.absolute() / f"made-by-{digest[:12]}"
    if not folder.exists():
        with replacing(folder) as draft:
            _make(draft)
    return folder


def _make(folder: Path) -> None:
    run, frozen, patch = folder / "run", folder / "frozen", folder / "patch"
    for part in (run, frozen, patch):
        part.mkdir(parents=True)
    made = patchbench("run", SUITE, "--out", run, folder=folder)
    frozen_too = patchbench("baseline", run, "-o", frozen / "baseline.json", folder=folder)
    if made.code or frozen_too.code:
        raise SystemExit(f"the run to be damaged cannot be made: {made.stderr}{frozen_too.stderr}")
    shutil.copy2(next((run / "patches").glob("gap*.npz")), patch / "patch.npz")
    pixels = np.random.default_rng(0).integers(0, 256, (6, networks.SIZE, networks.SIZE, 3), np.uint8)
    stamps = Stamps(pixels[:1, :3, :3], np.ones((1, 3, 3), bool), np.ones((6, 2), np.int32))
    for kind in ("onnx", "tflite"):
        file = networks.file(kind)
        write_bundle(folder / kind, networks.artifact(file), file, pixels, {"none": None, "patch": stamps})

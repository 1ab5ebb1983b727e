"""Whole runs with every kind of patch: for each image, at chosen places, posed, imported; and with every control."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from helpers.command import patchbench
from helpers.suites import QUICK
from PIL import Image

from patches.patch import Patch

pytestmark = pytest.mark.slow
ATTACKS = """
[[attack]]
name = "pgd"
per_image = true
target_classes = [3, 5]
pixels = 8
options = { steps = 2 }
[[attack]]
name = "lavan"
target_classes = [3]
pixels = 6
placement = "best"
options = { steps = 2, batch = 16 }
[[attack]]
name = "gap"
label = "gap-posed"
target_classes = [3, 5]
pixels = 8
pose = { rotation = 20, brightness = 0.1 }
options = { steps = 2, batch = 16, rotation = 20, disguise = "their.png", within = 0.5 }
[[attack]]
name = "imported"
target_classes = [3]
pixels = 7
placement = "center"
options = { file = "their.png" }
[controls]
noise = 1
sticker = 1
other_class = 1
"""


@pytest.fixture(scope="module")
def finished(quick: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run of all that, and a baseline of it."""
    folder = tmp_path_factory.mktemp("attacks")
    shutil.copytree(quick / "out/quick/store", folder / "out/quick/store")
    head, rest = QUICK.split("[[attack]]")
    rest = rest.split("[controls]\nnoise = 1\n")[1]
    (folder / "suite.toml").write_text(head.replace('["minmax", "moving_average"]', '"minmax"') + ATTACKS + rest)
    disc = np.hypot(*np.mgrid[-4.5:5, -4.5:5]) < 4
    Image.fromarray(np.dstack([np.full((10, 10, 3), (200, 30, 90), np.uint8), disc * np.uint8(255)])).save(
        folder / "their.png"
    )
    done = patchbench("run", "suite.toml", "--data", folder, cwd=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    done = patchbench("baseline", "out/quick", "-o", "frozen.json", cwd=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_every_attack_and_control_has_its_cells(finished: Path) -> None:
    cells = pd.read_csv(finished / "out" / "quick" / "cells.csv", keep_default_na=False)
    assert set(cells["status"]) == {"ok"}
    classes = cells[cells["target"] == "ort"].groupby(["attack", "placement", "patch_px"])["target_class"].apply(list)
    posed = "random, rotation20-brightness0.1"
    for control in ("grey", "noise", "sticker"):
        for place, px in (("random", 8), (posed, 8)):
            assert classes[control, place, px] == [3, 5]
        if control != "sticker":
            assert classes[control, "best", 6] == [3]
        assert classes[control, "center", 7] == [3]
    for attack, place in (
        ("pgd-each", "random"),
        ("gap-posed", posed),
        ("other_class", "random"),
        ("other_class", posed),
    ):
        assert sorted(classes[attack, place, 8]) == [3, 5]
    others = cells[cells["attack"] == "other_class"]
    assert all(f"-c{8 - c}-" in patch for c, patch in zip(others["target_class"], others["patch"], strict=True))
    assert (others["n_targeted"].astype(int) > 0).all()
    assert classes["imported", "center", 7] == [3]


def test_what_was_made_on_counted_images_is_said(finished: Path) -> None:
    run_dir = finished / "out" / "quick"
    kept = json.loads((run_dir / "splits.json").read_text())
    assert [name.split("-")[0] for name in kept["made_on_evaluate"]] == ["pgd", "pgd"]
    for name in kept["made_on_evaluate"]:
        patch = Patch.read(run_dir / "patches" / f"{name}.npz")
        assert list(patch.images) == kept["splits"]["evaluate"]["ids"]
        assert patch.pixels.shape == (40, 8, 8, 3)
        with Image.open(run_dir / "patches" / f"{name}.png") as sheet:
            assert sheet.size == (32, 32), "sixteen of them"
    run = json.loads((run_dir / "run.json").read_text())
    made_on = {patch["attack"]: patch["made_on"] for patch in run["patches"]}
    assert made_on == {"pgd": "evaluate", **dict.fromkeys(("lavan", "gap", "sticker"), "craft")} | dict.fromkeys(
        ("grey", "noise", "imported"), ""
    )
    assert not any(case["others"] for case in run["cases"]), "every target pasted the bytes that were crafted"


def test_a_disguise_and_an_import_are_of_the_picture(finished: Path) -> None:
    folder = finished / "out" / "quick" / "patches"
    (disguised,) = folder.glob("gap*c3*.npz")
    pixels = Patch.read(disguised).pixels.astype(int)
    assert (np.abs(pixels - (200, 30, 90)).max(axis=(0, 1)) <= 0.5 * 255 + 1).all()
    (imported,) = folder.glob("imported*.npz")
    patch = Patch.read(imported)
    assert patch.px == 7
    assert (patch.pixels[patch.mask] == (200, 30, 90)).all()
    assert 0.4 < patch.mask.mean() < 0.7


def test_a_baseline_has_patches_for_each_image_by_hash_alone(finished: Path) -> None:
    held = {entry["name"]: set(entry) for entry in json.loads((finished / "frozen.json").read_text())["patch_pixels"]}
    for name, parts in held.items():
        wanted = {"name"} if name.startswith("pgd") else {"name", "pixels", "mask"}
        assert parts == wanted | ({"corners"} if name.startswith("lavan") else set())
    again = patchbench("run", "suite.toml", "--data", finished, "--frozen", "frozen.json", cwd=finished)
    assert again.returncode == 0, again.stdout + again.stderr
    verdict = patchbench("gate", "frozen.json", "out/quick", cwd=finished)
    assert verdict.returncode == 0, verdict.stdout + verdict.stderr

"""Files of patches that are damaged, hostile or too large: one line, and never another patch."""

import json
from dataclasses import replace

import numpy as np
import pytest
from helpers import bombs
from helpers.flips import damaged
from helpers.memory import reading
from PIL import Image

from backends.device.errors import UserError
from backends.device.reading import DamagedFile
from patches.attacks.imported import SIDE, load_patch
from patches.patch import Patch


def patch(**changes):
    pixels = np.random.default_rng(0).integers(0, 256, (5, 5, 3), np.uint8)
    made = Patch("p", pixels, np.ones((5, 5), bool), "gap", "float", 3, 0, checks={"loss": [1.5, 0.5], "queries": None})
    return replace(made, **changes)


def for_two():
    pixels = np.zeros((2, 5, 5, 3), np.uint8)
    return patch(pixels=pixels, images=("a", "b"), corners=np.array([[1, 2], [3, 4]], np.int32))


@pytest.fixture
def file(tmp_path):
    return tmp_path / "p.npz"


@pytest.mark.parametrize("made", [patch(), for_two(), patch(target_class=None, shape="round")])
def test_a_patch_comes_back(file, made):
    made.save(file)
    again = Patch.read(file)
    for name, value in vars(made).items():
        np.testing.assert_array_equal(getattr(again, name), value)


@pytest.mark.parametrize("make", [patch, for_two])
def test_a_flipped_bit_is_found_or_without_effect(file, make):
    make().save(file)
    whole, before, found = file.read_bytes(), Patch.read(file), 0
    for seed in range(300):
        file.write_bytes(damaged(whole, seed))
        try:
            again = Patch.read(file)
        except DamagedFile:
            found += 1
        else:
            assert again.sha256 == before.sha256
            assert (again.images, again.checks, again.target_class) == (before.images, before.checks, 3)
    assert found > 150


def saved(file, facts="", arrays=None):
    """A patch's file with other facts or arrays."""
    patch().save(file)
    with np.load(file) as before:
        kept = dict(before)
    if isinstance(facts, dict):
        facts = json.dumps(json.loads(str(kept["facts"])) | facts)
    np.savez(file, **kept | {"facts": np.array(facts)} | (arrays or {}))


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        ({"schema": 2}, "schema: expected 1, got 2"),
        ({"seed": "0"}, "seed: expected an integer, got '0'"),
        ({"target_class": 1.5}, "target_class: expected .*, got 1.5"),
        ({"images": "ab"}, "images: expected a list"),
        ({"images": ["a", "b"]}, r"pixels: expected uint8 \(2, any, any, 3\)"),
        ({"images": [1]}, "images: 0: expected text"),
        ({"checks": []}, "checks: expected an object"),
        ({"name": None}, "name: expected text, got None"),
        ({"pixels": 1}, "unknown key 'pixels'"),
        ({"checks": {"loss": float("nan")}}, "NaN"),
        ("[" * 100_000, "nested too deep"),
        ("[]", "expected an object"),
        ("", "not JSON"),
    ],
)
def test_facts_of_other_types_are_refused(file, facts, message):
    saved(file, facts)
    with pytest.raises(DamagedFile, match=message) as caught:
        Patch.read(file)
    assert str(caught.value).startswith(str(file))


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"pixels": np.zeros((5, 5, 3))}, "pixels: expected uint8"),
        ({"pixels": np.zeros((2, 5, 5, 3), np.uint8)}, "pixels: expected uint8"),
        ({"pixels": np.zeros((5, 6, 3), np.uint8)}, "one square"),
        ({"mask": np.ones((4, 4), bool)}, "one square"),
        ({"mask": np.ones((5, 5))}, "mask: expected bool"),
        ({"corners": np.zeros((2, 2), np.int32)}, r"corners: expected int32 \(1, 2\)"),
        ({"corners": np.zeros((1, 2))}, "corners: expected int32"),
        ({"facts": np.zeros(3)}, "facts: expected <U0"),
        ({"facts": np.array(["{}"])}, "facts: expected <U0"),
    ],
)
def test_arrays_of_another_shape_or_dtype_are_refused(file, arrays, message):
    saved(file, {}, arrays)
    with pytest.raises(DamagedFile, match=message):
        Patch.read(file)


def test_a_patch_that_unpacks_to_more_than_expected_is_refused_unread(file):
    saved(file, {})
    with np.load(file) as small:
        bombs.npz(file, "pixels", (10_000, 10_000, 3), mask=small["mask"], facts=small["facts"])
    assert file.stat().st_size < 1_500_000
    grown, said = reading("from patches.patch import Patch", "Patch.read(Path(sys.argv[1]))", file)
    assert said.startswith(f"{file}: pixels: uint8 (10000, 10000, 3) has 300,000,000 bytes, expected at most 268,435")
    assert grown < 20


IMPORT = "load_patch(Path(sys.argv[1]), name='p', target_class=0, px=16, image_size=(32, 32))"


@pytest.mark.parametrize("side", [SIDE, SIDE + 1])
@pytest.mark.parametrize("suffix", ["png", "npz"])
def test_an_imported_patch_has_a_largest_side(tmp_path, suffix, side):
    file = tmp_path / f"bomb.{suffix}"
    if suffix == "png":
        Image.new("L", (side, side)).save(file, compress_level=1)
    else:
        bombs.npz(file, "pixels", (side, side, 3), mask=np.ones((side, side), bool))
    grown, said = reading("from patches.attacks.imported import load_patch", IMPORT, file)
    assert said.startswith(f"{file}: ") == (side > SIDE)
    assert grown < (80 if said else 512)


@pytest.mark.parametrize("suffix", ["png", "npz"])
def test_a_flipped_bit_of_an_imported_patch_is_one_line(tmp_path, suffix):
    file = tmp_path / f"p.{suffix}"
    if suffix == "png":
        Image.fromarray(patch().pixels).save(file)
    else:
        patch().save(file)
    whole = file.read_bytes()
    for seed in range(200):
        file.write_bytes(damaged(whole, seed, cut_each=4))
        try:
            load_patch(file, name="p", target_class=0, px=5, image_size=(9, 9))
        except UserError as error:
            said = str(error)
            if not said.startswith(f"{file}: ") or "\n" in said:
                pytest.fail(said)


def imported(file):
    return load_patch(file, name="p", target_class=0, px=5, image_size=(9, 9))


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.uint8])
@pytest.mark.parametrize("channels_first", [True, False])
def test_an_array_is_the_patch_whose_values_it_holds(tmp_path, dtype, channels_first):
    """Adversarial Robustness Toolbox keeps floats in [0, 1], channels first."""
    pixels = patch().pixels
    values = pixels if dtype == np.uint8 else (pixels / 255).astype(dtype)
    np.save(tmp_path / "art.npy", values.transpose(2, 0, 1) if channels_first else values)
    found = imported(tmp_path / "art.npy")
    np.testing.assert_array_equal(found.pixels, pixels)
    assert found.mask.all()
    assert found.shape == "square"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.full((3, 5, 5), 255.0), "expected values from 0 to 1, or uint8, got 255 to 255"),
        (np.full((3, 5, 5), np.nan), "got nan to nan"),
        (np.zeros((3, 5, 6)), "expected a square patch, got 5x6"),
        (np.zeros((4, 5, 5)), r"expected three channels, .*, got \(4, 5, 5\)"),
        (np.zeros((1, 3, 5, 5)), "expected uint8 or float32 or float64"),
        (np.zeros((3, 5, 5), object), "not an .npy file of numbers"),
    ],
)
def test_an_array_that_is_no_patch_is_refused(tmp_path, values, message):
    file = tmp_path / "art.npy"
    np.save(file, values)
    with pytest.raises(DamagedFile, match=message) as caught:
        imported(file)
    assert str(caught.value).startswith(f"{file}: ")


def test_a_mask_that_does_not_fit_is_told_as_such(file):
    np.savez(file, pixels=patch().pixels, mask=np.ones((4, 4), bool))
    with pytest.raises(DamagedFile, match=r"mask: expected the patch's size \(5, 5\), got \(4, 4\)"):
        imported(file)
    np.savez(file, pixels=patch().pixels, mask=np.zeros((5, 5), bool))
    with pytest.raises(DamagedFile, match="its mask is empty"):
        imported(file)

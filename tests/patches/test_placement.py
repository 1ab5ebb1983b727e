"""Sizes, masks and places, held against closed forms and properties."""

import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare, pearsonr

from backends.device.bundle import paste
from backends.device.errors import UserError
from patches.attacks.controls import control
from patches.patch import Patch
from patches.placement import POSITIONS, corners, mask, resize_patch, side, stamps_for

IDS = [f"img-{i:05d}" for i in range(4000)]


@st.composite
def fitting(draw: st.DrawFn) -> tuple[int, tuple[int, int]]:
    size = (draw(st.integers(1, 300)), draw(st.integers(1, 300)))
    return draw(st.integers(1, min(size))), size


@given(st.sampled_from(POSITIONS), fitting(), st.integers(-5, 2**70), st.lists(st.text(max_size=20), max_size=8))
def test_every_place_keeps_the_patch_inside(
    word: str, fit: tuple[int, tuple[int, int]], seed: int, ids: list[str]
) -> None:
    px, size = fit
    found = corners(word, ids, px, size, seed)
    assert found.dtype == np.int32
    assert found.shape == (len(ids), 2)
    assert (found >= 0).all()
    assert (found + px <= np.array(size)).all()


@given(st.permutations(IDS[:12]), st.integers(0, 1000))
def test_a_random_place_depends_on_the_image_and_not_on_its_neighbours(order: list[str], seed: int) -> None:
    together = dict(zip(order, corners("random", order, 5, (32, 32), seed).tolist(), strict=True))
    assert together == {i: corners("random", [i], 5, (32, 32), seed)[0].tolist() for i in order}


def test_random_places_are_uniform_over_all_that_fit() -> None:
    px, size = 24, (32, 30)  # 9 x 7 positions
    found = corners("random", IDS, px, size, 3)
    counts = np.zeros((9, 7))
    np.add.at(counts, tuple(found.T), 1)
    assert chisquare(counts.ravel()).pvalue > 1e-3


def test_rows_columns_and_seeds_are_independent() -> None:
    first, second = (corners("random", IDS, 8, (32, 32), seed) for seed in (0, 1))
    for a, b in ((first[:, 0], first[:, 1]), (first[:, 0], second[:, 0]), (first[:, 1], second[:, 1])):
        assert abs(pearsonr(a, b).statistic) < 0.06  # 3.8 standard errors of 4000 independent pairs


def test_places_are_the_same_everywhere() -> None:
    """The first digits of ``printf 0:ID | sha256sum`` as fractions of 25; a change would unpair stored results."""
    digits = (
        "ac72368a586a18c1 9088393573ce0307",
        "ef134f2a180ba05d e91ab32d2976f51d",
        "51e607b609abb8ab 05ffe4ee9a8f528c",
    )
    want = [[int(part, 16) * 25 // 2**64 for part in pair.split()] for pair in digits]
    assert corners("random", ["0", "1", "cat.png"], 8, (32, 32), 0).tolist() == want


@given(st.text(max_size=10), st.integers(0, 99), st.integers(1, 8))
def test_places_keep_their_relative_position_at_another_input_size(image: str, seed: int, times: int) -> None:
    small = corners("random", [image], 8, (32, 32), seed)[0]
    large = corners("random", [image], 8 * times, (32 * times, 32 * times), seed)[0]
    assert (np.abs((large + 0.5) / (24 * times + 1) - (small + 0.5) / 25) < 1 / 25).all()


def test_fixed_places() -> None:
    want = {
        "center": (11, 8),
        "top-left": (0, 0),
        "top-right": (0, 16),
        "bottom-left": (22, 0),
        "bottom-right": (22, 16),
    }
    for word, place in want.items():
        assert corners(word, ["a", "b"], 8, (30, 24)).tolist() == [list(place)] * 2
    assert corners(" 22, 16 ", ["a"], 8, (30, 24)).tolist() == [[22, 16]]


@pytest.mark.parametrize(
    ("placement", "px", "says"),
    [
        ("23,0", 8, "last row and column that fit are 22,16"),
        ("0,17", 8, "leaves the 30x24 image"),
        ("centre", 8, "did you mean 'center'"),
        ("-1,0", 8, "ROW,COLUMN"),
        ("left", 8, "bottom-right"),
        ("random", 25, "1 to 24 pixels"),
        ("random", 0, "1 to 24 pixels"),
    ],
)
def test_what_does_not_fit_is_said(placement: str, px: int, says: str) -> None:
    with pytest.raises(UserError, match=says):
        corners(placement, ["a"], px, (30, 24))


def test_a_disc_covers_what_a_disc_covers() -> None:
    for px in range(1, 120):
        disc = mask(px, "round")
        assert disc.shape == (px, px)
        assert (disc == disc[::-1]).all()
        assert (disc == disc.T).all()
        assert disc.any(axis=0).all(), "it reaches all four sides"
        assert abs(disc.sum() / px**2 - math.pi / 4) < 1 / px
        distance = np.hypot(*(np.mgrid[:px, :px] + 0.5 - px / 2))
        assert (disc == (distance <= px / 2 + 1e-9)).all()


@given(st.floats(0.005, 0.5), st.sampled_from(["square", "round"]), st.sampled_from([(32, 32), (224, 224), (96, 128)]))
def test_the_side_is_the_nearest_to_the_area(area: float, shape: str, size: tuple[int, int]) -> None:
    fill = 1 if shape == "square" else math.pi / 4
    px = side(area, size, shape)
    exact = math.sqrt(area * size[0] * size[1] / fill)
    assert abs(px - exact) <= 0.5
    covered = mask(px, shape).sum() / (size[0] * size[1])
    assert abs(covered - area) <= fill * px * 1.5 / (size[0] * size[1]) + 0.002


def test_sizes_that_are_none() -> None:
    assert side(1 / 16, (32, 32)) == 8
    assert side(1 / 16, (32, 32), "round") == 9
    for area in (0, -0.1, 1.1, math.nan):
        with pytest.raises(UserError, match="share of the image's area"):
            side(area, (32, 32))
    with pytest.raises(UserError, match="1 to 32 pixels"):
        side(0.9, (32, 32), "round")
    with pytest.raises(UserError, match="square or round"):
        mask(8, "star")  # type: ignore[arg-type]


@pytest.mark.parametrize("shape", ["square", "round"])
@pytest.mark.parametrize(("start", "end"), [((224, 224), (96, 96)), ((32, 32), (224, 224)), ((227, 227), (224, 224))])
def test_a_patch_is_carried_as_torch_resizes_it(shape: str, start: tuple[int, int], end: tuple[int, int]) -> None:
    px = side(0.06, start, shape)
    patch = control("noise", px, shape)
    carried = resize_patch(patch, start, end)
    assert abs(carried.px - px * end[0] / start[0]) <= 0.5
    assert (carried.mask == mask(carried.px, shape)).all()
    planes = torch.from_numpy(np.dstack([patch.pixels * patch.mask[..., None], patch.mask]).astype(np.float32))
    resized = torch.nn.functional.interpolate(
        planes.permute(2, 0, 1)[None].double(), (carried.px, carried.px), mode="bilinear", antialias=True
    )[0]
    want = (resized[:3] / resized[3]).permute(1, 2, 0).numpy()
    off = np.abs(carried.pixels - want)[carried.mask]
    assert off.max() < 0.51
    if carried.px != px:
        assert carried.checks["carried"] == {"from": [*start], "to": [*end], "from_px": px, "to_px": carried.px}


def test_carrying_keeps_a_colour_and_a_patch_of_its_own_size() -> None:
    grey = control("grey", 51, "round")
    small = resize_patch(grey, (224, 224), (32, 32))
    assert small.px == 7
    assert (small.pixels[small.mask] == 128).all(), "no black of the outside bleeds in"
    assert (small.pixels[~small.mask] == 0).all()
    assert resize_patch(grey, (224, 224), (225, 224)) is grey
    assert resize_patch(grey, (224, 224), (32, 32), px=8).px == 8
    with pytest.raises(UserError, match="patch size"):
        resize_patch(grey, (224, 224), (32, 32), px=33)


def test_stamps_are_what_the_device_pastes() -> None:
    patch = control("noise", 5, "round")
    pixels = np.random.default_rng(0).integers(0, 256, (3, 9, 11, 3), np.uint8)
    places = corners("random", ["a", "b", "c"], 5, (9, 11), 1)
    pasted = paste(pixels, *stamps_for(patch, "random", ["a", "b", "c"], (9, 11), 1))
    for clean, image, (row, column) in zip(pixels, pasted, places, strict=True):
        for y in range(9):
            for x in range(11):
                inside = 0 <= y - row < 5 and 0 <= x - column < 5 and patch.mask[y - row, x - column]
                assert (image[y, x] == (patch.pixels[y - row, x - column] if inside else clean[y, x])).all()


def for_each(ids: str = "abc", px: int = 4) -> Patch:
    """A patch for each image, each of a grey of its own, and its places."""
    pixels = np.stack([np.full((px, px, 3), 40 * i, np.uint8) for i in range(len(ids))])
    places = np.array([[i, 2 * i] for i in range(len(ids))], np.int32)
    return Patch("p", pixels, mask(px), "pgd", "float", 3, 0, images=tuple(ids), corners=places)


def test_a_patch_for_each_image_lies_on_its_own(tmp_path: Path) -> None:
    patch = for_each()
    patch.save(tmp_path / "p.npz")
    again = Patch.read(tmp_path / "p.npz")
    assert again.sha256 == patch.sha256 != replace(patch, corners=patch.corners + 1).sha256
    assert (again.px, again.images) == (4, ("a", "b", "c"))
    stamps, covers, places = stamps_for(again, "best", ["c", "a"], (9, 11))
    assert stamps[:, 0, 0, 0].tolist() == [80, 0]
    assert places.tolist() == [[2, 4], [0, 0]]
    assert covers.shape == (1, 4, 4)
    assert (
        stamps_for(again, "random", ["c", "a"], (9, 11), 5)[2] == corners("random", ["c", "a"], 4, (9, 11), 5)
    ).all()
    with pytest.raises(UserError, match="'d' is not one of the"):
        stamps_for(again, "random", ["a", "d"], (9, 11))


def test_a_control_lies_where_the_attack_chose() -> None:
    places = stamps_for(control("grey", 4), "best", ["c", "b"], (9, 11), at=for_each())[2]
    assert places.tolist() == [[2, 4], [1, 2]]
    with pytest.raises(UserError, match="no places of its own"):
        stamps_for(control("grey", 4), "best", ["c", "b"], (9, 11))


def test_carrying_takes_every_stamp_and_its_place_along() -> None:
    big = resize_patch(for_each(), (10, 10), (30, 30))
    assert (big.px, big.pixels.shape) == (12, (3, 12, 12, 3))
    assert big.pixels[:, 5, 5, 0].tolist() == [0, 40, 80]
    assert big.corners.tolist() == [[0, 0], [3, 6], [6, 12]]  # the room grew from 6 to 18


def test_a_mask_of_its_own_is_carried_with_its_patch() -> None:
    covers = np.zeros((8, 8), bool)
    covers[:, 4:] = True
    half = resize_patch(replace(control("grey", 8), mask=covers), (32, 32), (64, 64))
    assert half.mask.shape == (16, 16)
    assert (half.mask == (np.arange(16) >= 8)).all()
    assert (half.pixels[half.mask] == 128).all()


@pytest.mark.parametrize("harm", [{"images": ("a", "b")}, {"corners": np.zeros((2, 2), np.int32)}])
def test_a_file_whose_parts_do_not_fit_is_refused(tmp_path: Path, harm: dict) -> None:
    replace(for_each(), **harm).save(tmp_path / "p.npz")
    with pytest.raises(UserError, match="expected"):
        Patch.read(tmp_path / "p.npz")


def test_places_names_and_controls_need_no_torch() -> None:
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "import patches, patches.placement\n"
        "from patches.attacks import check_attack, is_control, names\n"
        "from patches.attacks.controls import control\n"
        "assert 'gap' in names() and is_control('noise') and not is_control('gap')\n"
        "check_attack('gap'); control('noise', 8); patches.placement.corners('random', ['a'], 8, (32, 32))\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)

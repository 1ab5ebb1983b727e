"""Controls, stickers and imported patches."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.stats import chisquare

from backends.device.errors import UserError
from patches.attacks.controls import control, sticker
from patches.attacks.imported import load_patch
from patches.patch import Patch
from patches.placement import mask


def test_controls() -> None:
    assert control("none", 8) is None
    grey, noise = control("grey", 8), control("noise", 8)
    assert isinstance(grey, Patch)
    assert (grey.pixels == 128).all()
    assert noise.sha256 == control("noise", 8).sha256 != control("noise", 8, seed=1).sha256
    counts = np.bincount(control("noise", 128).pixels.ravel(), minlength=256)
    assert chisquare(counts).pvalue > 1e-3
    with pytest.raises(UserError, match="none, grey or noise"):
        control("gray", 8)


@pytest.mark.parametrize("size", [(8, 8), (8, 12), (12, 8)])
def test_a_sticker_is_the_middle_of_a_picture_of_the_class(size: tuple[int, int]) -> None:
    images, labels = np.zeros((6, *size, 3), np.uint8), np.arange(6) % 3
    top, left = (size[0] - 8) // 2, (size[1] - 8) // 2
    images[:, top : top + 8, left : left + 8] = np.arange(6, dtype=np.uint8)[:, None, None, None] * 10 + 50
    for target_class, seed, level in ((1, 0, 60), (1, 1, 90), (1, 2, 60), (7, 2, 70), (None, 8, 70)):
        made = sticker(images, labels, target_class, 4, seed=seed)
        assert (made.pixels == level).all(), "nothing from outside of the square bleeds in"
        assert made.checks["label"] == (level - 50) // 10 % 3
        assert (made.target_class, made.seed, made.attack) == (target_class, seed, "sticker")
    disc = sticker(images, labels, 1, 6, "round")
    assert (disc.mask == mask(6, "round")).all()
    assert (disc.pixels[~disc.mask] == 0).all()


def test_an_imported_picture_covers_where_its_alpha_does(tmp_path: Path) -> None:
    rgba = np.full((8, 8, 4), 200, np.uint8)
    rgba[:, :4, 3] = 0
    Image.fromarray(rgba, "RGBA").save(tmp_path / "half.png")
    made = load_patch(tmp_path / "half.png", name="p", target_class=3, px=16, image_size=(64, 64))
    assert (made.mask == (np.arange(16) >= 8)).all()
    assert (made.pixels == np.where(made.mask[..., None], 200, 0)).all()
    assert (made.attack, made.target_class, made.checks["px"]) == ("imported", 3, 8)
    assert made.shape.startswith("alpha-"), "neither square nor round"
    assert made.checks["carried"]["to_px"] == 16


def test_our_own_files_and_plain_pictures_are_imported_to_the_byte(tmp_path: Path) -> None:
    noise = control("noise", 7, "round")
    noise.save(tmp_path / "noise.npz")
    again = load_patch(tmp_path / "noise.npz", name="p", target_class=0, px=7, image_size=(9, 9))
    assert again.sha256 == noise.sha256
    assert again.shape == "round"
    Image.fromarray(control("noise", 7).pixels).save(tmp_path / "noise.png")
    plain = load_patch(tmp_path / "noise.png", name="p", target_class=0, px=7, image_size=(9, 9))
    assert plain.sha256 == control("noise", 7).sha256


def test_what_cannot_be_imported_is_said(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((4, 6, 3), np.uint8)).save(tmp_path / "wide.png")
    Image.fromarray(np.zeros((4, 4, 4), np.uint8), "RGBA").save(tmp_path / "nothing.png")
    (tmp_path / "text.png").write_text("text")
    np.savez(tmp_path / "other.npz", x=np.zeros(3))
    np.savez(tmp_path / "real.npz", pixels=np.zeros((4, 4, 3)))
    np.savez(tmp_path / "each.npz", pixels=np.zeros((2, 4, 4, 3), np.uint8))
    for name, says in (
        ("wide.png", "square"), ("nothing.png", "its mask is empty"), ("text.png", "cannot be read as a picture"),
        ("other.npz", "expected an array 'pixels'"), ("real.npz", "uint8"), ("each.npz", r"uint8 \(any, any, 3\)"),
    ):  # fmt: skip
        with pytest.raises(UserError, match=says):
            load_patch(tmp_path / name, name="p", target_class=0, px=4, image_size=(9, 9))

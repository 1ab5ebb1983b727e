"""Defences on the device against independent implementations, and their words."""

import sys
from pathlib import Path

import numpy as np
import pytest
from art.defences.preprocessor import FeatureSqueezing
from helpers import tiny
from PIL import Image
from sklearn.datasets import load_sample_images
from sklearn.ensemble import IsolationForest

from backends.device import defences
from backends.device.defences import defend, parse_defence
from backends.device.defences.patchblock import outlier_scores
from backends.device.errors import UserError
from backends.device.names import modules

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def flower():
    return load_sample_images().images[1]


@pytest.mark.parametrize("bits", range(1, 8))
def test_a_bit_depth_is_arts(bits, flower):
    squeezed, _ = FeatureSqueezing(clip_values=(0, 1), bit_depth=bits)(flower[None].astype(np.float32) / 255)
    assert np.abs(squeezed * 255 - defend(f"bit_depth:{bits}", flower[None])).max() < 0.501
    assert len(np.unique(defend(f"bit_depth:{bits}", flower[None]))) == 2**bits


def test_gradients_are_smoothed_as_by_another_implementation(flower):
    """The picture is what github.com/fabiobrau/local_gradients_smoothing makes, with the paper's constants."""
    piece = flower[130:195, 255:320]  # whole blocks of 15 that overlap by 5, some of them darkened
    other = np.array(Image.open(HERE / "lgs-65.png"))
    ours = defend("lgs:15", piece[None])[0]
    assert np.abs(ours.astype(int) - other).max() <= 1
    share = (ours != piece).any(axis=2).mean()
    assert 0.2 < share < 0.8


def test_outliers_are_those_of_scikit_learns_isolation_forest():
    rng = np.random.default_rng(1)
    points = rng.normal(128, 10, (200, 30)).clip(0, 255).astype(np.uint8)
    points[:5] = rng.integers(0, 256, (5, 30))
    forest = IsolationForest(n_estimators=200, max_samples=200, random_state=0).fit(points)
    scores = outlier_scores(points)
    np.testing.assert_allclose(scores, -forest.score_samples(points), atol=0.05)
    assert set(np.argsort(scores)[-5:]) == set(range(5))


def test_patchblock_removes_a_patch_of_noise_and_little_else(flower):
    image = flower[150:182, 250:282].copy()
    image[4:12, 6:14] = np.random.default_rng(0).integers(0, 256, (8, 8, 3))
    changed = (defend("patchblock:4", image[None])[0] != image).any(axis=2)
    assert changed[4:12, 6:14].mean() > 0.9
    changed[2:14, 4:16] = False  # chunks that hold a part of the patch
    assert changed.mean() < 0.25


def test_smooth_images_of_any_size_are_left_alone():
    ramp = np.broadcast_to(np.arange(0, 60, 2, dtype=np.uint8)[None, None, :, None], (2, 7, 30, 3)).copy()
    ramp[1] = 9
    seen = defend("lgs:15", ramp)
    assert (seen[1] == 9).all()
    assert seen.shape == ramp.shape


def test_one_image_is_as_in_a_batch(flower):
    pair = np.stack([flower[:48, :48], flower[100:148, 100:148]])
    for word in ("jpeg:50", "median:3", "bit_depth:3", "lgs:9", "patchblock:8"):
        before = pair.copy()
        seen = defend(word, pair)
        assert (seen.dtype, seen.shape) == (np.uint8, pair.shape)
        alone = [defend(word, image[None])[0] for image in pair]
        np.testing.assert_array_equal(seen, alone)
        np.testing.assert_array_equal(pair, before)


def test_words():
    assert parse_defence("jpeg:75")[:2] == ("jpeg", 75)
    assert parse_defence("median:3")[:2] == ("median", 3)


@pytest.mark.parametrize("name", modules(defences.__path__))
def test_a_setting_that_a_defence_does_not_have_is_refused(name):
    for word in (name, f"{name}:", f"{name}:0", f"{name}:9999", f"{name}:07", f"{name}:x"):
        with pytest.raises(UserError, match=rf"^defence '{word}': expected {name}:[A-Z_]+, from \d+ to \d+"):
            parse_defence(word)


@pytest.mark.parametrize("word", ["blur:3", "none", "medain:3", "../jpeg:75"])
def test_a_word_that_names_no_defence_is_refused(word):
    name = word.partition(":")[0]
    with pytest.raises(UserError, match=f"^defence '{word}': no defence named '{name}'; "):
        parse_defence(word)


def test_a_steps_setting_says_so():
    with pytest.raises(UserError, match=r"median:SIDE, from 3 to 31 in steps of 2"):
        parse_defence("median:4")


def test_no_pillow_is_an_error_of_the_jpeg_alone(monkeypatch):
    monkeypatch.setitem(sys.modules, "PIL", None)
    pixels = tiny.pixels(2)
    with pytest.raises(UserError, match=r"needs Pillow.*pip install pillow"):
        defend("jpeg:75", pixels)
    assert defend("median:3", pixels).shape == pixels.shape


def test_a_defence_of_another_package_is_found_by_its_entry_point(tmp_path, monkeypatch):
    info = tmp_path / "darker-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: darker\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[patchbench.defences]\ndarker = darker_defence\n")
    (tmp_path / "darker_defence.py").write_text(
        'SETTING, SETTINGS = "DIVISOR", range(2, 9)\ndef transform(pixels, divisor):\n    return pixels // divisor\n'
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    np.testing.assert_array_equal(defend("darker:2", tiny.pixels(2)), tiny.pixels(2) // 2)
    with pytest.raises(UserError, match=r"^defence 'darker:1': expected darker:DIVISOR, from 2 to 8"):
        parse_defence("darker:1")

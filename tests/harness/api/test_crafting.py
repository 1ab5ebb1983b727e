"""Patches from a module and from a file, and pasted."""

import numpy as np
import patchbench
import pytest
from helpers import tiny
from helpers.attacks import Shades

PIXELS = np.random.default_rng(0).integers(0, 256, (12, 12, 10, 3), np.uint8)
LABELS = np.arange(12) % 3
SHORT = {"steps": 60, "batch": 8}


@pytest.mark.parametrize("given", [{"px": 4}, {"area": 16 / 120}, {"px": 4, "placement": "center"}])
def test_the_patch_is_the_known_best(given, one_thread):
    patch = patchbench.craft(Shades().eval(), PIXELS, LABELS, target_class=0, options=SHORT, **given)
    assert patch.pixels.shape == (4, 4, 3)
    assert (patch.pixels == (255, 0, 0)).mean() > 0.99
    assert (patch.surrogate, patch.target_class) == ("float", 0)


def test_a_modules_normalisation_is_put_before_it(one_thread):
    darker = patchbench.Preproc(std=(-1.0, -1.0, -1.0))
    patch = patchbench.craft(Shades().eval(), PIXELS, LABELS, target_class=0, px=4, options=SHORT, preproc=darker)
    assert (patch.pixels == (0, 255, 255)).mean() > 0.99


def test_patches_for_each_image_lie_where_paste_puts_them(one_thread):
    patch = patchbench.craft(Shades().eval(), PIXELS, LABELS, target_class=1, attack="pgd", px=3, per_image=True)
    pasted = patchbench.paste(patch, PIXELS)
    changed = (pasted != PIXELS).any(axis=(0, 3))
    assert patch.pixels.shape == (12, 3, 3, 3)
    assert changed.sum() > 9  # not all at one place
    with pytest.raises(patchbench.UserError, match="is not one of the 12 images"):
        patchbench.paste(patch, np.concatenate([PIXELS, PIXELS]))


def test_pasting_changes_the_patchs_pixels_alone_and_a_copy():
    before = PIXELS.copy()
    patch = patchbench.craft(Shades().eval(), PIXELS, LABELS, px=4, shape="round", options={"steps": 1})
    pasted = patchbench.paste(patch, PIXELS, placement="2,3")
    inside = np.zeros((12, 10), bool)
    inside[2:6, 3:7] = patch.mask
    assert (pasted[:, ~inside] == PIXELS[:, ~inside]).all()
    assert (pasted[:, inside] == patch.pixels[patch.mask]).all()
    assert (before == PIXELS).all()
    assert (patchbench.paste(patch, PIXELS) != patchbench.paste(patch, PIXELS, seed=1)).any()


@pytest.mark.parametrize("name", ["noise", "grey", "sticker"])
def test_a_control_is_made_without_a_surrogate(name):
    patch = patchbench.craft(None, PIXELS, LABELS, attack=name, target_class=2, px=4, shape="round")
    assert (patch.attack, patch.px, patch.surrogate) == (name, 4, "")
    assert not patch.pixels[~patch.mask].any()


def test_a_file_is_attacked_through_its_twin(tmp_path, one_thread):
    file = tiny.tflite_file(tmp_path / "tiny.tflite")
    pixels = tiny.pixels(16)
    clean = patchbench.replay(file, pixels, "litert", timed_runs=0).logits
    labels = clean.argmax(1)
    wanted = int(np.bincount(labels, minlength=tiny.CLASSES).argmin())
    patch = patchbench.craft(file, pixels, labels, target_class=wanted, px=7, options=SHORT)
    patched = patchbench.replay(file, patchbench.paste(patch, pixels), "litert", timed_runs=0).logits
    others = labels != wanted
    assert patch.surrogate == "twin:tiny"
    assert (patched[others] - clean[others])[:, wanted].mean() > 0
    assert (patched.argmax(1) == wanted)[others].mean() > (clean.argmax(1) == wanted)[others].mean()


def test_mistakes_are_one_line():
    mistakes = {
        "expected either area, .*, or px": {"px": None},
        "expected either area": {"area": 0.1},
        "expected 1 to 10 pixels": {"px": 11},
        "px: expected whole pixels, got 4.5": {"px": 4.5},
        "target class 7: expected a class of the surrogate, 0 to 2": {"target_class": 7},
        "no attack named 'gapp'; did you mean 'gap'": {"attack": "gapp"},
        "has no option 'step'; did you mean 'steps'": {"options": {"step": 3}},
        "patch shape: expected square or round": {"shape": "star"},
        "placement 'centre': expected": {"placement": "centre"},
        "only mean and std may be given": {"preproc": patchbench.Preproc(divisor=1.0)},
        "labels: expected a class": {"labels": LABELS[:3]},
        "expected a torch module, got a function": {"surrogate": lambda x: x},
        "call its eval": {"surrogate": Shades()},
        "no such file": {"surrogate": "absent.tflite"},
        "patch for each image": {"attack": "pgd"},
        "queries a device": {"attack": "sparse_rs"},
        "'none' makes no patch": {"attack": "none"},
        "device cuda:7: torch .* finds 0 GPUs": {"device": "cuda:7"},
        "target_class: expected a class's number": {"target_class": "cat"},
    }
    for words, wrong in mistakes.items():
        given = {"surrogate": Shades().eval(), "images": PIXELS, "labels": LABELS, "px": 4, "target_class": 0}
        with pytest.raises(patchbench.UserError, match=words) as caught:
            patchbench.craft(**given | wrong)
        assert "\n" not in str(caught.value)

"""What every attack does, on a network whose best patch is known: its pure colours."""

import numpy as np
import pytest
import torch
from helpers.attacks import TABLE, Entry, Shades, every
from torch import nn

from backends.device.errors import UserError
from patches import placement
from patches.attacks import names
from patches.best_place import best_place
from patches.craft import craft
from patches.patch import CONTROLS
from patches.printable import non_printability, palette, total_variation
from patches.problem import Problem


def shades(entry, target_class=0, seed=0, **more):
    """What an entry of the table makes of twenty random images of three classes, four pixels wide."""
    pixels = np.random.default_rng(0).integers(0, 256, (20, 12, 10, 3), np.uint8)
    given = Problem(Shades(), pixels, np.arange(20) % 3, target_class, 4, seed=seed, per_image=entry.per_image, **more)
    return craft(entry.attack, given, entry.options, images=tuple("abcdefghijklmnopqrst"))


def test_every_attack_that_follows_gradients_is_in_the_table():
    assert {entry.attack for entry in TABLE} == set(names()) - {*CONTROLS, "imported", "sparse_rs"}


@every
@pytest.mark.parametrize(("target", "colour"), [(0, (255, 0, 0)), (2, (0, 0, 255))])
@pytest.mark.parametrize("shape", ["square", "round"])
def test_the_patch_is_the_known_best_one(entry, target, colour, shape):
    patch = shades(entry, target, shape=shape)
    covered = patch.pixels[..., patch.mask, :]
    if entry.attack == "lavan" and entry.per_image:  # the target class up, the label down, the third has no say
        labels, others = np.arange(20) % 3, np.arange(20) % 3 != target
        assert (covered[..., target] == 255).all()
        assert (covered[np.arange(20), :, labels][others] == 0).all()
    else:
        assert (covered == colour).mean() > 0.99
    assert (patch.pixels[..., ~patch.mask, :] == 0).all()
    assert patch.pixels.shape == ((20,) if entry.per_image else ()) + (4, 4, 3)
    assert patch.images == (tuple("abcdefghijklmnopqrst") if entry.per_image else ())


@every
def test_the_same_seed_gives_the_same_bytes(entry):
    made = [shades(entry._replace(options=entry.options | {"steps": 3}), seed=seed) for seed in (0, 0, 1)]
    assert made[0].sha256 == made[1].sha256 != made[2].sha256
    if entry.per_image:
        assert len({pixels.tobytes() for pixels in made[0].pixels}) == 20, "no two parts draw alike"


@every
def test_what_the_crafting_measured_is_kept(entry):
    told = []
    patch = shades(entry, progress=lambda step, loss: told.append(loss))
    checks = patch.checks
    assert (patch.attack, patch.target_class, patch.seed) == (entry.attack, 0, 0)
    assert checks["steps"] == entry.steps, "of a patch: not their sum over images or parts"
    assert checks["queries"] is None
    assert checks["images"] == (20 if entry.per_image else 13)
    assert checks["options"].items() >= entry.options.items()
    assert len(checks["loss"]) == entry.steps
    assert np.mean(checks["loss"][-3:]) < np.mean(checks["loss"][:3])
    assert checks["zero_gradient_share"] <= (0.34 if entry.attack == "lavan" and entry.per_image else 0)
    assert checks["seconds"] > 0
    assert len(told) == entry.steps * (3 if entry.per_image else 1), "three parts of up to eight images"


@every
def test_a_known_place_is_the_place(entry):
    """The network sees one corner alone: a patch that is known to lie there reaches it, one elsewhere nothing."""

    class Corner(nn.Module):
        def forward(self, x):
            return 10 * x[:, :, :4, :4].mean((2, 3)) + 0 * x.mean((2, 3))

    pixels = np.random.default_rng(0).integers(0, 256, (20, 12, 10, 3), np.uint8)
    for place, seen in (((0, 0), True), ((8, 6), False)):
        given = Problem(
            Corner(), pixels, np.arange(20) % 3, 0, 4, per_image=entry.per_image, corners=np.array([place], np.int32)
        )
        patch = craft(entry.attack, given, entry.options)
        assert (patch.checks["zero_gradient_share"] == 1) == (not seen)
    best = craft(entry.attack, given, entry.options, best=True)
    assert (best.corners == 0).all()
    assert best.corners.shape == ((20 if entry.per_image else 1), 2)
    assert best.checks["zero_gradient_share"] < 0.6
    assert patch.corners is None


def test_a_disguised_patch_stays_near_its_picture():
    patch = shades(Entry("gap", {"steps": 60, "batch": 8, "disguise": "grey", "within": 0.2}))
    assert (patch.pixels == [128 + 51, 128 - 51, 128 - 51]).all(), "red as far as it may, of the rest as little"


@pytest.mark.parametrize(("term", "weight", "board", "cyan"), [("smooth", 10.0, 20, 0), ("printable", 30.0, 0, 20)])
def test_a_term_makes_a_patch_smooth_or_printable(term, weight, board, cyan):
    """Against a network that asks for a checkerboard, or for a colour that no ink has."""

    class Asking(nn.Module):
        def forward(self, x):
            signs = (torch.arange(x.shape[2])[:, None] + torch.arange(x.shape[3])) % 2 * 2.0 - 1
            blueness = x[:, 1:].mean((1, 2, 3)) - x[:, 0].mean((1, 2))
            return torch.stack([board * (x * signs).mean((1, 2, 3)) + cyan * blueness, 0 * blueness, 0 * blueness], 1)

    pixels = np.random.default_rng(0).integers(0, 256, (20, 12, 10, 3), np.uint8)
    given = Problem(Asking(), pixels, np.arange(20) % 3, 0, 4, corners=np.array([[2, 2]], np.int32))
    rough, away = [], []
    for terms in ({}, {term: weight}):
        made = craft("gap", given, {"steps": 100, "batch": 8} | terms)
        patch = torch.from_numpy(made.pixels).permute(2, 0, 1)[None].float() / 255
        rough.append(float(total_variation(patch, torch.ones(1, 4, 4, dtype=torch.bool))))
        away.append(float(non_printability(patch, torch.ones(1, 4, 4, dtype=torch.bool), palette())))
    plain, with_term = rough if term == "smooth" else away
    assert with_term < plain / 4


@pytest.mark.parametrize("shape", ["square", "round"])
def test_the_best_place_is_where_the_gradient_is(shape):
    """Against a loop over all places, of a network whose gradient depends on the image."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Tanh(), nn.Flatten(), nn.Linear(4 * 10 * 8, 3)).requires_grad_(False)
    pixels = np.random.default_rng(1).integers(0, 256, (5, 12, 10, 3), np.uint8)
    for target_class, labels in ((1, np.array([0, 2, 0, 2, 0])), (None, np.array([0, 2, 1, 1, 0]))):
        given = Problem(model, pixels, labels, target_class, 5, shape)
        x = (torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255).requires_grad_()
        out, rows = model(x), torch.arange(5)
        rivals = out.masked_fill(torch.eye(3)[labels] > 0, -np.inf).amax(1) if target_class is None else out[:, 1]
        (gradient,) = torch.autograd.grad((out[rows, labels] - rivals).sum(), x)
        felt = np.zeros((5, 8, 6))
        for row, column in np.ndindex(8, 6):
            under = gradient[:, :, row : row + 5, column : column + 5].abs().sum(1).numpy()
            felt[:, row, column] = under[:, placement.mask(5, shape)].sum(1)
        each = [np.unravel_index(image.argmax(), (8, 6)) for image in felt]
        assert best_place(Problem(model, pixels, labels, target_class, 5, shape, per_image=True)).tolist() == [
            list(map(int, place)) for place in each
        ]
        assert tuple(best_place(given)[0]) == np.unravel_index(felt.sum(0).argmax(), (8, 6))


@pytest.mark.parametrize(
    ("options", "per_image", "says"),
    [
        ({}, False, "per_image = true"),
        ({"restarts": 0}, True, "'restarts': .* at least 1"),
        ({"steps": 0}, True, "'steps': .* at least 1"),
        ({"batch": 0}, True, "'batch': .* at least 1"),
    ],
)
def test_what_pgd_cannot_do_is_said(options, per_image, says):
    with pytest.raises(UserError, match=says):
        shades(Entry("pgd", options, per_image))

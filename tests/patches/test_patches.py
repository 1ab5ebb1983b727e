"""The stage that crafts, its paste and its surrogates, held against closed forms and the device's own paste."""

import inspect

import numpy as np
import pytest
import torch
from torch import nn

from backends.device.artifact import QuantSpec
from backends.device.bundle import paste as device_paste
from backends.device.errors import UserError
from harness.networks.architectures import build as network
from patches import placement
from patches.acceleration import accelerate
from patches.attacks import CHOICES, COMMON_OPTIONS, LIMITS, check_attack, load, names, options
from patches.craft import craft
from patches.fake_quant import Source
from patches.objectives import label_margins, objective
from patches.paste import paste
from patches.patch import CONTROLS, Patch
from patches.problem import Problem
from patches.surrogates import build

pytestmark = pytest.mark.usefixtures("one_thread")


class Colours(nn.Module):
    """Logits are ten times the mean of red, green and blue: the best patch for a class is known, its pure colour."""

    def __init__(self, weights: tuple[float, float, float] = (1, 1, 1)) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.tensor(weights, dtype=torch.float32))

    def forward(self, x):
        return 10 * x.mean((2, 3)) * self.weights


def pixels(n=20, size=(12, 10), seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, *size, 3), np.uint8)


def problem(surrogate=None, target_class=0, **more):
    return Problem(
        build("float", surrogate or Colours()), pixels(), np.arange(20) % 3, target_class, **{"px": 4} | more
    )


@pytest.mark.parametrize("shape", ["square", "round"])
@pytest.mark.parametrize("stamps_of", [1, 6])
def test_torch_and_device_paste_the_same_bytes(shape, stamps_of):
    clean, rng = pixels(6), np.random.default_rng(1)
    stamps = rng.integers(0, 256, (stamps_of, 5, 5, 3), np.uint8)
    mask, corners = placement.mask(5, shape)[None], placement.corners("random", list("abcdef"), 5, (12, 10), 0)
    images = torch.from_numpy(clean).permute(0, 3, 1, 2).float() / 255
    soft = torch.from_numpy(stamps).permute(0, 3, 1, 2).float() / 255
    pasted = paste(images, soft, torch.from_numpy(mask), torch.from_numpy(corners))
    rounded = (pasted * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
    assert rounded.tobytes() == device_paste(clean, stamps, mask, corners).tobytes()
    for i, (row, column) in enumerate(corners):
        by_hand = clean[i].copy()
        by_hand[row : row + 5, column : column + 5][mask[0]] = stamps[i % stamps_of][mask[0]]
        assert (rounded[i] == by_hand).all()


@pytest.mark.parametrize("shape", ["square", "round"])
def test_the_gradient_of_pasting_is_right(shape):
    corners = torch.tensor([[0, 0], [2, 3], [1, 1]])
    images, weights = torch.rand(3, 3, 6, 7, dtype=torch.double), torch.rand(3, 3, 6, 7, dtype=torch.double)
    mask = torch.from_numpy(placement.mask(3, shape))[None]
    for n in (1, 3):
        stamps = torch.rand(n, 3, 3, 3, dtype=torch.double, requires_grad=True)
        assert torch.autograd.gradcheck(
            lambda s: (paste(images.clone(), s, mask, corners) * weights).sin().sum(), stamps
        )


def test_objectives_are_log_likelihoods():
    logits, labels = torch.randn(9, 5, dtype=torch.double), torch.arange(9) % 5
    likelihood = logits.exp() / logits.exp().sum(1, keepdim=True)
    assert torch.isclose(objective(3)(logits, labels), -likelihood[:, 3].log().mean())
    assert torch.isclose(objective(None)(logits, labels), likelihood[range(9), labels].log().mean())


def test_margins_are_differences_of_logits():
    logits, labels = torch.tensor([[5.0, 1, 2], [0, 7, 3], [4, 6, 9]]), torch.tensor([0, 1, 1])
    assert label_margins(2)(logits, labels).tolist() == [3, 4, -3]
    assert label_margins(1)(logits, labels).tolist() == [4, 3 - 7, 9 - 6], "the other way for the target class"
    assert label_margins(None)(logits, labels).tolist() == [3, 4, -3]


@pytest.mark.parametrize(("target", "best"), [(0, (255, 0, 0)), (2, (0, 0, 255)), (None, None)])
@pytest.mark.parametrize("shape", ["square", "round"])
def test_the_patch_is_the_known_best_one(target, best, shape):
    given = problem(target_class=target, shape=shape)
    if target is None:  # all images are red: away from red is green and blue
        given, best = problem(target_class=None, shape=shape), (0, 255, 255)
        given.labels[:] = 0
    patch = craft("gap", given, {"steps": 60, "batch": 8})
    assert isinstance(patch, Patch)
    assert patch.pixels.dtype == np.uint8
    assert (patch.pixels[patch.mask] == best).all()
    assert (patch.pixels[~patch.mask] == 0).all()
    assert (patch.mask == placement.mask(4, shape)).all()


def test_the_harness_measures_what_the_attack_did():
    told = []
    given = problem(Colours((1, 0, 0)), progress=lambda step, loss: told.append((step, loss)))
    patch = craft("gap", given, {"steps": 450, "batch": 4, "learning_rate": 0.01}, name="p", surrogate="float:x")
    checks = patch.checks
    assert (patch.name, patch.surrogate, patch.attack, patch.target_class, patch.seed) == ("p", "float:x", "gap", 0, 0)
    assert checks["zero_gradient_share"] == pytest.approx(2 / 3), "green and blue have no say in this network"
    assert (checks["steps"], checks["images"]) == (450, 13)
    assert checks["options"].items() > {"steps": 450, "batch": 4, "learning_rate": 0.01}.items()
    assert not any(checks["options"][name] for name in ("rotation", "disguise", "smooth", "printable"))
    assert [step for step, _ in told] == list(range(1, 451))
    assert len(checks["loss"]) == 200
    assert checks["loss"][0] == pytest.approx(np.mean([loss for _, loss in told[:3]]))
    assert checks["loss"][-1] == pytest.approx(np.mean([loss for _, loss in told[-2:]]))
    assert not {"success", "accuracy"} & checks.keys()
    assert given.log == [], "the caller's problem is untouched"


def test_a_patch_survives_its_file(tmp_path):
    patch = craft("gap", problem(shape="round"), {"steps": 3})
    patch.save(tmp_path / "p.npz")
    again = Patch.read(tmp_path / "p.npz")
    assert again.sha256 == patch.sha256
    assert again.checks == patch.checks


def test_images_of_the_target_class_are_left_out():
    class Watching(Colours):
        seen: list

        def forward(self, x):
            self.seen.append(x.detach().clone())
            return super().forward(x)

    watching = Watching().requires_grad_(False)
    watching.seen = []
    marked = np.zeros((9, 8, 8, 3), np.uint8)
    marked[..., :] = np.arange(9)[:, None, None, None] * 20
    craft("gap", Problem(watching, marked, np.arange(9) % 3, 1, 2), {"steps": 8, "batch": 3})
    seen = {round(float(v) * 255 / 20) for x in watching.seen for v in x.flatten(1).median(dim=1).values}
    assert seen == {0, 2, 3, 5, 6, 8}


def test_each_image_comes_once_before_any_comes_again():
    given = Problem(Colours(), np.arange(10, dtype=np.uint8)[:, None, None, None].repeat(3, 3), np.arange(10), None, 1)
    batches = list(given.batches(5, 4, given.generator()))
    assert [images.shape for images, _ in batches] == [(4, 3, 1, 1)] * 5
    labels = torch.cat([labels for _, labels in batches])
    assert sorted(labels[:10].tolist()) == sorted(labels[10:].tolist()) == list(range(10))
    assert labels[:10].tolist() != labels[10:].tolist()
    assert all(torch.equal((images[:, 0, 0, 0] * 255).round().long(), labels) for images, labels in batches)


def test_crafting_places_are_uniform():
    given = problem(px=9)
    places = given.places(4000, given.generator())
    assert places.amin(0).tolist() == [0, 0]
    assert places.amax(0).tolist() == [3, 1]
    counts = torch.bincount(places[:, 0] * 2 + places[:, 1], minlength=8)
    assert (counts - 500).abs().max() < 5 * 500**0.5


def test_the_same_seed_gives_the_same_bytes():
    made = []
    for disturbance in range(2):
        torch.manual_seed(disturbance)
        state = torch.get_rng_state()
        made.append(craft("gap", problem(network("resnet8", 10)), {"steps": 4, "batch": 8}).sha256)
        assert torch.equal(torch.get_rng_state(), state), "the caller's random numbers are left alone"
    assert made[0] == made[1]
    assert craft("gap", problem(network("resnet8", 10), seed=1), {"steps": 4, "batch": 8}).sha256 != made[0]


@pytest.mark.parametrize(
    ("attack", "given", "more", "says"),
    [
        ("gab", {}, {}, "did you mean 'gap'"),
        ("zzz", {}, {}, "there are none, grey, noise, sticker, other_class, gap, imported, lavan, pgd"),
        ("noise", {}, {}, "is a control"),
        ("imported", {}, {}, "is read from a file"),
        ("gap", {"stepz": 3}, {}, "did you mean 'steps'"),
        ("gap", {"zzz": 3}, {}, "steps, learning_rate, batch"),
        ("gap", {"steps": "3"}, {}, "expected int, got '3'"),
        ("gap", {"steps": True}, {}, "expected int"),
        ("gap", {"steps": 0}, {}, "'steps': .* at least 1, got 0"),
        ("gap", {"learning_rate": float("nan")}, {}, "at least 0, got nan"),
        ("gap", {"rotation": 45, "scale": 0.9}, {}, "becomes 12 wide when rotated and scaled: expected at most 10"),
        ("gap", {"rotation": 200}, {}, "'rotation': .* from 0 to 180"),
        ("gap", {}, {"px": 11}, "1 to 10 pixels"),
        ("gap", {}, {"target_class": 3}, "target class 3"),
        ("gap", {}, {"target_class": -1}, "target class -1"),
        ("gap", {}, {"surrogate": Colours((1, float("nan"), 1))}, "step 1 .*finite"),
    ],
)
def test_what_a_user_can_mend_is_said(attack, given, more, says):
    with pytest.raises(UserError, match=says):
        craft(attack, problem(**more), given)


def test_no_image_left_is_said():
    given = problem()
    given.labels[:] = 0
    with pytest.raises(UserError, match="no images to craft on: all 20 are of class"):
        craft("gap", given)


def test_bfloat16_blurs_no_levels():
    """Of a simulation, even within an ensemble; a twin's are refused alike."""
    few_bits = Source(network("resnet8", 10), QuantSpec(4, 4, calibration_images=2), pixels(2, (32, 32)))
    simulated = build("fake_quant", few_bits)
    for surrogate in (simulated, build("ensemble", [Colours(), simulated])):
        with pytest.raises(UserError, match="option bfloat16: quantized surrogates need float32"):
            accelerate(surrogate, bfloat16=True, compiled=False)


@pytest.mark.parametrize("name", sorted({*names()} - {*CONTROLS, "imported"}))
def test_options_are_those_of_the_function(name):
    """Planning reads them from its file, which imports torch."""
    parameters = inspect.signature(load(name)).parameters.values()
    named = {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}
    assert options(name, {}) == ({} if name == "sparse_rs" else COMMON_OPTIONS) | named
    assert named.keys() <= LIMITS.keys() | CHOICES.keys() | {"disguise"}, "and what each may be is known"


def test_options_take_an_integer_for_a_float():
    assert options("gap", {"learning_rate": 1})["learning_rate"] == 1
    assert options("noise", {}) == {}


@pytest.fixture
def third_party(tmp_path, monkeypatch):
    """A distribution on the path that brings attacks and a surrogate."""
    (tmp_path / "toy_attacks.py").write_text(
        "import torch\n"
        "def half(problem, *, level=0.5): return torch.full((3, problem.px, problem.px), level)\n"
        "def wrong(problem): return torch.zeros(3, 1, problem.px)\n"
        "def dead(network): return network.eval()\n"
    )
    info = tmp_path / "toy-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Name: toy\nVersion: 1\n")
    (info / "entry_points.txt").write_text(
        "[patchbench.attacks]\nhalf = toy_attacks:half\nwrong = toy_attacks:wrong\n"
        "[patchbench.surrogates]\ndead = toy_attacks:dead\n"
    )
    monkeypatch.syspath_prepend(tmp_path)


@pytest.mark.usefixtures("third_party")
def test_third_parties_register_by_entry_points():
    check_attack("half")
    assert names()[-2:] == ("half", "wrong")
    for level, rounded in ((0.5 / 255, 0), (1.5 / 255, 2), (2.5 / 255, 2), (-3.0, 0), (7.0, 255)):
        made = craft("half", problem(), {"level": level})
        assert (made.pixels == rounded).all(), "clipped, rounded half to even"
    assert made.checks["zero_gradient_share"] is None
    for attack, given in (("wrong", {}), ("half", {"level": float("inf")})):
        with pytest.raises(UserError, match=r"expected a finite \(3, 4, 4\)"):
            craft(attack, problem(), given)
    assert isinstance(build("dead", Colours()), Colours)

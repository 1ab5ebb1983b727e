import json
import sys

import numpy as np
import pytest
import torch
from helpers import tiny
from scipy.ndimage import median_filter
from sklearn.datasets import load_sample_images

from backends.device.bundle import Bundle, Stamps, write_bundle
from backends.device.checksums import write_sums
from backends.device.defences import Defence, defend, parse_defence
from backends.device.errors import UserError
from backends.hosts import Target, replay
from patches.differentiable_defences import defended, differentiable_defence
from patches.problem import Problem

ORT = Target("ort", "onnxruntime")


@pytest.fixture(scope="module")
def photographs():
    """Real pictures in pieces, some whose sides are no multiples of a block: uint8 (n, h, w, 3) each."""
    china, flower = load_sample_images().images
    return [china[None, 100:356, 50:370], flower[None, 201:232, 300:317], np.stack([china[:33, :49], flower[:33, :49]])]


def levels(word, pixels):
    """What a stand-in gives, in levels of 0 to 255."""
    x = torch.from_numpy(pixels.astype(np.float32) / 255).permute(0, 3, 1, 2)
    return differentiable_defence(word)(x).permute(0, 2, 3, 1).numpy() * 255


@pytest.mark.parametrize("side", [3, 5, 9])
def test_a_median_is_scipys(side):
    pixels = np.random.default_rng(1).integers(0, 256, (3, 17, 12, 3), np.uint8)
    before = pixels.copy()
    expected = median_filter(pixels, size=(1, side, side, 1), mode="nearest")
    np.testing.assert_array_equal(defend(f"median:{side}", pixels), expected)
    np.testing.assert_array_equal(levels(f"median:{side}", pixels).round(), expected)
    np.testing.assert_array_equal(pixels, before)


@pytest.mark.parametrize("quality", [10, 30, 50, 75, 90, 100])
def test_the_stand_in_of_a_jpeg_is_pillows(photographs, quality):
    word = f"jpeg:{quality}"
    for pixels in photographs:
        off = np.abs(levels(word, pixels) - defend(word, pixels))
        assert off.mean() < 1
        assert off.mean() < 0.6 * np.abs(pixels - defend(word, pixels).astype(float)).mean() + 0.05


def test_a_jpeg_says_more_of_a_picture_with_more_quality(photographs):
    kept = [np.abs(defend(f"jpeg:{q}", photographs[0]) - photographs[0].astype(float)).mean() for q in (5, 30, 75, 98)]
    assert kept == sorted(kept, reverse=True)
    grey = np.full((1, 16, 16, 3), 77, np.uint8)
    np.testing.assert_array_equal(defend("jpeg:30", grey), grey)


def test_a_gradient_through_a_jpeg_is_as_large_as_without():
    x = (torch.rand(2, 3, 32, 48, generator=torch.Generator().manual_seed(0)) * 0.2 + 0.4).requires_grad_()
    differentiable_defence("jpeg:75")(x).sum().backward()
    assert x.grad.sum() == pytest.approx(x.numel(), rel=1e-3)  # a level more everywhere is a level more there
    assert (x.grad != 0).float().mean() > 0.99


def test_a_gradient_through_a_median_reaches_the_pixel_that_it_is():
    x = torch.arange(9.0).flip(0).reshape(1, 1, 3, 3).repeat(1, 3, 1, 1) / 255
    x.requires_grad_()
    differentiable_defence("median:3")(x)[:, :, 1, 1].sum().backward()
    expected = torch.zeros(3, 3)
    expected[1, 1] = 1
    torch.testing.assert_close(x.grad[0, 0], expected)


def test_a_surrogate_behind_a_defence_sees_what_the_device_does(photographs):
    pixels = photographs[2]
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 33 * 49, 4)).eval()
    problem = Problem(defended("median:5", network), pixels, np.zeros(2, np.int64), 1, 8)
    with torch.no_grad():
        seen = problem.surrogate(problem.images(torch.arange(2))[0])
        clean = torch.from_numpy(defend("median:5", pixels).astype(np.float32) / 255).permute(0, 3, 1, 2)
        torch.testing.assert_close(seen, network(clean))


def test_words():
    assert parse_defence("jpeg:75") == Defence("jpeg", 75)
    assert parse_defence("median:3") == Defence("median", 3)


@pytest.mark.parametrize("word", ["jpeg", "jpeg:0", "jpeg:101", "jpeg:075", "median:4", "median:1", "blur:3", "none"])
def test_a_word_that_names_no_defence_is_refused(word):
    with pytest.raises(UserError, match=f"defence '{word}': expected jpeg:QUALITY"):
        parse_defence(word)


def test_no_pillow_is_an_error_of_the_jpeg_alone(monkeypatch):
    monkeypatch.setitem(sys.modules, "PIL", None)
    pixels = tiny.pixels(2)
    with pytest.raises(UserError, match=r"needs Pillow.*pip install pillow"):
        defend("jpeg:75", pixels)
    assert defend("median:3", pixels).shape == pixels.shape


@pytest.fixture
def bundle(tmp_path):
    """A stamp on each image: undefended, behind each defence; and what is then seen, pasted over all of each image."""
    file, stamps = tiny.onnx_file(tmp_path / "tiny.onnx"), tiny.stamps()
    pasted = tiny.pasted_slowly(tiny.pixels(), stamps)
    whole, corners = np.ones((1, tiny.SIZE, tiny.SIZE), bool), np.zeros((tiny.N, 2), np.int32)
    words = {"soft": "median:3", "coded": "jpeg:40"}
    cases = {"none": None, "plain": stamps} | dict.fromkeys(words, stamps)
    cases |= {f"{name} seen": Stamps(defend(word, pasted), whole, corners) for name, word in words.items()}
    cases = {name.replace(" ", "-"): case for name, case in cases.items()}
    return write_bundle(tmp_path / "bundle", tiny.artifact(file), file, tiny.pixels(), cases, words)


def test_a_defence_lies_between_pasting_and_the_network(tmp_path, bundle):
    heard = []
    outcome = replay(ORT, bundle.root, tmp_path / "out", on_event=heard.append)
    assert not outcome.errors
    logits = {name: np.load(file, allow_pickle=False)["logits"] for name, file in outcome.files.items()}
    for name in ("soft", "coded"):
        np.testing.assert_array_equal(logits[name], logits[f"{name}-seen"])
        assert (logits[name] != logits["plain"]).any()
    told = {event.case: event for event in heard if event.event == "case"}
    assert told["soft"].pixels_sha256 == told["plain"].pixels_sha256 == bundle.case("plain").sha256
    assert told["soft"].defended_sha256 == bundle.case("soft-seen").sha256
    assert not told["plain"].defended_sha256


def test_a_bundle_without_a_defence_says_nothing_of_one(bundle):
    described = {case["name"]: set(case) for case in json.loads((bundle.root / "bundle.json").read_text())["cases"]}
    assert described["plain"] == {"name", "sha256"}
    assert described["soft"] == {"name", "sha256", "defence", "defended_sha256"}


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [("defended_sha256", "0" * 64, "case soft: median:3 gives pixels of sha256 "), ("defence", "blur:2", "'blur:2'")],
)
def test_what_a_defence_makes_otherwise_is_refused(tmp_path, bundle, field, value, says):
    file = bundle.root / "bundle.json"
    described = json.loads(file.read_text())
    next(case for case in described["cases"] if case["name"] == "soft")[field] = value
    file.write_text(json.dumps(described))
    write_sums(bundle.root)
    if field == "defence":
        with pytest.raises(UserError, match=says):
            Bundle.read(bundle.root)
        return
    outcome = replay(ORT, bundle.root, tmp_path / "out")
    assert list(outcome.errors) == ["soft"]
    assert says in outcome.errors["soft"]


def test_a_latency_with_a_defence_has_the_defence_in_it(tmp_path, bundle):
    limits = {"warmup": 5, "runs": 200, "seconds": 0}
    took = []
    for more in ({}, {"defence": "median:9"}):
        outcome = replay(ORT, bundle.root, tmp_path / "out", cases=[], latency=limits | more)
        took.append(outcome.latency.p50_ms)
    assert took[1] > took[0]

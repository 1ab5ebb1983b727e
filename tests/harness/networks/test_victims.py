"""Victims: weights found, checked, stored, and a network that takes RGB in [0, 1]."""

import json
import sys

import numpy as np
import pytest
import torch
from helpers.victims import prepared
from torch import nn

from backends.device.errors import UserError
from harness import config
from harness.data import datasets as data
from harness.networks import architectures as networks
from harness.networks import victims
from harness.torchvision_import import import_torchvision

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
RNG = np.random.default_rng(0)


def test_what_was_prepared_is_read_and_loaded_again(trained, tmp_path):
    victim = prepared(tmp_path, weights="weights.th", mean=MEAN, std=STD)
    assert victims.read(tmp_path / "victim") == victim
    (tmp_path / "victim").rename(tmp_path / "elsewhere")
    found = victims.read(tmp_path / "elsewhere")
    assert found.weights == tmp_path / "elsewhere/weights.pt"
    import_torchvision()
    from torchvision.transforms import Normalize

    x = torch.rand(4, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(victims.load(found)(x), trained(Normalize(MEAN, STD)(x)), rtol=1e-4, atol=1e-4)


def test_without_mean_and_std_nothing_is_put_before_the_network(trained, tmp_path):
    network = victims.load(prepared(tmp_path, weights="weights.th"))
    assert isinstance(network, networks.CifarResNet)
    x = torch.rand(2, 3, 32, 32)
    assert torch.equal(network(x), trained(x))


def test_logits_are_those_of_pixels_over_255_whatever_the_batch(trained, tmp_path):
    network = victims.load(prepared(tmp_path, weights="weights.th", mean=MEAN, std=STD))
    pixels = RNG.integers(0, 256, (7, 32, 32, 3)).astype(np.uint8)
    pixels.flags.writeable = False  # as a mapped file is
    with torch.no_grad():
        expected = network(torch.tensor(pixels.transpose(0, 3, 1, 2) / np.float32(255)))
    found = victims.logits(network, pixels, batch=3)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected.numpy(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("model", ["resnet8", "squeezenet1_0"])
def test_a_network_for_bgr_is_stored_as_one_for_rgb(tmp_path, model):
    original = networks.build(model, 10, seed=4).eval()
    torch.save(original.state_dict(), tmp_path / "w.pth")
    network = victims.load(
        prepared(tmp_path, (64, 64), model=model, weights="w.pth", mean=MEAN, std=STD, channel_order="bgr")
    )
    x = torch.rand(2, 3, 64, 64)
    normalised = (x - torch.tensor(MEAN).view(1, 3, 1, 1)) / torch.tensor(STD).view(1, 3, 1, 1)
    with torch.no_grad():
        torch.testing.assert_close(network(x), original(normalised.flip(1)), rtol=1e-4, atol=1e-4)
        assert not torch.allclose(network(x), original(normalised), rtol=1e-2, atol=1e-2)


def test_bgr_needs_a_first_convolution(tmp_path, own_module):
    torch.save(nn.Sequential(nn.Flatten(), nn.Linear(12, 10)).state_dict(), tmp_path / "w.pth")
    with pytest.raises(UserError, match="begins with a convolution"):
        prepared(tmp_path, (2, 2), model="ownvictims:linear", weights="w.pth", channel_order="bgr")


@pytest.fixture
def own_module(tmp_path, monkeypatch):
    (tmp_path / "ownvictims.py").write_text(
        "from torch import nn\n"
        "def linear(): return nn.Sequential(nn.Flatten(), nn.Linear(12, 10))\n"
        "class Pair(nn.Module):\n"
        "    def forward(self, x): return x, x\n"
        "def pair(): return Pair()\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield
    sys.modules.pop("ownvictims", None)


def test_the_digest_is_of_the_tensors_not_of_the_file(trained, tmp_path):
    state = trained.state_dict()
    digest = prepared(tmp_path, weights="weights.th").sha256
    torch.save({"epoch": 3, "state_dict": {f"module.{k}": state[k] for k in reversed(state)}}, tmp_path / "other.th")
    assert prepared(tmp_path, weights="other.th").sha256 == digest == victims.weights_digest(state)
    state["linear.bias"][0] += 1e-3
    assert victims.weights_digest(state) != digest
    assert victims.weights_digest({"a": torch.zeros(2, 3)}) != victims.weights_digest({"a": torch.zeros(3, 2)})


def test_weights_saved_in_half_precision_or_without_counters_fit(trained, tmp_path):
    state = {k: t.half() for k, t in trained.state_dict().items() if not k.endswith("num_batches_tracked")}
    torch.save(state, tmp_path / "half.th")
    found = victims.load(prepared(tmp_path, weights="half.th")).state_dict()
    assert found["conv1.weight"].dtype == torch.float32
    torch.testing.assert_close(found["conv1.weight"], trained.conv1.weight.detach(), rtol=1e-3, atol=1e-3)


# weights that do not load


def without(state, name):
    return {k: t for k, t in state.items() if k != name}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: without(s, "linear.bias"), "do not fit the network: linear.bias is missing"),
        (lambda s: s | {"extra": torch.zeros(1)}, "extra is unexpected"),
        (lambda s: s | {"linear.weight": torch.zeros(5, 64)}, r"linear.weight is \(5, 64\) instead of \(10, 64\)"),
        (lambda s: {f"net.{k}": t for k, t in s.items()}, "conv1.weight is missing; .* and [0-9]+ more"),
        (lambda s: s | {"linear.bias": torch.full((10,), float("nan"))}, "NaN or infinity, first in linear.bias"),
        (lambda s: {}, "expected a state dict"),
        (lambda s: [1, 2], "expected a state dict"),
        (lambda s: {"state_dict": s | {"linear.bias": 3}}, "expected a state dict"),
        (lambda s: networks.build("resnet8", 10), "expected a state dict"),
    ],
)
def test_weights_that_do_not_fit(trained, tmp_path, change, message):
    torch.save(change(trained.state_dict()), tmp_path / "bad.th")
    with pytest.raises(UserError, match=message) as caught:
        prepared(tmp_path, weights="bad.th")
    assert "bad.th" in str(caught.value) or "NaN" in message
    assert not (tmp_path / "victim/victim.json").exists()


@pytest.mark.parametrize("content", [b"", b"not a network", b"PK\x03\x04" + b"\0" * 99])
def test_damaged_weights(tmp_path, content):
    (tmp_path / "bad.th").write_bytes(content)
    with pytest.raises(UserError, match=r"bad\.th: expected a state dict"):
        prepared(tmp_path, weights="bad.th")


class Malice:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def test_nothing_is_unpickled(tmp_path):
    torch.save({"state_dict": Malice(tmp_path / "opened")}, tmp_path / "bad.th")
    with pytest.raises(UserError, match="expected a state dict"):
        prepared(tmp_path, weights="bad.th")
    assert not (tmp_path / "opened").exists()


def test_weights_with_another_hash(trained, tmp_path):
    with pytest.raises(UserError, match=r"weights\.th: expected sha256 0000"):
        prepared(tmp_path, weights="weights.th", weights_sha256="0" * 64)


def test_stored_weights_that_were_changed(trained, tmp_path):
    victim = prepared(tmp_path, weights="weights.th")
    state = torch.load(victim.weights, weights_only=True)
    torch.save(state | {"linear.bias": state["linear.bias"] + 1}, victim.weights)
    with pytest.raises(UserError, match="not the weights of victim 'v'"):
        victims.load(victim)


@pytest.mark.parametrize("content", ["{", "{}", json.dumps({"schema": 2}), json.dumps({"schema": 1, "name": "v"})])
def test_a_damaged_description(tmp_path, content):
    (tmp_path / "victim.json").write_text(content)
    with pytest.raises(UserError, match=r"victim\.json"):
        victims.read(tmp_path)


# networks that do not take the images


@pytest.mark.parametrize(
    ("size", "model", "message"),
    [
        ((16, 16), "squeezenet1_0", "squeezenet1_0 does not take images of 16x16"),
        ((3, 2), "ownvictims:linear", "does not take images of 3x2"),
        ((2, 2), "ownvictims:pair", r"expected logits \(1, 10\) for one image, got tuple"),
    ],
)
def test_wrong_input_sizes_and_outputs(tmp_path, own_module, size, model, message):
    with pytest.raises(UserError, match=message):
        prepared(tmp_path, size, model=model, weights="unused")


def test_wrong_number_of_classes(tmp_path, own_module):
    with pytest.raises(UserError, match=r"expected logits \(1, 7\) for one image, got \(1, 10\)"):
        prepared(tmp_path, (2, 2), 7, model="ownvictims:linear", weights="unused")


# training


def test_a_victim_is_trained_behind_its_normalisation(tmp_path):
    images = data.Images(
        RNG.integers(0, 256, (40, 16, 16, 3)).astype(np.uint8), np.arange(40) % 4, tuple(map(str, range(40)))
    )
    train = {"epochs": 1, "batch": 8, "seed": 5}
    victim = prepared(tmp_path, (16, 16), 4, images=images, train=train, mean=MEAN, std=STD)
    again = prepared(tmp_path, (16, 16), 4, images=images, train=train, mean=MEAN, std=STD)
    other = prepared(tmp_path, (16, 16), 4, images=images, train=train | {"seed": 6}, mean=MEAN, std=STD)
    unnormalised = prepared(tmp_path, (16, 16), 4, images=images, train=train)
    assert victim.sha256 == again.sha256
    assert len({victim.sha256, other.sha256, unnormalised.sha256}) == 3
    with pytest.raises(UserError, match="has 3 classes, but the training images go up to 3"):
        prepared(tmp_path, (16, 16), 3, images=images, train=train)


# the published accuracies


@pytest.mark.data
@pytest.mark.slow
@pytest.mark.parametrize(("layers", "accuracy"), [(20, 0.915), (32, 0.928), (56, 0.926)])
def test_cifar10(data_dir, tmp_path, layers, accuracy):
    test = data.load(config.DataTable(name="cifar10"), (32, 32), data_dir, tmp_path)["test"]
    victim = prepared(
        tmp_path, data_dir=data_dir, model=f"resnet{layers}", weights=f"cifar10/resnet{layers}.th", mean=MEAN, std=STD
    )
    top1 = (victims.logits(victims.load(victim), test.pixels).argmax(axis=1) == test.labels).mean()
    assert top1 == pytest.approx(accuracy, abs=0.002)


@pytest.mark.data
@pytest.mark.slow
def test_squeezenet_on_imagenet(data_dir, tmp_path):
    images = data.load(config.DataTable(name="imagenet", resize=256), (227, 227), data_dir, tmp_path)["all"]
    victim = prepared(
        tmp_path, (227, 227), 1000, data_dir=data_dir, model="squeezenet1_0", weights="imagenet/squeezenet1_0.pth",
        mean=(123 / 255, 117 / 255, 104 / 255), std=(1 / 255,) * 3, channel_order="bgr",
    )  # fmt: skip
    top1 = (victims.logits(victims.load(victim), images.pixels, batch=50).argmax(axis=1) == images.labels).mean()
    assert top1 == pytest.approx(0.625, abs=0.01)

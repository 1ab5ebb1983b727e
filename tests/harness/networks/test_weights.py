"""Weights that do not load, and the message for each."""

import json

import pytest
import torch
from helpers.victims import prepared

from backends.device.errors import UserError
from harness.networks import architectures as networks
from harness.networks import victims

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

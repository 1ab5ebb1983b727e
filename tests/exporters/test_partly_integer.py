"""Exports that compute operators in float: refused with the line that allows them, and then a class of their own."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import small_networks as small
from helpers.small_networks import PIXELS, SPEC, write
from torch import nn

from backends.device.artifact import Artifact
from backends.device.errors import UserError
from exporters.brought import bring
from exporters.files import describe

ALLOWED = replace(SPEC, allow_float=("Elu", "Gelu"))


def network() -> nn.Module:
    return small.Around(nn.GELU()).eval()


def test_an_export_in_float_says_the_line_that_allows_it(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r'1 Gelu .*allow_float = \["Gelu"\] in its \[\[export\]\]'):
        write(tmp_path, network(), "onnx")
    with pytest.raises(UserError, match="1 operator computes in float: 1 Gelu"):
        write(tmp_path, network(), "onnx", replace(SPEC, allow_float=("Elu",)))
    assert not list(tmp_path.iterdir())


def test_a_partly_integer_file_keeps_its_meaning_and_says_what_it_is(tmp_path: Path) -> None:
    logits = small.torch_logits(network(), PIXELS)
    file = write(tmp_path, network(), "onnx", ALLOWED)
    assert describe(file).but_for == "1 Gelu"
    artifact = Artifact.read(file.with_suffix(".json"))
    assert artifact.precision == "w8a8+fp32"
    assert artifact.quant == ALLOWED
    assert np.abs(small.file_logits(file, PIXELS) - logits).max() < 0.04 * np.ptp(logits)


def test_what_needs_no_allowance_stays_an_integer_file(tmp_path: Path) -> None:
    file = write(tmp_path, small.Around(torch.relu).eval(), "onnx", ALLOWED)
    assert Artifact.read(file.with_suffix(".json")).precision == "w8a8"


def test_a_users_file_needs_the_allowance_too(tmp_path: Path) -> None:
    file = write(tmp_path, network(), "onnx", ALLOWED)
    artifact = replace(Artifact.read(file.with_suffix(".json")), precision="w8a8", file="own.onnx")
    into = tmp_path / "into"
    into.mkdir()
    with pytest.raises(UserError, match=r'allow_float = \["Gelu"\]'):
        bring(file, artifact, into)
    bring(file, artifact, into, ["Gelu"])
    assert Artifact.read(into / "net.json").precision == "w8a8+fp32"

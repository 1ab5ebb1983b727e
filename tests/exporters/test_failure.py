"""Why an exporter failed, in one line."""

from types import SimpleNamespace

import pytest
import torch
from helpers import small_networks as small
from helpers.small_networks import write

from backends.device.errors import UserError
from exporters.failure import reason
from harness.torchvision_import import import_torchvision


def test_the_innermost_cause_is_named():
    outer = RuntimeError("failed to export; here is the whole graph")
    outer.__cause__ = ValueError("\n  axis 3 of 2\nmore")
    assert reason(outer) == "ValueError: axis 3 of 2"


def test_the_operator_is_named_where_the_message_says_nothing():
    def infer(node):
        raise KeyError("")

    with pytest.raises(KeyError) as error:
        infer(SimpleNamespace(op_type="Loop"))
    assert reason(error.value) == "operator Loop is not supported: KeyError: ''"


@pytest.mark.slow
def test_convnext_has_a_reason(tmp_path):
    torch.manual_seed(0)
    network = import_torchvision().models.convnext_tiny(num_classes=10).eval()
    with pytest.raises(UserError, match="cannot export this network to ONNX: operator Loop is not supported"):
        write(tmp_path, network, "onnx", victim=small.victim(size=64), calibration_pixels=small.pixels(16, 64))

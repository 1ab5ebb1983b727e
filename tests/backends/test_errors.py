"""The hint that goes with a misspelt name."""

import pytest

from backends.device.errors import LISTED, did_you_mean


@pytest.mark.parametrize(
    ("name", "known", "hint"),
    [
        ("onnxrutime", ["litert", "onnxruntime"], "did you mean 'onnxruntime'?"),
        ("moon", ["docker", "local"], "there are docker, local"),
        ("moon", [], "there are none"),
        ("moon", [f"cpu{i}" for i in range(LISTED + 1)], ", cpu29, ..."),
    ],
)
def test_the_nearest_name_is_suggested_else_all_are_listed(name, known, hint):
    assert did_you_mean(name, known).endswith(hint)

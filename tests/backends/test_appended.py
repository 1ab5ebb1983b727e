"""Archives behind a compiled file."""

import random
from pathlib import Path

import pytest

from backends.device import appended
from backends.device.reading import MEBIBYTE, DamagedFile

LARGE = random.Random(0).randbytes(3 * MEBIBYTE + 1)  # hardly to be compressed, like the weights of a ResNet-56


@pytest.mark.parametrize("content", [b"", b"network", LARGE])
def test_what_lies_behind_a_file_is_read_back_and_the_file_begins_as_before(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "net.rknn"
    path.write_bytes(b"compiled" * 1000)
    appended.append(path, {"network.onnx": content, "build.json": b"{}"})
    assert path.read_bytes().startswith(b"compiled" * 1000)
    most = {"network.onnx": len(content), "build.json": 2}
    assert appended.read(path, most, "a simulator") == {"network.onnx": content, "build.json": b"{}"}


def test_more_than_a_member_may_have_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "net.rknn"
    path.write_bytes(b"compiled")
    appended.append(path, {"network.onnx": b"network"})
    with pytest.raises(DamagedFile, match=r"net\.rknn: has no network for a simulator behind it.*network\.onnx of 7"):
        appended.read(path, {"network.onnx": 6}, "a simulator")

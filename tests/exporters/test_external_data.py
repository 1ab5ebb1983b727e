"""ONNX files that keep their weights in a file beside them, as torch's exporter writes them."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from helpers.onnx_networks import Network

from backends.device.artifact import Artifact, sha256_file
from backends.device.errors import UserError
from backends.device.runtimes import engine
from exporters.brought import bring
from exporters.files import describe
from harness.config import read_suite
from harness.plan.plan import make
from harness.run.arithmetic import compare_with_runtime

SIZE, CHANNELS = 10, 200  # weights of more than a kibibyte, which onnxruntime too keeps apart
PIXELS = np.random.default_rng(5).integers(0, 256, (4, SIZE, SIZE, 3), np.uint8)
SUITE = f"""
schema = 1
name = "apart"
[data]
name = "digits"
calibration = 1
craft = 4
evaluate = 4
[[artifact]]
name = "net"
file = "apart.onnx"
input_size = [{SIZE}, {SIZE}]
[[attack]]
name = "noise"
pixels = 3
[[target]]
name = "ort"
runtime = "onnxruntime"
"""


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    """A network in one file, and the same with its weights apart."""
    net = Network("int8", "int8", 3, SIZE)
    whole = net.write(tmp_path, net.conv(channels=CHANNELS))
    apart = tmp_path / "apart.onnx"
    onnx.save(onnx.load(whole), apart, save_as_external_data=True, location="apart.onnx.data", size_threshold=0)
    return whole, apart


def test_it_is_read_and_twinned_as_one_file_is(files: tuple[Path, Path]) -> None:
    whole, apart = files
    assert describe(apart).counts == describe(whole).counts
    assert compare_with_runtime(apart, None, None, PIXELS)[1].equal == 1


def test_it_is_brought_as_one_file(files: tuple[Path, Path], tmp_path: Path) -> None:
    whole, apart = files
    artifact = Artifact("net", "net", "onnx", "w8a8", "net.onnx", sha256_file(apart), (SIZE, SIZE), 10)
    folder = tmp_path / "artifact"
    folder.mkdir()
    bring(apart, artifact, folder)
    assert Artifact.read(folder / "net.json").sha256 == sha256_file(folder / "net.onnx")
    answers = []
    for file in (whole, folder / "net.onnx"):
        runtime = engine("onnxruntime")()
        runtime.load(file, {}, 1)
        answers.append(runtime.run(np.full((1, 3, SIZE, SIZE), 0.5, np.float32)))
    assert np.array_equal(*answers)


def test_other_weights_beside_it_are_another_artifact(files: tuple[Path, Path], tmp_path: Path) -> None:
    suite = tmp_path / "apart.toml"
    suite.write_text(SUITE)

    def key() -> str:
        return make(read_suite(suite), tmp_path, tmp_path / "store").artifacts[0].key

    before = key()
    assert key() == before
    data = tmp_path / "apart.onnx.data"
    data.write_bytes(data.read_bytes()[::-1])
    assert key() != before


def test_without_its_weights_it_is_refused_by_their_name(files: tuple[Path, Path], tmp_path: Path) -> None:
    (tmp_path / "apart.onnx.data").unlink()
    with pytest.raises(UserError, match=r"apart\.onnx: its weights are in apart\.onnx\.data, which is not beside it"):
        describe(files[1])

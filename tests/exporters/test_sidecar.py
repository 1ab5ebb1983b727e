"""The description beside a file: ours is read, a stranger's is not, a stale one is refused."""

import json

import pytest

from backends.device.artifact import Artifact, Preproc, sha256_file
from backends.device.reading import DamagedFile
from exporters.sidecar import description_beside


@pytest.fixture
def file(tmp_path):
    file = tmp_path / "net.tflite"
    file.write_bytes(b"a model")
    return file


def described(file):
    made = Artifact("net", "net", "tflite", "w8a8", file.name, sha256_file(file), (32, 32), 10, Preproc(divisor=1.0))
    made.save(file.with_suffix(".json"))
    return made


def test_ours_is_read(file):
    assert description_beside(file) is None
    assert described(file) == description_beside(file)


@pytest.mark.parametrize("content", [["cat", "dog"], {"labels": ["cat"]}, 3])
def test_a_strangers_json_is_none(file, content):
    file.with_suffix(".json").write_text(json.dumps(content))
    assert description_beside(file) is None


def test_that_of_the_other_format_is_none(file):
    described(file)
    other = file.with_suffix(".onnx")
    other.write_bytes(b"another model")
    assert description_beside(other) is None
    assert description_beside(file) is not None


def test_one_of_another_file_or_damaged_is_refused(file):
    described(file)
    file.write_bytes(b"another model")
    with pytest.raises(DamagedFile, match=r"describes another file than net\.tflite beside it"):
        description_beside(file)
    file.with_suffix(".json").write_text('{"schema": 1, "preproc"')
    with pytest.raises(DamagedFile, match="not JSON"):
        description_beside(file)

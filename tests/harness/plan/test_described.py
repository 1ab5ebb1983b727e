"""An own export that is used again needs no keys; keys that contradict its description are refused."""

from pathlib import Path

import pytest

from backends.device.artifact import Artifact, Preproc, sha256_file
from backends.device.errors import UserError
from harness.config import ArtifactTable
from harness.plan.described import described

PREPROC = Preproc("nhwc", 1.0, (0.5, 0.25, 0.0), (2.0, 2.0, 2.0), "bgr")


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    file = tmp_path / "net.tflite"
    file.write_bytes(b"a model")
    made = Artifact(
        "net", "net", "tflite", "w4a8", file.name, sha256_file(file), (24, 32), 7, PREPROC, 1, "softmax"
    )  # fmt: skip
    made.save(tmp_path / "net.json")
    return tmp_path


def table(**keys: object) -> ArtifactTable:
    return ArtifactTable.model_validate({"name": "mine", "file": "net.tflite", **keys})


def test_what_the_suite_leaves_out_is_read_from_beside_the_file(data_dir: Path) -> None:
    found = described(table(divisor=1), data_dir)
    assert Preproc(found.layout, found.divisor, found.mean, found.std, found.channel_order) == PREPROC
    assert (found.precision, found.input_size, found.classes) == ("w4a8", (24, 32), 7)
    assert (found.class_offset, found.output_kind, found.name) == (1, "softmax", "mine")


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"divisor": 255}, "divisor = 255.0, but .*net.json beside its file says 1.0: leave divisor out"),
        ({"mean": [0, 0, 0]}, r"mean = \(0.0, 0.0, 0.0\), but .* says \(0.5, 0.25, 0.0\)"),
        ({"classes": 10}, "classes = 10, but .* says 7"),
        ({"output_kind": "logits"}, "output_kind = 'logits', but .* says 'softmax'"),
    ],
)
def test_a_key_that_contradicts_it_is_refused(data_dir: Path, keys: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=f"artifact 'mine': {message}"):
        described(table(**keys), data_dir)


def test_without_a_description_the_table_is_as_it_was(data_dir: Path) -> None:
    (data_dir / "net.json").unlink()
    assert described(table(), data_dir) == table()
    assert described(table(), None) == table()

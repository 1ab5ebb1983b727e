"""How true a target is."""

import pytest
from helpers import ROOT

from backends.fidelity import FIDELITIES, fidelity


@pytest.mark.parametrize(
    ("runtime", "host", "emulated", "expected"),
    [
        ("litert", "local", False, "device"),
        ("litert", "ssh", False, "device"),
        ("onnxruntime", "docker", False, "device"),
        ("onnxruntime", "docker", True, "emulated CPU"),
        ("litert", "qemu", True, "emulated CPU"),
        ("tflite_micro", "local", False, "reference kernels"),
        ("tflite_micro", "qemu", True, "reference kernels"),
        ("tflite_micro", "packed", False, "device"),  # a microcontroller that answered in files
        ("reference", "local", False, "specification"),
        ("qnn", "local", False, "vendor emulator"),
        ("tosa", "local", False, "specification"),
        ("tpu_mlir", "local", False, "vendor model"),
        ("rknn", "local", False, "vendor simulation"),
        ("nncase", "local", False, "vendor emulator"),
        ("esp_ppq", "local", False, "vendor simulation"),
        ("rknn_lite", "ssh", False, "device"),
        ("sail", "ssh", False, "device"),
        ("a third party's", "local", False, "device"),
    ],
)
def test_a_runtime_on_a_host_has_one(runtime: str, host: str, emulated: bool, expected: str) -> None:
    assert fidelity(runtime, host, "x86_64", emulated) == expected


def test_a_snapdragon_is_a_device_and_another_cpu_over_ssh_has_the_emulator() -> None:
    assert fidelity("qnn", "ssh", "aarch64") == "device"
    assert fidelity("qnn", "ssh", "x86_64") == "vendor emulator"


def test_each_is_explained_where_readers_look() -> None:
    page = (ROOT / "docs/pages/concepts/fidelity.md").read_text()
    assert [word for word in FIDELITIES if f"| {word} |" not in page] == []

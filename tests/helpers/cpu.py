"""What this CPU does to sums: tests that hold integers to exact ones have to know."""

import pytest

from backends.device.machine import describe

MACHINE = describe()
# OpenVINO, and onnxruntime's U8S8, add products of eight bits in sixteen where an x86 has no VNNI
SATURATES = "avx2" in MACHINE.features and not any("vnni" in name for name in MACHINE.features)
exact_sums = pytest.mark.skipif(SATURATES, reason="this x86 has no VNNI, so OpenVINO's sums saturate")

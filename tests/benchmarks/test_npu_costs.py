"""What a simulator costs is counted for the process that was asked for."""

import subprocess
import sys

import pytest
from helpers import ROOT

SPENDS = """
import sys, time
held = bytearray(b"x") * 300_000_000
while time.process_time() < 1:
    pass
sys.exit({code})
"""


@pytest.fixture
def npu_costs(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import npu_costs

    return npu_costs


def test_what_a_function_starts_is_counted_alone_where_it_says_so(npu_costs):
    with_itself, alone = (
        npu_costs.apart(subprocess.call, [sys.executable, "-c", SPENDS.format(code=code)]) for code in (0, 1)
    )
    assert 1 <= alone.seconds < with_itself.seconds  # which imports torch
    assert 286 <= alone.memory < 350


def test_a_row_has_what_was_found_of_its_runtime_and_its_format(npu_costs):
    found = {
        "tosa": {"passed": 19, "checks": 20, "download": 79.5, "disk": 378.4},
        ".tflite": {"export_seconds": 9.04, "export_memory": 900, "image_milliseconds": 14.6, "replay_memory": 60},
    }
    *_, row = npu_costs.table(found).splitlines()
    assert row == "| `tosa` | `.tflite` | 19 of 20 | 80 | 378 | 9.0 | 900 | 15 | 60 |"

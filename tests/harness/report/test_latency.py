"""Latencies: which are told apart, and the cause of a slow one, where it is known."""

from __future__ import annotations

import pandas as pd
import pytest

from harness.report.latency import NO_S8S8, NOT_OPTIMISED, REFERENCE, latencies
from harness.results.run_directory import RunFacts

CELLS = pd.DataFrame(
    [{"artifact": f"net-{name}", "artifact_label": name, "victim": "net"} for name in ("u8s8", "s8s8", "tflite")]
)


def run(p50_ms: dict[tuple[str, str], float], features: tuple[str, ...] = ("avx2",), cpu: str = "Xeon") -> RunFacts:
    kernels = {"onnxruntime": "cpu-all", "plain": "cpu-disabled", "litert": "xnnpack", "litert-reference": "reference"}
    targets = [
        {"name": name, "runtime": "litert" if "litert" in name else "onnxruntime", "info": {"kernels": info},
         "machine": {"arch": "x86_64", "cpu": cpu if name == "onnxruntime" else "Xeon"}, "features": features}
        for name, info in kernels.items()
    ]  # fmt: skip
    artifacts = [{"name": f"net-{name}", "precision": "w8a8", "signature": name} for name in ("u8s8", "s8s8", "tflite")]
    common = {"p90_ms": 9, "p99_ms": 9, "n": 50, "threads": 1, "throughput": 1, "cold_start_ms": 1, "peak_rss_mb": 1}
    latency = [
        common | {"artifact": f"net-{name}", "target": target, "p50_ms": ms} for (name, target), ms in p50_ms.items()
    ]
    return RunFacts.model_validate({"schema": 2, "targets": targets, "artifacts": artifacts, "latency": latency})


def causes(given: RunFacts) -> dict[str, str]:
    return {f"{one.label} on {one.entry.target}": one.why for one in latencies(given, CELLS) if one.why}


@pytest.mark.parametrize(
    ("place", "features", "why"),
    [
        (("s8s8", "onnxruntime"), ("avx2", "avx512_vnni"), NO_S8S8),
        (("s8s8", "onnxruntime"), ("avx2", "avx_vnni_int8"), ""),  # it has the kernels, so the cause is another
        (("s8s8", "onnxruntime"), (), ""),  # nobody knows what the CPU has
        (("u8s8", "plain"), ("avx2",), NOT_OPTIMISED),
        (("tflite", "litert-reference"), ("avx2",), REFERENCE),
        (("tflite", "litert"), ("avx2",), ""),
    ],
)
def test_the_cause_of_a_slow_file_is_told_where_it_is_known(
    place: tuple[str, str], features: tuple[str, ...], why: str
) -> None:
    given = run({("u8s8", "onnxruntime"): 0.25, place: 2.5}, features)
    assert causes(given) == ({" on ".join(place): why} if why else {})


def test_what_is_nearly_as_fast_or_on_another_cpu_needs_no_cause() -> None:
    slow = ("s8s8", "onnxruntime")
    assert causes(run({("u8s8", "onnxruntime"): 0.25, slow: 0.7})) == {}
    assert causes(run({("tflite", "litert"): 0.25, slow: 2.5}, cpu="another")) == {}
    (_, one) = latencies(run({("tflite", "litert"): 0.25, slow: 2.5}), CELLS)
    assert one.times == 10


def test_a_cpu_that_slowed_itself_down_is_told() -> None:
    given = run({("tflite", "litert"): 0.25})
    (quiet,) = latencies(given, CELLS)
    assert (quiet.doubts, quiet.cpu) == ([], "")
    ran = {"governors": ("ondemand",), "mhz_before": 1800.2, "mhz_after": 1000, "most_mhz": 1800, "celsius": 82.4}
    hot = given.latency[0].model_copy(update=ran | {"throttled": True})
    (one,) = latencies(given.model_copy(update={"latency": (hot,)}), CELLS)
    assert one.doubts == ["throttled: the CPU slowed itself down meanwhile"]
    assert one.cpu == "1800 to 1000 of 1800 MHz, ondemand, 82 °C"

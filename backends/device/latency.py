"""Latency: a closed loop, one image at a time."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from backends.device.cpu_speed import cpu_speed
from backends.device.machine import memory_bytes
from backends.device.protocol import LatencyLimits

T = TypeVar("T")
BEAT_SECONDS = 1.0


def measure(
    run: Callable[[T], object],
    images: Sequence[T],
    limits: LatencyLimits,
    beat: Callable[[int], None],
) -> tuple[dict[str, Any], NDArray[np.int64]]:
    """Time `run` on the images in turn, within `limits`; return the figures and each run's nanoseconds.

    Only `run` is timed: from the file's own input to its own output, including any defence but neither preprocessing
    nor quantization; of a defence that runs the network many times, from an image to its answer. `beat` is called
    between runs, about once a second.
    """
    for i in range(limits["warmup"]):
        run(images[i % len(images)])
    cpu_before = cpu_speed()
    taken: list[int] = []
    started = beaten = time.perf_counter()
    while len(taken) < limits["runs"] or time.perf_counter() - started < limits["seconds"]:
        image = images[len(taken) % len(images)]
        before = time.perf_counter_ns()
        run(image)
        taken.append(time.perf_counter_ns() - before)
        if time.perf_counter() - beaten > BEAT_SECONDS:
            beat(len(taken))
            beaten = time.perf_counter()
    cpu_after = cpu_speed()
    nanoseconds = np.array(taken, np.int64)
    p50, p90, p99 = (float(p) / 1e6 for p in np.percentile(nanoseconds, (50, 90, 99)))
    facts: dict[str, Any] = {
        "p50_ms": p50,
        "p90_ms": p90,
        "p99_ms": p99,
        "n": len(taken),
        "throughput_per_second": len(taken) / (float(nanoseconds.sum()) / 1e9),
        "clock_resolution_ns": clock_resolution_ns(),
        "peak_rss_bytes": memory_bytes("VmHWM") or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "before": cpu_before._asdict(),
        "after": cpu_after._asdict(),
    }
    return facts, nanoseconds


def clock_resolution_ns() -> int:
    """Return the smallest step observed on the clock, in nanoseconds."""
    readings = np.array([time.perf_counter_ns() for _ in range(10_000)])
    steps = np.diff(readings)
    return int(steps[steps > 0].min())

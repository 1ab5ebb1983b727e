"""The page's section on latency: which numbers compare, and why one is several times another."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import pandas as pd

from harness.results.entries import ArtifactEntry, TargetEntry
from harness.results.measured import LatencyEntry
from harness.results.run_directory import RunFacts

COARSE_CLOCK = 0.01  # share of a latency above which a tick of the clock is too coarse for it
SLOW = 3.0  # times another file's latency on the same CPU, from which on its cause is told
# onnxruntime's kernels are chosen in MlasGemmQuantGetDispatch and platform.cpp
NO_S8S8 = (
    "onnxruntime has vectorised S8S8 kernels for x86 only where the CPU has AVX-VNNI-INT8, which this one lacks; "
    "it runs plain C++ (its pull requests 9995 and 21984)"
)
NOT_OPTIMISED = "onnxruntime runs the graph as the file has it, every operator in float between its quantizers"
REFERENCE = "reference kernels are written to be checked, not to be fast"


class Latency(NamedTuple):
    """A latency, its artifact's label, and what its defence adds; ``doubts`` say why it does not compare.

    ``cpu`` tells how the CPU ran. It is so many ``times`` the fastest of its victim on its CPU; ``why`` tells the cause
    from `SLOW` on, where known.
    """

    entry: LatencyEntry
    label: str
    victim: str
    added_ms: float | None
    doubts: list[str]
    cpu: str
    times: float = 1.0
    why: str = ""


def latencies(run: RunFacts, cells: pd.DataFrame) -> list[Latency]:
    """Return the latencies by victim, emulated ones last: they are not comparable."""
    labels = dict(zip(cells["artifact"], cells["artifact_label"], strict=True))
    victims = dict(zip(cells["artifact"], cells["victim"], strict=True))
    undefended = {(row.artifact, row.target, row.threads): row.p50_ms for row in run.latency if not row.defence}
    fidelities = {target.name: target.fidelity for target in run.targets}
    out = []
    for row in run.latency:
        p50_ms = undefended.get((row.artifact, row.target, row.threads))
        added_ms = row.p50_ms - p50_ms if row.defence and p50_ms is not None else None
        doubts = ["emulated: not comparable"] if row.emulated else []
        if fidelities.get(row.target, "device") not in ("device", "emulated CPU"):
            doubts.append(f"{fidelities[row.target]}: says nothing of the time on a device")
        if row.clock_ns > row.p50_ms * 1e6 * COARSE_CLOCK:
            doubts.append(f"clock ticks every {row.clock_ns} ns: too coarse")
        if row.throttled:
            doubts.append("throttled: the CPU slowed itself down meanwhile")
        label = labels.get(row.artifact, row.artifact)
        out.append(Latency(row, label, victims.get(row.artifact, ""), added_ms, doubts, _cpu(row)))
    out = list(_explained(run, out))
    return sorted(out, key=lambda row: (row.victim, row.entry.emulated))


def _cpu(row: LatencyEntry) -> str:
    """Describe how the CPU ran, of a fleet's board first which: ``1500 to 1450 of 1800 MHz, ondemand, 48 °C``.

    It is empty where the kernel tells nothing.
    """
    words = [", ".join(row.governors)]
    if row.mhz_before and row.mhz_after:
        most = f" of {row.most_mhz:.0f}" if row.most_mhz else ""
        words.insert(0, f"{row.mhz_before:.0f} to {row.mhz_after:.0f}{most} MHz")
    if row.celsius is not None:
        words.append(f"{row.celsius:.0f} °C")
    return ", ".join(filter(None, [row.board, *words]))


def _explained(run: RunFacts, found: Sequence[Latency]) -> Iterator[Latency]:
    """Yield latencies with how each compares with the fastest of its victim on its CPU, and why."""
    targets = {target.name: target for target in run.targets}
    artifacts = {artifact.name: artifact for artifact in run.artifacts}
    fastest: dict[tuple[str, int, str, str], float] = {}
    for one in found:
        if target := targets.get(one.entry.target):
            p50_ms = fastest.get(_comparable(one, target), one.entry.p50_ms)
            fastest[_comparable(one, target)] = min(p50_ms, one.entry.p50_ms)
    for one in found:
        target, artifact = targets.get(one.entry.target), artifacts.get(one.entry.artifact)
        if target and artifact:
            times = one.entry.p50_ms / fastest[_comparable(one, target)]
            one = one._replace(times=times, why=_cause(target, artifact) if times >= SLOW else "")
        yield one


def _comparable(one: Latency, target: TargetEntry) -> tuple[str, int, str, str]:
    """Return what latencies share that compare."""
    return one.victim, one.entry.threads, one.entry.defence, target.machine.cpu


def _cause(target: TargetEntry, artifact: ArtifactEntry) -> str:
    kernels = target.info.get("kernels")
    if kernels == "reference":
        return REFERENCE
    if target.runtime != "onnxruntime" or artifact.precision == "fp32":
        return ""
    if kernels == "cpu-disabled":
        return NOT_OPTIMISED
    is_known_x86 = target.machine.arch == "x86_64" and target.features
    if artifact.signature == "s8s8" and is_known_x86 and "avx_vnni_int8" not in target.features:
        return NO_S8S8
    return ""

"""Fidelity: how true a target is to the device that it stands for, from one table of runtimes and hosts."""

from __future__ import annotations

from typing import Literal, NamedTuple, get_args

Fidelity = Literal[
    "device",
    "emulated CPU",
    "specification",
    "reference kernels",
    "vendor model",
    "vendor emulator",
    "vendor simulation",
]
FIDELITIES: tuple[Fidelity, ...] = get_args(Fidelity)  # from the truest on: results are told in this order


class _Row(NamedTuple):
    """What a runtime on a host is, on a CPU of this architecture; an empty word stands for any."""

    fidelity: Fidelity
    runtime: str = ""
    host: str = ""
    arch: str = ""


# The first row that fits counts. A runtime that no row names computes on the CPU that it is about.
TABLE = (
    _Row("device", host="packed"),  # whatever answered, it was handed files and handed answers back
    _Row("device", "qnn", arch="aarch64"),
    _Row("vendor emulator", "qnn"),
    _Row("vendor emulator", "nncase"),
    _Row("specification", "reference"),
    _Row("specification", "tosa"),
    _Row("vendor model", "tpu_mlir"),
    _Row("vendor simulation", "rknn"),
    _Row("vendor simulation", "esp_ppq"),
    _Row("reference kernels", "tflite_micro"),
    _Row("emulated CPU", host="qemu"),
)


def fidelity(runtime: str, host: str, arch: str = "", emulated: bool = False) -> Fidelity:
    """Return how true a runtime on a host is, where its CPU has this architecture and is emulated or not."""
    for row in TABLE:
        asked = (row.runtime, runtime), (row.host, host), (row.arch, arch)
        if all(wanted in ("", found) for wanted, found in asked):
            return row.fidelity
    return "emulated CPU" if emulated else "device"

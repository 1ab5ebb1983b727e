"""What a machine says of itself, seen from inside: results of different machines are never averaged."""

from __future__ import annotations

import importlib
import os
import platform
from pathlib import Path
from typing import NamedTuple

import numpy as np


class Machine(NamedTuple):
    """Architecture, CPU and software of this process's machine.

    `features` are the kernel's words for the CPU's; `detected` is what numpy found by asking the CPU itself: under an
    emulated x86 that is the emulated one, while the kernel still tells of the real one. `image` is the digest of the
    container's image, which only who started it knows: from ``PATCHBENCH_IMAGE``, else empty.
    """

    arch: str
    cpu: str
    features: tuple[str, ...]
    detected: tuple[str, ...]
    cores: int
    memory_bytes: int
    kernel: str
    python: str
    numpy: str
    image: str


def describe() -> Machine:
    """Describes this machine in a few milliseconds; what the kernel does not tell is empty."""
    cpu, features = read_cpuinfo(Path("/proc/cpuinfo"))
    return Machine(
        arch=platform.machine(),
        cpu=cpu or platform.processor(),
        features=features,
        detected=detected_features(),
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        memory_bytes=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        kernel=f"{platform.system()} {platform.release()}",
        python=platform.python_version(),
        numpy=np.__version__,
        image=os.environ.get("PATCHBENCH_IMAGE", ""),
    )


def detected_features() -> tuple[str, ...]:
    """The CPU features that numpy detected in this process, in its words (``AVX2``, ``ASIMDDP``), sorted."""
    try:
        core = importlib.import_module("numpy._core._multiarray_umath")
    except ImportError:  # numpy 1
        core = importlib.import_module("numpy.core._multiarray_umath")
    found: dict[str, bool] = getattr(core, "__cpu_features__", {})
    return tuple(sorted(name for name, there in found.items() if there))


def read_cpuinfo(path: Path) -> tuple[str, tuple[str, ...]]:
    """CPU model and sorted features from a ``/proc/cpuinfo``, of x86 or ARM; empty where there is none.

    ARM kernels give no model's name: there it is implementer, part and variant, as ``0x41/0xd08 r0p3``.
    """
    try:
        lines = path.read_text(errors="replace").splitlines()
    except OSError:
        return "", ()
    facts: dict[str, str] = {}
    for line in lines:
        key, _, value = line.partition(":")
        facts.setdefault(key.strip().lower(), value.strip())
    model = facts.get("model name") or facts.get("hardware") or ""
    if "cpu implementer" in facts:
        version = f"r{int(facts.get('cpu variant', '0'), 16)}p{facts.get('cpu revision', '0')}"
        model = f"{facts['cpu implementer']}/{facts.get('cpu part', '?')} {version}"
    return model, tuple(sorted(set((facts.get("flags") or facts.get("features") or "").split())))

"""Describe the machine this process runs on; results of different machines are never averaged."""

from __future__ import annotations

import importlib
import os
import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NamedTuple


class Machine(NamedTuple):
    """Architecture, CPU and software of this process's machine.

    `features` are the CPU's as the kernel lists them; `detected` are those that numpy found by asking the CPU: on an
    emulated x86 those of the emulated CPU, while the kernel still lists the real one's. `image` is the digest of the
    container's image, passed in as ``PATCHBENCH_IMAGE``, else empty.
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
    """Describe this machine, in a few milliseconds; a fact the kernel does not report is empty."""
    cpu, features = read_cpuinfo(Path("/proc/cpuinfo"))
    return Machine(
        arch=platform.machine(),
        cpu=cpu or platform.processor(),
        features=features,
        detected=detected_features(),
        cores=usable_cores(),
        memory_bytes=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        kernel=f"{platform.system()} {platform.release()}",
        python=platform.python_version(),
        numpy=getattr(sys.modules.get("numpy"), "__version__", ""),  # the one that detected the features
        image=os.environ.get("PATCHBENCH_IMAGE", ""),
    )


def usable_cores() -> int:
    """Count the cores that this process may use; where the system does not tell, those that the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def installed(package: str) -> str | None:
    """Return the version of a package, by its pip name, without importing it; None where it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def loaded_packages() -> list[str]:
    """List the top-level third-party packages that this process has imported."""
    found = {name.partition(".")[0] for name, module in sys.modules.items() if module}
    return sorted(name for name in found if not name.startswith("_") and not _is_standard(name))


def _is_standard(name: str) -> bool:
    """Return whether a top-level module belongs to Python itself: built in, or in its library's folder."""
    spec = getattr(sys.modules.get(name), "__spec__", None)
    origin = (spec and spec.origin) or ""
    if origin in ("built-in", "frozen"):
        return True
    parts = Path(origin).parts
    library = Path(os.__file__).parent.parts
    return parts[: len(library)] == library and not {"site-packages", "dist-packages"} & set(parts)


def memory_bytes(field: str) -> int | None:
    """Return a field of ``/proc/self/status``, None where it is missing: ``VmHWM`` is the peak, ``RssAnon`` private.

    Unlike ``ru_maxrss`` it does not count the program that started this one, up to its exec.
    """
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(field + ":")), None)


def detected_features() -> tuple[str, ...]:
    """Return the CPU features that numpy detected, sorted, by its names (``AVX2``, ``ASIMDDP``)."""
    found: dict[str, bool] = {}
    for name in ("numpy._core._multiarray_umath", "numpy.core._multiarray_umath"):  # the latter is numpy 1's
        try:
            found = getattr(importlib.import_module(name), "__cpu_features__", {})
            break
        except ImportError:
            continue
    return tuple(sorted(name for name, is_present in found.items() if is_present))


def read_cpuinfo(path: Path) -> tuple[str, tuple[str, ...]]:
    """Return CPU model and sorted features from a ``/proc/cpuinfo`` of x86 or ARM; empty where there is none.

    ARM kernels give no model name: there it is implementer, part and variant, as in ``0x41/0xd08 r0p3``.
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

"""Self-checks of integers: those that targets answered, and those of the twins that patches were made on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from backends.device.errors import UserError
from backends.device.runtimes import engine
from harness.results.entries import ArtifactEntry, Check, TargetEntry
from harness.results.measured import TwinEntry
from harness.results.run_directory import RunFacts
from harness.results.verdicts import Fault, place, unknown, verdict

LIKE_FLOAT = 0.8  # of clean predictions; 8 bits change a few in a hundred
MAX_STEPS = 12  # twice what kernels of different CPUs and runtimes differ by; saturated sums reach 50
SATURATION = "This x86 has AVX2 but no VNNI, so 16-bit sums of {} saturate there on {}: {}"


def arithmetic(run: RunFacts) -> Check:
    """Ask whether targets compute as the twins of their files do."""
    name = "arithmetic"
    asks = f"are the integers of each INT8 file within {MAX_STEPS} steps of exact arithmetic?"
    held = [one for one in run.arithmetic if not one.unknown]
    if not held:
        reasons = dict.fromkeys(one.unknown for one in run.arithmetic)
        return unknown(name, asks, "; ".join(reasons)) if reasons else unknown(name, asks)
    targets = {target.name: target for target in run.targets}
    bad: list[Fault] = []
    causes: dict[str, None] = {}
    for one in held:
        if one.largest > MAX_STEPS:
            text = (
                f"{one.artifact} on {one.target}: up to {one.largest} steps, {1 - one.equal:.0%} of the integers differ"
            )
            bad.append((text, place(one.artifact, one.target)))
            target = targets.get(one.target)
            if target and (mend := saturates(one.signature, target)):
                causes[SATURATION.format(one.signature.upper(), target.runtime, mend)] = None
    good = f"at most {max(one.largest for one in held)} steps over {len(held)} pairs of artifact and target"
    if len(held) < len(run.arithmetic):
        good += f"; {len(run.arithmetic) - len(held)} more have no twin"
    return verdict(name, asks, good, bad, "".join(f". {cause}" for cause in causes))


def like_float(cells: pd.DataFrame) -> Check:
    """Ask whether 8-bit files answer clean images as their float network: a target that is silently wrong does not."""
    name = "clean as in float"
    asks = f"does each 8-bit file answer {LIKE_FLOAT:.0%} of the clean images as the float network, on every target?"
    is_integer = cells["precision"].str.startswith("w8a8") & (cells["format"] != "torch")
    clean = cells[is_integer & (cells["attack"] == "none") & (cells["defence"] == "") & (cells["n_float"] > 0)]
    if clean.empty:
        return unknown(name, asks, "no 8-bit file ran beside its float network")
    bad: list[Fault] = [
        (f"{row['artifact']} on {row['target']}: {row['equal_to_float']:.1%}", place(row["artifact"], row["target"]))
        for row in clean.to_dict("records")
        if row["equal_to_float_high"] < LIKE_FLOAT
    ]
    good = f"{clean['equal_to_float'].min():.1%} or more on {len(clean)} pairs of artifact and target"
    return verdict(name, asks, good, bad, "; does the same file do so on another target?")


def integers(artifacts: Sequence[ArtifactEntry]) -> Check:
    """Say which files compute in integers throughout, and which are integer but for operators that the suite allows."""
    name, asks = "integers", "do INT8 files compute in integers, but for what their suite allows in float?"
    files = [one for one in artifacts if one.format != "torch" and one.precision not in ("fp32", "")]
    if not files:
        return unknown(name, asks, "this run has none")
    partly = [f"{one.name} is integer but for {one.but_for}" for one in files if one.but_for]
    throughout = [f"{len(files) - len(partly)} files throughout"] if len(files) > len(partly) else []
    return verdict(name, asks, "; ".join(throughout + partly), [])


def saturates(signature: str, target: TargetEntry) -> str:
    """Return what to do about a target's 16-bit sums of products that saturate for a signature; empty if they do not.

    They do where the runtime says so, on an x86 with AVX2 and no VNNI. What the runtime says that it uses goes before
    what the CPU has. An emulated CPU is judged by what a process there detects: its kernel reports the real CPU.
    """
    if stated := str(target.info.get("instructions", "")).lower():  # VNNI is Intel's DL Boost
        return _mend(target.runtime, signature) if "avx" in stated and "dl boost" not in stated else ""
    features = target.machine.detected.split()
    if not target.emulated:
        features += target.features
    return saturates_on(target.machine.arch, features, target.runtime, signature)


def saturates_on(arch: str, features: Sequence[str], runtime: str, signature: str) -> str:
    """Return the same for a runtime on a CPU of these features."""
    words = [feature.lower() for feature in features]
    has_vnni = any("vnni" in word for word in words)
    is_x86 = arch in ("x86_64", "AMD64")
    return _mend(runtime, signature) if is_x86 and "avx2" in words and not has_vnni else ""


def _mend(runtime: str, signature: str) -> str:
    try:
        signatures: Mapping[str, str] = getattr(engine(runtime), "saturating", {})
    except UserError:  # a runtime from a package that is not here, where a finished run is read
        return ""
    return signatures.get(signature, "")


def twins(entries: Sequence[TwinEntry]) -> Check:
    """Ask whether the twins that patches were made on compute as their runtimes do."""
    name, asks = "twins", "do the twins that patches were made on compute the integers of their runtime?"
    if not entries:
        return unknown(name, asks, "no patch of this run was made on a twin")
    bad: list[Fault] = [
        (
            f"{one.artifact} ({one.kernels}): {1 - one.equal:.1%} differ, by up to {one.largest} steps"
            + (f", from operator {one.differs_from} on" if one.differs_from else ""),
            {"patch": patch},
        )
        for one in entries
        if one.equal < 1
        for patch in one.patches
    ]
    return verdict(name, asks, f"all {sum(one.integers for one in entries)} integers of {len(entries)} twins", bad)

"""The licences that a plan asks for: of what its exports and its targets install."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from backends import licences
from backends.device.toolchains import needed
from harness.plan.plan import Plan
from harness.plan.steps import TORCH


def unaccepted(plan: Plan, is_stored: Callable[[str, str], bool]) -> Iterator[str]:
    """Yield a line for each licence that a run is refused for; what is stored, by its stage and key, asks for none."""
    packages, asked = [], {}
    for artifact in plan.artifacts:
        toolchain = needed(artifact.format, artifact.quant.calibration) if artifact.quant else None
        if toolchain and not is_stored("artifact", artifact.key):
            packages.append(toolchain.package)
    for step in plan.replays:
        if step.target.name != TORCH and not is_stored("replay", step.key):
            asked[step.target.name] = step.target
    packages += [licences.installed_for(target) for target in asked.values()]
    for package in dict.fromkeys(packages):
        if reason := licences.unaccepted(package):
            yield reason

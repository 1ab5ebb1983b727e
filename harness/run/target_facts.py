"""What is said of a target that ran."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from backends.hosts import Target
from harness.results.entries import MachineEntry, TargetEntry


def target_entry(target: Target, info: Mapping[str, Any], reported: Mapping[str, Any]) -> TargetEntry:
    """Return a target with what it said was in force: ``info`` of its runtime, and its machine."""
    machine = {name: reported.get(name, "") for name in MachineEntry.model_fields}
    return TargetEntry(
        name=target.name,
        runtime=target.runtime,
        host=target.host,
        info=dict(info),
        machine=MachineEntry.model_validate(machine | {"detected": " ".join(reported.get("detected", ()))}),
        features=tuple(reported.get("features", ())),
        emulated=bool(reported.get("emulated", False)),
        options=dict(target.options),
        threads=target.threads,
        batch=target.batch,
    )

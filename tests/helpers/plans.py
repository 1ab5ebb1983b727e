"""The plan of a small suite."""

from pathlib import Path

from harness.config import read_suite
from harness.plan.plan import Plan, make
from helpers.suites import QUICK, write


def plan(folder: Path, text: str = QUICK, data_dir: Path | None = None, **kwargs: tuple[str, ...]) -> Plan:
    return make(read_suite(write(folder, text)), data_dir, folder / "cache", **kwargs)


def keys(of: Plan, kind: str) -> set[str]:
    return {step.key for step in getattr(of, kind)}

"""What a machine may lack: tests skip, or fail where PATCHBENCH_REQUIRE names it."""

import os

import pytest

REQUIRED = {name for name in os.environ.get("PATCHBENCH_REQUIRE", "").split(",") if name}


def absent(what: str, why: str) -> None:
    """Skips, saying why; where PATCHBENCH_REQUIRE names it, fails instead."""
    if what in REQUIRED:
        pytest.fail(f"{what} is required here: {why}")
    pytest.skip(f"{what}: {why}")

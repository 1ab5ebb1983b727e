"""What a machine may lack: tests skip, or fail where PATCHBENCH_REQUIRE names it."""

import os
from typing import NoReturn

import pytest

REQUIRED = {name for name in os.environ.get("PATCHBENCH_REQUIRE", "").split(",") if name}
LEFT_OUT = "left out, "


def absent(what: str, why: str) -> NoReturn:
    """Skip the test and say why; where PATCHBENCH_REQUIRE names `what`, fail it."""
    if what in REQUIRED:
        pytest.fail(f"{what} is required here: {why}")
    pytest.skip(f"{LEFT_OUT}{what}: {why}")

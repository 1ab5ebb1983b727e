"""Vendors' toolchains, in the environment that an export or a replay makes of them, their licences accepted."""

import json
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from backends import environments, licences
from backends.device.errors import UserError
from backends.device.toolchains import Toolchain
from helpers import small_networks as small
from helpers.elsewhere import Elsewhere
from helpers.required import absent


def accepting() -> Iterator[None]:
    """For an autouse fixture."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(licences.VARIABLE, " ".join(licences.LICENCES))
        yield


def require(toolchain: Toolchain) -> None:
    """Leave a test out where it is not installed: one takes gigabytes."""
    try:
        requirements = environments.pinned(toolchain.package)
    except UserError as error:
        absent(toolchain.package, str(error))
    if not environments.python(requirements).is_file():
        absent(toolchain.package, f"not installed: python -m backends.conformance {toolchain.module} installs it")


def logits(toolchain: Toolchain, file: Path, x: np.ndarray) -> np.ndarray:
    """What its runtime makes of pixels."""
    runtime = Elsewhere(toolchain.module)
    runtime.load(file, {}, 1)
    return runtime.run(small.as_input(x).numpy())


def rebuilt(file: Path, there: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    """Write what lies behind a file, and nothing else, with another ``build.json``."""
    with zipfile.ZipFile(file) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    build = json.loads(members["build.json"])
    change(build)
    with zipfile.ZipFile(there, "w") as archive:
        for name, content in (members | {"build.json": json.dumps(build).encode()}).items():
            archive.writestr(name, content)
    return there

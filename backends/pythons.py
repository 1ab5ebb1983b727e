"""Other Pythons of this machine, for packages that have wheels for one version alone."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from backends.device.errors import UserError

OF_PACKAGES = {"tpu-mlir": "3.10", "rknn-toolkit2": "3.11", "esp-ppq": "3.11"}
ASKS = "import ensurepip, sys, venv; print('{}.{}'.format(*sys.version_info))"  # as old Pythons say it
THIS = "{}.{}".format(*sys.version_info)


def find(version: str) -> Path:
    """Return an interpreter of a version such as ``3.10``: pyenv's, one in the PATH, or uv's.

    Where there is none that can make environments, a `UserError` says how to get one.
    """
    for candidate in _candidates(version):
        asked = subprocess.run([candidate, "-I", "-c", ASKS], capture_output=True, text=True)
        if asked.stdout.strip() == version:
            return candidate
    raise UserError(f"Python {version} is not installed: pyenv install {version}, or uv python install {version}")


def _candidates(version: str) -> Iterator[Path]:
    if version == THIS:
        yield Path(sys.executable)
    pyenv = Path(os.environ.get("PYENV_ROOT") or "~/.pyenv").expanduser() / "versions"
    yield from sorted(pyenv.glob(f"{version}.*/bin/python"), reverse=True)
    if found := shutil.which(f"python{version}"):
        yield Path(found)
    uv = Path(os.environ.get("UV_PYTHON_INSTALL_DIR") or "~/.local/share/uv/python").expanduser()
    yield from sorted(uv.glob(f"cpython-{version}.*/bin/python{version}"), reverse=True)

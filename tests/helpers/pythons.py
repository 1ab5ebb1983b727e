"""Other Pythons of this machine, as boards have them."""

import os
import shutil
import subprocess
from pathlib import Path

from helpers.required import absent

PYENV = Path(os.environ.get("PYENV_ROOT") or "~/.pyenv").expanduser() / "versions"


def python(version: str) -> str:
    """The interpreter of a version such as ``3.9``: one that pyenv installed, or one in the PATH."""
    installed = sorted(PYENV.glob(f"{version}.*/bin/python"))
    found = str(installed[-1]) if installed else shutil.which(f"python{version}")
    if found is None:
        absent("pythons", f"Python {version} is not installed: pyenv install {version}")
    return found


def environment(version: str, folder: Path, *packages: str) -> Path:
    """A new environment of a Python with the newest packages that it gets."""
    subprocess.run([python(version), "-m", "venv", folder], check=True, timeout=120)
    pip = [folder / "bin/python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, *packages], check=True, timeout=600)
    return folder

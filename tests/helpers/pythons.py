"""Other Pythons of this machine, as boards have them."""

import subprocess
from pathlib import Path

from backends import pythons
from backends.device.errors import UserError
from helpers.required import absent


def python(version: str) -> str:
    """The interpreter of a version such as ``3.9``."""
    try:
        return str(pythons.find(version))
    except UserError as error:
        absent("pythons", str(error))


def environment(version: str, folder: Path, *packages: str) -> Path:
    """A new environment of a Python with the newest packages that it gets."""
    subprocess.run([python(version), "-m", "venv", folder], check=True, timeout=120)
    pip = [folder / "bin/python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, *packages], check=True, timeout=600)
    return folder

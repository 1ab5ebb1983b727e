"""Packages of the names that patchbench has, but another's: an error that says so."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import ROOT
from patchbench_packages import PACKAGES, foreign

COMMAND = "import sys; sys.argv = ['patchbench', '--help']; from patchbench_packages import main; main()"


def python(first: Path, code: str) -> subprocess.CompletedProcess[str]:
    """Run code with a folder before patchbench's own on the path."""
    environ = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, (first, ROOT, ROOT / "harness" / "api")))}
    return subprocess.run([sys.executable, "-c", code], cwd=first, env=environ, capture_output=True, text=True)


def test_the_packages_here_are_patchbenchs_own() -> None:
    assert foreign() == ""


@pytest.mark.parametrize("name", PACKAGES)
def test_a_package_of_another_distribution_is_refused_by_command_and_import(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    (tmp_path / name / "__init__.py").write_text("raise AssertionError('imported')\n")
    done = python(tmp_path, COMMAND)
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: expected patchbench's package {name!r}, found {tmp_path / name} (")
    assert done.stderr.count("\n") == 1
    done = python(tmp_path, "import patchbench")
    assert done.stderr.splitlines()[-1].startswith(f"ImportError: expected patchbench's package {name!r}")


def test_packages_of_two_patchbenches_are_not_mixed(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "patches", tmp_path / "patches")
    done = python(tmp_path, COMMAND)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert f"'patches' from {tmp_path}" in done.stderr


def test_a_folder_of_such_a_name_hides_nothing(tmp_path: Path) -> None:
    """Without an `__init__.py` it is found last, as the current folder of a user may be."""
    (tmp_path / "patches").mkdir()
    assert python(tmp_path, COMMAND).returncode == 0

"""Other Pythons, for packages that have wheels for one version alone."""

import subprocess
import sys
import zipfile

import pytest
from helpers.pythons import python

from backends import environments, pythons
from backends.device.errors import UserError


@pytest.fixture
def nowhere(monkeypatch, tmp_path):
    for variable in ("HOME", "PYENV_ROOT", "UV_PYTHON_INSTALL_DIR", "PATH"):
        monkeypatch.setenv(variable, str(tmp_path))
    return tmp_path


def test_one_that_is_not_there_is_a_line_that_says_how_to_get_it(nowhere):
    with pytest.raises(UserError, match=r"^Python 3\.10 is not installed: pyenv install 3\.10, or uv python install"):
        pythons.find("3.10")


def test_a_shim_of_a_version_that_is_not_active_is_passed_over(nowhere):
    shim = nowhere / "python3.10"
    shim.write_text("#!/bin/sh\necho pyenv: python3.10: command not found >&2\nexit 127\n")
    shim.chmod(0o755)
    with pytest.raises(UserError, match="is not installed"):
        pythons.find("3.10")


def test_one_of_the_path_is_found_and_asked_for_its_version(nowhere):
    other = nowhere / "python3.99"
    other.write_text("#!/bin/sh\necho 3.99\n")
    other.chmod(0o755)
    assert pythons.find("3.99") == other
    other.write_text("#!/bin/sh\necho 3.98\n")
    with pytest.raises(UserError, match="is not installed"):
        pythons.find("3.99")


def test_a_package_for_another_python_gets_it_in_its_environment(tmp_path, monkeypatch):
    base = python("3.10")
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    with zipfile.ZipFile(wheels / "tpu_mlir-1.0-py3-none-any.whl", "w") as wheel:
        for name in ("libc.so.6", "libother.so.1"):
            wheel.writestr(f"tpu_mlir/lib/third_party/{name}", "")
        info = "tpu_mlir-1.0.dist-info"
        wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: tpu-mlir\nVersion: 1.0\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheels))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PATCHBENCH_CACHE", str(tmp_path / "cache"))
    wanted = ("tpu-mlir==1.0",)
    environments.make_environment(wanted, lambda word: None)
    asks = "import sys; print('{}.{}'.format(*sys.version_info), sys.base_prefix)"
    said = subprocess.run([environments.python(wanted), "-c", asks], capture_output=True, text=True, check=True).stdout
    assert said.split()[0] == "3.10"
    assert base.startswith(said.split()[1])
    libraries = environments.packages(wanted) / "tpu_mlir/lib/third_party"
    assert [path.name for path in libraries.iterdir()] == ["libother.so.1"]  # its own C library is left out


def test_where_python_is_another_it_cannot_be_installed():
    with pytest.raises(UserError, match=r"^tpu-mlir is for Python 3\.10, found 3\.11 there: use the host local$"):
        environments.pinned("tpu-mlir", elsewhere=environments.ELSEWHERE)


def test_this_python_is_found_without_looking():
    assert pythons.find(pythons.THIS).samefile(sys.executable)

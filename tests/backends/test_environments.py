import os
import signal
import subprocess
import sys
import time
import tomllib
import zipfile
from pathlib import Path

import numpy as np
import PIL
import pytest
from helpers import tiny
from helpers.required import absent

from backends import environments
from backends.device.errors import UserError
from backends.device.runtimes import engine
from backends.device.runtimes.executorch import TORCH
from backends.device.toolchains import ON_BOARDS
from backends.hosts import Target, availability, identity, prepare, replay

ROOT = Path(environments.__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("PATCHBENCH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def wheels(tmp_path, monkeypatch):
    """The only place where pip finds anything: a folder with a wheel for any machine and one for an ARM."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    for name, tag in (("anyone", "py3-none-any"), ("armed", "cp311-cp311-manylinux2014_aarch64")):
        with zipfile.ZipFile(folder / f"{name}-1.0-{tag}.whl", "w") as wheel:
            info = f"{name}-1.0.dist-info"
            wheel.writestr(f"{name}.py", "here = __file__\n")
            wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
            wheel.writestr(f"{info}/WHEEL", f"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: {tag}\n")
            wheel.writestr(f"{info}/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def test_what_is_here_as_wanted_needs_no_environment():
    assert environments.needed("numpy") == ()
    assert environments.needed("onnxruntime") == ()
    assert environments.needed("onnxruntime", environments.installed("onnxruntime")) == ()
    assert environments.needed("onnxruntime", "1.23.2") == environments.pinned("onnxruntime", "1.23.2")


def test_requirements_are_the_projects_pins_and_the_numpy_and_pillow_of_this_python():
    extras = PROJECT["optional-dependencies"]
    numpy, pillow = f"numpy=={np.__version__}", f"pillow=={PIL.__version__}"
    assert environments.pinned("onnxruntime") == (numpy, *extras["onnxruntime"], pillow)
    assert environments.pinned("onnxruntime", "1.23.2") == (numpy, "onnxruntime==1.23.2", pillow)
    assert environments.pinned("tflite-runtime") == tuple(sorted([pillow, *extras["tflite-runtime"]]))
    assert environments.pinned("tensorflow-cpu") == (numpy, pillow, *extras["tensorflow"])
    assert "numpy==1.26.4" in environments.pinned("tflite-runtime", "2.13.0")
    assert "tflite-runtime==2.13.0" in environments.pinned("tflite-runtime", "2.13.0")


def test_every_runtime_of_ours_is_an_extra_at_one_version():
    extras = PROJECT["optional-dependencies"]
    ours = {file.stem for file in (ROOT / "backends" / "device" / "runtimes").glob("[!_]*.py")}
    for name in ours - set(ON_BOARDS.values()):  # which come with what their board boots
        package = engine(name).package
        assert any(line.startswith(f"{package}==") for lines in extras.values() for line in lines), package


def test_a_strangers_package_is_for_its_user_to_install():
    with pytest.raises(UserError, match=r"^no-such is not installed: pip install no-such$"):
        environments.needed("no-such")
    found = environments.installed("pytest")
    with pytest.raises(UserError, match=rf"^pytest 1.0 is asked for, found {found}: pip install pytest==1.0$"):
        environments.needed("pytest", "1.0")


def test_another_requirement_is_another_place(cache):
    places = [
        environments.python(("a==1",)),
        environments.python(("a==2",)),
        environments.python(("a==1", "numpy==1")),
        environments.site(("a==1",), "aarch64"),
        environments.site(("a==1",), "armv7l"),
    ]
    assert len({str(place) for place in places}) == len(places)
    assert all(place.is_relative_to(cache) for place in places)
    assert environments.python(("a==1",)) == places[0]


def test_wheels_of_another_architecture_come_from_where_pip_is_told(cache, wheels):
    heard = []
    environments.make_site(("anyone==1.0", "armed==1.0"), "aarch64", heard.append)
    site = environments.site(("anyone==1.0", "armed==1.0"), "aarch64")
    assert {"anyone.py", "armed.py"} <= {path.name for path in site.iterdir()}
    assert any("Installing collected packages" in word for word in heard)
    heard.clear()
    environments.make_site(("anyone==1.0", "armed==1.0"), "aarch64", heard.append)
    assert heard == []


def test_executorch_comes_without_what_only_its_exporter_asks_for(cache, wheels):
    with zipfile.ZipFile(wheels / "executorch-1.0-py3-none-any.whl", "w") as wheel:
        info = "executorch-1.0.dist-info"
        asks = "Requires-Dist: coremltools\n"
        wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: executorch\nVersion: 1.0\n{asks}")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")
    wanted = ("anyone==1.0", "executorch==1.0")
    environments.make_site(wanted, "aarch64", lambda word: None)
    assert {"anyone.py", info} <= {path.name for path in environments.site(wanted, "aarch64").iterdir()}


def test_executorchs_torch_is_the_one_that_its_error_asks_for():
    assert TORCH in environments.pinned("executorch")
    assert environments.companions("executorch") == ("numpy", TORCH)
    assert environments.companions("a-strangers") == ("numpy",)
    assert environments.companions("tflite-runtime") == ("numpy==1.26.4",)


def test_what_pip_cannot_have_is_an_error_with_its_last_lines_and_leaves_nothing(cache, wheels):
    for requirement, arch in (("armed==1.0", "armv7l"), ("nowhere==1.0", "aarch64")):
        with pytest.raises(UserError, match="No matching distribution found for " + requirement):
            environments.make_site((requirement,), arch, lambda word: None)
    assert [path for path in (cache / "sites").iterdir() if path.suffix != ".lock"] == []


@pytest.mark.slow
def test_an_environment_has_its_own_packages_alone(cache, wheels):
    environments.make_environment(("anyone==1.0",), lambda word: None)
    python = environments.python(("anyone==1.0",))
    script = "import anyone, importlib.util; print(anyone.here, importlib.util.find_spec('numpy'))"
    said = subprocess.run([python, "-I", "-c", script], capture_output=True, text=True, check=True).stdout
    assert said == f"{environments.packages(('anyone==1.0',)) / 'anyone.py'} None\n"


@pytest.mark.parametrize("host", [{}, {"host": "qemu", "arch": "armv7l"}, {"host": "qemu", "arch": "x86_64"}])
def test_a_target_that_was_not_prepared_says_so(tmp_path, cache, host):
    bundle = tiny.bundle(tmp_path / "bundle", tiny.tflite_file(tmp_path / "tiny.tflite"))
    outcome = replay(Target("t", "tflite_runtime", **host), bundle.root, tmp_path / "out")
    assert len(outcome.errors) == 3
    assert all(message.endswith("does not exist; the target was not prepared") for message in outcome.errors.values())


def test_a_target_without_its_emulator_and_unprepared_says_both(tmp_path, cache, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path / "nothing is installed"))
    bundle = tiny.bundle(tmp_path / "bundle", tiny.tflite_file(tmp_path / "tiny.tflite"))
    outcome = replay(Target("t", "tflite_runtime", host="qemu", arch="armv7l"), bundle.root, tmp_path / "out")
    assert len(outcome.errors) == 3
    for message in outcome.errors.values():
        assert "qemu-arm is not installed: apt-get install qemu-user" in message
        assert message.endswith("does not exist; the target was not prepared")


# A maker that says when it begins, works until it is told, and has an effect that would show if it came twice.
MAKER = """
import os, sys
from pathlib import Path
from backends.environments import make_once

def make(folder):
    print("begun", flush=True)
    folder.mkdir()
    (folder / "half").touch()
    sys.stdin.read()
    (folder / "whole").write_text(str(os.getpid()))

make_once(Path(sys.argv[1]), make, lambda word: print(word, flush=True))
"""


def maker(folder):
    command = [sys.executable, "-c", MAKER, str(folder)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT)


def test_two_at_once_make_it_once(tmp_path):
    folder = tmp_path / "made"
    first = maker(folder)
    assert first.stdout.readline() == "begun\n"
    second = maker(folder)
    assert second.stdout.readline() == "made: waiting for another run to install it\n"
    first.communicate(timeout=30)
    assert second.communicate(timeout=30)[0] == ""
    assert first.returncode == second.returncode == 0
    assert (folder / "whole").read_text() == str(first.pid)


def test_a_killed_one_leaves_nothing_half_and_the_next_makes_it(tmp_path):
    folder = tmp_path / "made"
    first = maker(folder)
    assert first.stdout.readline() == "begun\n"
    first.send_signal(signal.SIGKILL)
    first.wait()
    assert not folder.exists()
    second = maker(folder)
    second.communicate(timeout=30)
    assert second.returncode == 0
    assert sorted(path.name for path in folder.iterdir()) == ["half", "whole"]
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_a_key_ends_what_runs(tmp_path):
    def hear(word):
        raise KeyboardInterrupt

    begin = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        environments.run(["sh", "-c", "echo $$; exec sleep 100"], "it", hear)
    assert time.monotonic() - begin < 10


def test_a_place_that_cannot_be_written_is_an_error_that_names_the_other(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("PATCHBENCH_CACHE", str(tmp_path / "file"))
    with pytest.raises(UserError, match=r"file/sites/.* cannot be created .*; set PATCHBENCH_CACHE to another folder"):
        environments.make_site(("a==1",), "aarch64", lambda word: None)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("runtime", "version"), [("onnxruntime", "1.23.2"), ("tflite_runtime", ""), ("tflite_runtime", "2.14.0")]
)
def test_a_target_runs_in_the_environment_of_its_version(tmp_path, runtime, version, monkeypatch):
    target = Target("t", runtime, version=version)
    assert availability(target) is None
    try:
        prepare(target)
    except UserError as error:
        absent("environments", str(error))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))  # whose packages are not those of the environment
    kind = "onnx" if runtime == "onnxruntime" else "tflite"
    bundle = tiny.bundle(tmp_path / "bundle", getattr(tiny, f"{kind}_file")(tmp_path / f"tiny.{kind}"))
    outcome = replay(target, bundle.root, tmp_path / "out")
    assert outcome.errors == {}
    assert outcome.info["version"] == (version or "2.14.0")
    assert identity(target)["version"] == outcome.info["version"]
    assert identity(target)["numpy"] == outcome.machine["numpy"]

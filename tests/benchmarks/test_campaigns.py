"""The campaigns of `benchmarks/trust`, in short: they find nothing, and go on where they were stopped."""

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from helpers import ROOT, s3
from helpers.command import environ
from helpers.required import absent

TRUST = ROOT / "benchmarks" / "trust"
FAULTS = (
    "full disk, write",
    "closed stdout",
    "full stdout",
    "evil runtime: hang",
    "evil runtime: unknown case",
    "evil runtime: early end",
    "evil runtime: endless line",
    "user's module: sys.exit(0) when called",
    "suite with host =",
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Both campaigns compare with the run that nothing disturbed; here it is made once."""
    return tmp_path_factory.mktemp("trust")


def campaign(name: str, folder: Path, *words: str) -> str:
    command = [sys.executable, TRUST / f"{name}.py", "--results", folder / f"{name}.jsonl", *words]
    done = subprocess.run(command, env=environ(), capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
def test_a_killed_run_goes_on_to_the_same_results(folder):
    said = campaign("kill", folder, "--count", "2")
    assert "1 of the 1 ended with the results of an undisturbed run" in said
    before = (folder / "kill.jsonl").read_text()
    assert campaign("kill", folder, "--count", "2") in said
    assert (folder / "kill.jsonl").read_text() == before


@pytest.mark.slow
def test_a_run_on_a_cluster_that_breaks_ends_with_the_same_results(folder):
    s3.client()
    if not find_spec("distributed"):
        absent("distributed", "it is not installed: pip install 'patchbench[cluster]'")
    assert "1 faults" in campaign("cluster", folder, "--count", "1")


@pytest.mark.slow
def test_a_fault_is_an_exit_code_and_one_line(folder):
    said = campaign("faults", folder, *(word for name in FAULTS for word in ("--only", name)))
    rows = [json.loads(line) for line in (folder / "faults.jsonl").read_text().splitlines()]
    assert {row["fault"] for row in rows} == set(FAULTS)
    assert all(one["objection"] in ("", "left out") for row in rows for one in row["found"])
    assert all(row["fault"] in said for row in rows)

"""The campaigns that damage files and make them up, in short; and what they see."""

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from helpers import ROOT
from helpers.command import environ


def campaign(program: str, folder: Path, *arguments: object) -> list[dict]:
    """Run a program of `benchmarks/trust`; return its rows."""
    results = folder / f"{program}.jsonl"
    command = [sys.executable, ROOT / "benchmarks" / "trust" / f"{program}.py", "--results", results, *arguments]
    done = subprocess.run([*map(str, command)], env=environ(), cwd=folder, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    return [json.loads(line) for line in results.read_text().splitlines()]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where both campaigns keep the run that they damage."""
    return tmp_path_factory.mktemp("trust")


@pytest.mark.slow
def test_no_flipped_bit_is_silent(folder):
    rows = campaign("flip", folder, "--count", 72)
    assert len({row["class"] for row in rows}) > 25
    bad = [row for row in rows if row["outcome"] not in ("found", "made again", "harmless")]
    assert not bad
    assert sum(row["outcome"] == "made again" for row in rows) > 5


@pytest.mark.slow
def test_made_up_files_are_read_or_refused(folder):
    rows = campaign("fuzz", folder, "--count", 550, "--each", 5)
    counts = sum((Counter(row["counts"]) for row in rows), Counter())
    assert counts.keys() == {"refused", "accepted"}, [row for row in rows if row["faults"]]
    assert counts.total() > 500
    assert len({row["subject"] for row in rows}) > 25


@pytest.mark.parametrize(
    ("case", "outcome"),
    [
        ("refuse", "refused"),
        ("fail", "traceback"),
        ("grow", "memory"),
        ("leave", "escape"),
        ("write_outside", "escape"),
        ("write_inside", "accepted"),
    ],
)
def test_a_watch_tells(tmp_path, case, outcome):
    folder = tmp_path / "files"
    folder.mkdir()
    command = [sys.executable, ROOT / "tests" / "helpers" / "watched.py", case]
    environment = environ(PYTHONPATH=str(ROOT / "benchmarks" / "trust"))
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == (f"{outcome}\n", "")

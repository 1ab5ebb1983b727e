"""Runs that share a store on a real S3 server (SeaweedFS): the records of a run alone, whatever the server does."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
from helpers import s3
from helpers.brought import write_suite
from helpers.command import environ

pytestmark = pytest.mark.slow

SECONDS = 240  # for what takes ten
MADE = re.compile(r"✓ (make|craft|train|export|replay|run|time|again|check) ")


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The suite of a user's file on one target, with one case of each kind."""
    file = write_suite(tmp_path_factory.mktemp("suite"))
    text = file.read_text().replace('defence = ["none", "median:3"]', "").replace("noise = 2", "noise = 1")
    file.write_text(text[: text.index('[[target]]\nname = "sixteen"')])
    return file


@pytest.fixture(scope="module")
def proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[s3.Proxy]:
    with s3.server(tmp_path_factory.mktemp("s3")) as address, s3.proxy(address) as made:
        yield made


class Runs:
    """Runs of a suite into directories of their own, sharing a store of theirs."""

    def __init__(self, suite: Path, proxy: s3.Proxy, folder: Path) -> None:
        self.suite, self.proxy, self.folder = suite, proxy, folder
        self.url = f"s3://{s3.BUCKET}/{folder.name}"
        proxy.fault = lambda request: None

    def start(self, out: str, *more: str) -> "subprocess.Popen[str]":
        words = ["run", self.suite, "--data", self.suite.parent, "--out", self.folder / out, *more]
        return subprocess.Popen(
            [sys.executable, "-m", "harness.cli", *map(str, words)],
            env=environ(PYTHONPATH=str(s3.client())) | s3.environ(self.proxy.address),
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def __call__(self, out: str, *more: str, code: int = 0) -> str:
        return ended(self.start(out, *(more or ("--store", self.url))), code)

    def records(self, out: str) -> pd.DataFrame:
        return pd.read_parquet(self.folder / out / "records.parquet")


def ended(process: "subprocess.Popen[str]", code: int = 0) -> str:
    out, err = process.communicate(timeout=SECONDS)
    assert process.returncode == code, out + err
    assert s3.SECRET not in out + err
    return out + err


@pytest.fixture
def runs(suite: Path, proxy: s3.Proxy, tmp_path: Path) -> Runs:
    return Runs(suite, proxy, tmp_path)


@pytest.fixture(scope="module")
def alone(suite: Path, proxy: s3.Proxy, tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    """The records of a run that shares nothing, and asks no server."""
    run = Runs(suite, proxy, tmp_path_factory.mktemp("alone"))
    proxy.asked.clear()
    run("alone", "--quiet")
    assert proxy.asked == []
    return run.records("alone")


def test_two_runs_at_once_share_their_work_and_a_third_makes_nothing(runs: Runs, alone: pd.DataFrame) -> None:
    both = [runs.start(out, "--store", runs.url) for out in ("first", "second")]
    assert all(MADE.search(ended(one)) for one in both)
    told = runs("third", "--store", runs.url, "--dry-run")
    assert "to do: " in told
    assert re.findall(r"│ (.*?) +│ +\d+ │ +\d+ │ +[1-9]", told) == ["read images"]
    assert not MADE.search(said := runs("third"))
    assert "✓ fetch " in said
    for out in ("first", "second", "third"):
        pd.testing.assert_frame_equal(runs.records(out), alone)
    found = [file for file in runs.folder.rglob("*") if file.is_file()]
    assert len(found) > 50
    secret, key = (word.encode() for word in (s3.SECRET, s3.KEY))
    assert [file for file in found if secret in file.read_bytes() or key in file.read_bytes()] == []


def test_a_server_that_fails_costs_the_sharing_and_no_record(runs: Runs, alone: pd.DataFrame) -> None:
    runs.proxy.fault = lambda request: s3.busy
    said = runs("run", code=2)
    assert re.fullmatch(rf"error: --store {runs.url}: cannot be read \([^\n]+\)\n", said)
    runs.proxy.fault = lambda request: s3.full if request.is_of_result and request.method == "PUT" else None
    said = runs("run")
    assert said.count("cannot be written") == 1
    pd.testing.assert_frame_equal(runs.records("run"), alone)
    runs.proxy.fault = lambda request: s3.slow
    said = runs("run")
    assert "✓ upload " in said
    assert "nothing to do" in said
    runs.proxy.fault = lambda request: s3.cut if request.is_of_result and request.method == "GET" else None
    said = runs("other", code=2)
    assert re.fullmatch(rf"error: --store {runs.url}: cannot be read \([^\n]+\)\n", said.splitlines(True)[-1])
    runs.proxy.fault = lambda request: None
    assert not re.search("✓ (make|replay|time)", runs("other"))
    pd.testing.assert_frame_equal(runs.records("other"), alone)

"""Runs on Dask's workers: the records of a run in process, whatever happens to the workers."""

import json
import os
import re
import signal
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pandas as pd
import psutil
import pytest
from helpers import certificates
from helpers.brought import write_suite
from helpers.command import environ, patchbench
from helpers.dask import SECONDS, family, line, started, until
from helpers.required import absent

from backends.device.errors import UserError
from harness.run import deployments


@pytest.fixture(scope="module", autouse=True)
def _dask() -> None:
    if not find_spec("distributed"):
        absent("distributed", "it is not installed: pip install 'patchbench[cluster]'")


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_suite(tmp_path_factory.mktemp("suite"))


@pytest.fixture(scope="module")
def in_process(suite: Path) -> pd.DataFrame:
    """The records of a run without a cluster, which imports nothing of Dask."""
    spy = suite.parent / "spy"
    spy.mkdir()
    for package in ("dask", "distributed"):
        (spy / f"{package}.py").write_text("raise AssertionError('Dask is imported')")
    done = patchbench("run", suite, "--out", "alone", cwd=suite.parent, PATCHBENCH_DATA=".", PYTHONPATH=str(spy))
    assert done.returncode == 0, done.stdout + done.stderr
    return records(suite, "alone")


def records(suite: Path, out: str) -> pd.DataFrame:
    return pd.read_parquet(suite.parent / out / "records.parquet")


def workers_of(pid: int) -> list[psutil.Process]:
    """The workers of a local cluster."""
    return [one for one in family(pid) if any("spawn_main" in word for word in one.cmdline())]


@pytest.mark.slow
def test_workers_that_are_killed_cost_nothing_and_records_are_those_of_a_run_in_process(
    suite: Path, in_process: pd.DataFrame
) -> None:
    shared = ["--store", f"file://{suite.parent}/shared"]
    with started(["harness.cli", "run", suite, "--out", "two", "--cluster", "local:2", *shared], suite) as process:
        line(process, "✓ make")
        for worker in workers_of(process.pid):
            worker.kill()
        out, _ = process.communicate(timeout=SECONDS)
        assert process.returncode == 0, out
        assert "among 2 workers" in out
    assert list((suite.parent / "two/store/unfinished").iterdir()) == []
    done = patchbench("run", suite, "--out", "after", *shared, cwd=suite.parent, PATCHBENCH_DATA=".")
    assert done.returncode == 0, done.stdout + done.stderr
    assert not re.search("✓ (make|replay|time) ", done.stdout)
    pd.testing.assert_frame_equal(records(suite, "after"), in_process)
    pd.testing.assert_frame_equal(records(suite, "two"), in_process)


@pytest.mark.slow
def test_over_tls_a_worker_of_another_version_is_refused_and_a_run_that_is_interrupted_goes_on(
    suite: Path, in_process: pd.DataFrame
) -> None:
    old = suite.parent / "old" / "numpy-0.1.dist-info"
    old.mkdir(parents=True)
    (old / "METADATA").write_text("Metadata-Version: 2.1\nName: numpy\nVersion: 0.1\n")
    file = suite.parent / "scheduler.json"
    tls = certificates.dask_environment(suite.parent)
    shared = ["--protocol", "tls", "--scheduler-file", file, "--no-dashboard"]
    scheduler = ["distributed.cli.dask_scheduler", "--port", "0", *shared]
    worker = ["distributed.cli.dask_worker", "--nthreads", "1", *shared]
    with started(scheduler, suite, **tls), started([*worker, "--host", "127.0.0.2"], suite, **tls) as good:
        address = until(lambda: file.is_file() and pd.read_json(file, typ="series")["address"])
        assert address.startswith("tls://")
        command = ["harness.cli", "run", suite, "--out", "far", "--cluster", address]
        refused = patchbench(*command[1:], cwd=suite.parent, PATCHBENCH_DATA=".")
        assert refused.returncode == 2
        (said,) = refused.stderr.splitlines()
        assert f"--cluster {address}: expected distributed.comm.tls.ca-file" in said
        with started(command, suite, **tls) as process:
            line(process, "✓ read")
            os.kill(process.pid, signal.SIGINT)
            out, _ = process.communicate(timeout=SECONDS)
            assert process.returncode == 130, out
            assert "run the same command to resume" in out
        until(lambda: not any("backends.device.replay" in one.cmdline() for one in family(good.pid)))
        with started([*worker, "--host", "127.0.0.3"], suite, **tls) as second:
            line(second, "Registered to")
            with started(worker, suite, PYTHONPATH=str(old.parent), **tls) as bad:
                line(bad, "Registered to")
                with started(command, suite, **tls) as process:
                    assert "numpy: 0.1 there" in line(process, "worker tls://")
                    out, _ = process.communicate(timeout=SECONDS)
                    assert process.returncode == 0, out
                    assert "among 2 workers" in out
            assert [offer["quiet"] for offer in offers(address, tls) if "quiet" in offer] == [1.0]
    pd.testing.assert_frame_equal(records(suite, "far"), in_process)


def offers(address: str, environment: dict[str, str]) -> list[dict[str, float]]:
    """What each worker of a scheduler offers; of those on one machine, whatever their addresses, one is to time."""
    ask = (
        "import json, sys; from distributed import Client; client = Client(sys.argv[1]); "
        "print(json.dumps([one['resources'] for one in client.scheduler_info(-1)['workers'].values()]))"
    )
    said = subprocess.check_output([sys.executable, "-c", ask, address], env=environ(**environment), text=True)
    found: list[dict[str, float]] = json.loads(said)
    return found


@pytest.mark.parametrize(
    ("word", "text", "message"),
    [
        ("local:0", "", "expected local:N"),
        ("local:many", "", "expected local:N"),
        ("nowhere", "", "expected ADDRESS"),
        ("slurm:f.toml", "", "f.toml: cannot be read"),
        ("slurm:f.toml", "jobs = 0", "jobs"),
        ("slurm:f.toml", "jobs = 1\nqueu = 'x'", "did you mean 'queue'"),
        ("ssh:f.toml", "hosts = ['a']", "hosts"),
        ("kubernetes:f.toml", "name = 'x'\nimage = 'y'", "workers"),
    ],
)
def test_a_word_that_is_no_cluster_is_refused(
    word: str, text: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    if text:
        (tmp_path / "f.toml").write_text(text)
    with pytest.raises(UserError, match=message):
        deployments.read(word)


def test_a_file_says_how_many_workers_are_to_come(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "slurm.toml").write_text("jobs = 3\nworkers = 2\ncores = 4")
    (tmp_path / "ssh.toml").write_text("hosts = ['a', 'a', 'b']\nworkers = 2")
    words = ("slurm:slurm.toml", "ssh:ssh.toml", "local:5", "tcp://a:1")
    assert [deployments.read(word).expected for word in words] == [6, 4, 5, 0]

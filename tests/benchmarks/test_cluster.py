"""`make cluster`: containers of a scheduler, two workers and an object store give the records of a run without them."""

import os
import shutil
import subprocess
import tempfile
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd
import pytest
from helpers import ROOT, s3
from helpers.brought import write_suite
from helpers.command import patchbench
from helpers.required import absent

from backends.hosts import Target, availability

Make = Callable[..., str]


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder below ``out/``, which is what the containers see."""
    (ROOT / "out").mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=ROOT / "out") as made:
        yield Path(made)


@pytest.fixture
def make(folder: Path) -> Iterator[Make]:
    """Runs a target of the Makefile with a cluster of the test's own, which ends with it."""
    if why_not := availability(Target("t", "litert", host="docker")):
        absent("docker", why_not)
    if not shutil.which("docker-compose") and subprocess.run(["docker", "compose", "version"]).returncode:
        absent("compose", "expected docker compose: sudo apt-get install docker-compose")
    port = str(s3.free_ports(1)[0])
    environment = os.environ | {"COMPOSE_PROJECT_NAME": folder.name.lower(), "PATCHBENCH_DASHBOARD_PORT": port}

    def run(target: str, *more: str) -> str:
        done = subprocess.run(
            ["make", "-C", ROOT, target, *more], env=environment, capture_output=True, text=True, timeout=1000
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    yield run
    run("cluster-down")


@pytest.mark.slow
@pytest.mark.docker
def test_a_cluster_of_containers_gives_the_records_of_a_run_without_it_and_its_store_the_next_run(
    folder: Path, make: Make
) -> None:
    suite = write_suite(folder)
    alone = patchbench("run", suite, "--out", "alone", "--data", folder, cwd=folder)
    assert alone.returncode == 0, alone.stdout + alone.stderr
    inside = Path("out") / folder.name
    for out in ("one", "two"):
        said = make("cluster", f"CLUSTER_RUN=run {inside}/suite.toml --data {inside} --out {inside}/{out}")
        assert ("✓ replay" in said) is (out == "one")
        assert ("✓ fetch" in said) is (out == "two")
        pd.testing.assert_frame_equal(*(pd.read_parquet(folder / run / "records.parquet") for run in ("alone", out)))
    address = next(word for line in said.splitlines() if line.startswith("dashboard: ") for word in line.split(" ")[1:])
    assert urllib.request.urlopen(address.rstrip(","), timeout=60).status == 200

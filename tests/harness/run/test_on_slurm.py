"""Runs whose workers are jobs of a SLURM cluster."""

import subprocess
from pathlib import Path

import pandas as pd
import pytest
from helpers import slurm
from helpers.brought import write_suite
from helpers.command import environ, patchbench

JOBS = """
jobs = 2
memory = "2 GB"
walltime = "00:10:00"
queue = "short"
"""


@pytest.mark.slow
@pytest.mark.slurm
def test_jobs_of_slurm_give_the_records_of_a_run_without_them_and_leave_the_queue_empty(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    suite = write_suite(tmp_path)
    (tmp_path / "slurm.toml").write_text(JOBS)
    common = ("run", suite, "--data", tmp_path, "--out")
    with slurm.cluster(tmp_path_factory.mktemp("slurm"), cores=2) as environment:
        done = patchbench(*common, "jobs", "--cluster", "slurm:slurm.toml", cwd=tmp_path, **environment)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "among 2 workers" in done.stdout
        asked = ["squeue", "--noheader", "--states=PENDING,RUNNING"]
        queue = subprocess.run(asked, env=environ(**environment), capture_output=True, text=True, check=True)
        assert queue.stdout == ""
    done = patchbench(*common, "alone", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    pd.testing.assert_frame_equal(*(pd.read_parquet(tmp_path / out / "records.parquet") for out in ("jobs", "alone")))

"""Whole runs by the command line: what they leave, what a second one does, and what survives a kill."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from helpers import faulty_runtime
from helpers.command import environ, patchbench
from helpers.flips import flip
from helpers.rogue import rogue_attack
from helpers.suites import QUICK, SECOND_TARGET, write

from backends.device.checksums import verify
from harness.results.run_directory import read_run

pytestmark = pytest.mark.slow


def facts(run_dir: Path) -> pd.DataFrame:
    """The records in an order of their own."""
    records = pd.read_parquet(run_dir / "records.parquet")
    return records.sort_values(["artifact", "target", "patch", "target_class", "image"], ignore_index=True)


@pytest.fixture(scope="module")
def finished(quick: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a quick suite that was run, ours to change."""
    return shutil.copytree(quick, tmp_path_factory.mktemp("finished"), dirs_exist_ok=True)


def test_a_run_leaves_records_cells_artifacts_patches_and_a_report(finished: Path) -> None:
    run_dir = finished / "out" / "quick"
    cells, records = pd.read_csv(run_dir / "cells.csv", keep_default_na=False), facts(run_dir)
    promised = (
        "victim, precision, format, calibration, surrogate, attack, target_class, seed, patch_area, runtime, target, "
        "host, arch, cpu, threads, kernels, placement, defence, status, n_error, n_clean, clean_accuracy, n_targeted, "
        "targeted_success, n_untargeted, untargeted_success"
    )
    assert set(promised.split(", ")) <= set(cells.columns)
    assert len(cells) == 12
    assert len(records) == 12 * 40
    assert set(cells["status"]) == {"ok"}
    summary = json.loads((run_dir / "summary.json").read_text())
    assert [c["artifact"] for c in summary["cells"]] == list(cells["artifact"])
    run = json.loads((run_dir / "run.json").read_text())
    assert run["data"]["sizes"] == {"calibration": 8, "craft": 64, "select": 0, "evaluate": 40}
    assert {p["file"] for p in run["patches"]} <= {str(p.relative_to(run_dir)) for p in run_dir.glob("patches/*.png")}
    assert {a["file"] for a in run["artifacts"]} <= {str(p.relative_to(run_dir)) for p in run_dir.glob("artifacts/*")}
    assert "QLinearConv" in run["artifacts"][0]["operators"]
    assert "<html" in (run_dir / "report.html").read_text()


def test_predictions_are_those_of_the_logits_that_onnxruntime_gives(finished: Path) -> None:
    """From the artifact and the images alone, without our device side."""
    import onnxruntime

    run_dir = finished / "out" / "quick"
    (data,) = (run_dir / "store" / "data").iterdir()
    pixels, labels = np.load(data / "evaluate.pixels.npy"), np.load(data / "evaluate.labels.npy")
    session = onnxruntime.InferenceSession(run_dir / "artifacts" / "resnet8-onnx-s8s8-minmax.onnx")
    x = pixels.transpose(0, 3, 1, 2).astype(np.float32) / np.float32(255)
    (logits,) = session.run(None, {session.get_inputs()[0].name: x})
    records = facts(run_dir)
    clean = records[(records["artifact"] == "resnet8-onnx-s8s8-minmax") & (records["attack"] == "none")]
    by_image = clean.set_index("image").loc[list(np.load(data / "evaluate.ids.npy"))]
    assert by_image["pred"].tolist() == logits.argmax(1).tolist()
    assert by_image["label"].tolist() == labels.tolist()


def test_a_second_run_does_nothing(finished: Path) -> None:
    run_dir = finished / "out" / "quick"
    before = {path: path.stat().st_mtime_ns for path in run_dir.rglob("*") if path.is_file() and path.name != ".lock"}
    again = patchbench("run", finished / "suite.toml", cwd=finished)
    assert again.returncode == 0
    assert "nothing to do" in again.stdout
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_a_label_is_given_without_running_again(finished: Path) -> None:
    run_dir = finished / "out" / "quick"
    for arguments in (["--label", "the second"], []):  # without one, the old one stays
        again = patchbench("run", finished / "suite.toml", *arguments, cwd=finished)
        assert "nothing to do" in again.stdout
        assert read_run(run_dir).label == "the second"


def test_what_is_damaged_is_said_so_and_made_again(finished: Path) -> None:
    """A bit of a random file of every result in the store, and of one of the run's own files."""
    run_dir = finished / "out" / "quick"
    before = facts(run_dir)
    entries = [sums.parent for sums in run_dir.glob("store/*/*/SHA256SUMS")]
    for seed, entry in enumerate(entries):
        files = sorted(path for path in entry.rglob("*") if path.is_file() and path.stat().st_size)
        flip(files[seed % len(files)], seed)
    flip(run_dir / "cells.csv", 0)
    again = patchbench("run", finished / "suite.toml", cwd=finished)
    assert again.returncode == 0, again.stdout + again.stderr
    said = [line for line in again.stdout.splitlines() if line.endswith("made again")]
    stages = {entry.parent.name for entry in entries}
    assert {"data", "victim", "artifact", "patch", "bundle", "replay", "latency", "probe", "arithmetic"} == stages
    damaged = {Path(*Path(line.partition(":")[0]).parts[:5]) for line in said}  # out/quick/store/STAGE/KEY
    assert {entry.parent.name for entry in damaged} == stages
    for entry in damaged:
        verify(finished / entry, "")
    assert "cells.csv: expected sha256" in again.stdout
    pd.testing.assert_frame_equal(facts(run_dir), before)
    assert "nothing to do" in patchbench("run", finished / "suite.toml", cwd=finished).stdout


def test_a_new_target_is_run_alone(finished: Path, tmp_path: Path) -> None:
    more = patchbench("run", write(tmp_path, QUICK + SECOND_TARGET), "--out", finished / "out" / "quick", cwd=finished)
    assert more.returncode == 0, more.stderr
    did = [line for line in more.stdout.splitlines() if line.startswith("✓")]
    assert {line.split()[1] for line in did} <= {"replay", "time", "check"}
    assert not any("on ort," in line for line in did)
    records = facts(finished / "out" / "quick")
    assert set(records["target"]) == {"torch", "ort", "ort-plain"}
    plain = records[records["target"] == "ort-plain"]["pred"].to_numpy()
    fast = records[records["target"] == "ort"]["pred"].to_numpy()
    assert (plain == fast).mean() > 0.9
    back = patchbench("run", finished / "suite.toml", cwd=finished)
    assert not any(line.startswith("✓") for line in back.stdout.splitlines())


def test_a_run_killed_again_and_again_ends_with_the_same_records(finished: Path, tmp_path: Path) -> None:
    suite, kills, clock = write(tmp_path), 0, random.Random(0)
    while True:
        process = subprocess.Popen(
            [sys.executable, "-m", "harness.cli", "run", suite], cwd=tmp_path, env=environ(), start_new_session=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        try:
            process.communicate(timeout=clock.uniform(3, 9) + kills)
            break
        except subprocess.TimeoutExpired:
            os.kill(process.pid, signal.SIGKILL)
            process.communicate()
            kills += 1
            assert kills < 40, "the run makes no headway"
    assert process.returncode == 0
    assert kills > 0
    never_killed = patchbench("run", finished / "suite.toml", cwd=finished)
    assert never_killed.returncode == 0
    pd.testing.assert_frame_equal(facts(tmp_path / "out" / "quick"), facts(finished / "out" / "quick"))


def test_a_run_directory_in_use_is_refused(finished: Path) -> None:
    from filelock import FileLock

    with FileLock(finished / "out" / "quick" / ".lock"):
        refused = patchbench("run", finished / "suite.toml", cwd=finished)
    assert refused.returncode == 2
    assert "another run is using this directory" in refused.stderr
    assert "Traceback" not in refused.stderr


@pytest.mark.parametrize(("fault", "says"), [("crash", "SIGSEGV"), ("hang", "hang"), ("nan", "nan logits")])
def test_a_runtime_that_fails_becomes_errors_and_the_run_goes_on(
    finished: Path, tmp_path: Path, fault: str, says: str
) -> None:
    site = faulty_runtime.install(tmp_path / "site")
    options = f'{{ fault = "{fault}", after = 50 }}'
    target = f'\n[[target]]\nname = "bad"\nruntime = "faulty"\ntime_limit = 5\noptions = {options}\n'
    run_dir = finished / "out" / "quick"
    done = patchbench("run", write(tmp_path, QUICK + target), "--out", run_dir, cwd=finished, PYTHONPATH=str(site))
    assert done.returncode == 1, done.stdout + done.stderr
    cells = pd.read_csv(run_dir / "cells.csv", keep_default_na=False)
    bad, good = cells[cells["target"] == "bad"], cells[cells["target"] != "bad"]
    assert set(good["status"]) == {"ok"}
    assert "error" in set(bad["status"])
    failed = bad[bad["status"] == "error"]
    assert (failed["n_error"] > 0).all()
    assert (failed["targeted_success"] == "").all()
    assert failed["error"].str.contains(says, case=False).any()
    assert "failed" in (run_dir / "report.html").read_text().lower()
    # an error is no result: it is tried again
    again = patchbench("run", tmp_path / "suite.toml", "--out", run_dir, cwd=finished, PYTHONPATH=str(site))
    assert ("nothing to do" in again.stdout) == (fault == "nan")


def test_an_unfinished_run_leaves_no_older_verdict(tmp_path: Path) -> None:
    suite, environment = rogue_attack(tmp_path, "import sys\ndef craft(problem):\n    sys.exit(0)\n")
    run_json = tmp_path / "out" / "quick" / "run.json"
    run_json.parent.mkdir(parents=True)
    run_json.write_text('{"schema": 2, "plan": "of an older suite"}')
    done = patchbench("run", suite, cwd=tmp_path, PYTHONPATH=environment["PYTHONPATH"])
    assert done.returncode == 2
    assert "rogue.py, line 3, called sys.exit(0)" in done.stderr
    assert not run_json.exists()


def test_no_space_is_said_and_loses_nothing(finished: Path, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", disk], capture_output=True).returncode:
        pytest.skip("a small disk cannot be mounted here")
    try:
        full = patchbench("run", finished / "suite.toml", "--out", disk / "run", cwd=finished)
        assert full.returncode == 2
        assert "No space left" in full.stderr
        assert "Traceback" not in full.stderr
        subprocess.run(["mount", "-o", "remount,size=200m", disk], check=True)
        after = patchbench("run", finished / "suite.toml", "--out", disk / "run", cwd=finished)
        assert after.returncode == 0, after.stderr
    finally:
        time.sleep(0.2)
        subprocess.run(["umount", "-l", disk], check=True)

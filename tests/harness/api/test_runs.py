"""A run through Python: the results that lie in its directory."""

import shutil

import pandas as pd
import patchbench
import pytest
from helpers.suites import write


@pytest.mark.slow
def test_a_run_reads_what_its_directory_holds(quick, tmp_path):
    shutil.copytree(quick / "out", tmp_path / "out")
    folder = tmp_path / "out" / "quick"
    run = patchbench.run(write(tmp_path), out=folder, quiet=True)  # nothing is left to do
    written = pd.read_csv(folder / "cells.csv")
    assert list(run.cells["artifact"]) == list(written["artifact"])
    assert run.cells["targeted_success"].to_numpy() == pytest.approx(written["targeted_success"], rel=1e-5, nan_ok=True)
    pd.testing.assert_frame_equal(run.records, pd.read_parquet(folder / "records.parquet"), check_categorical=False)
    assert set(run.cells["patch"]) - {""} <= set(run.patches)
    assert run.patches[run.facts.patches[0].name].sha256 == run.facts.patches[0].sha256
    assert run.report.read_text().startswith("<!doctype html>")


@pytest.mark.slow
def test_settings_change_a_suite_and_the_command_that_repeats_the_run_is_kept(quick, tmp_path, monkeypatch):
    monkeypatch.delenv("PATCHBENCH_DATA", raising=False)  # it would stand in the command
    shutil.copytree(quick / "out", tmp_path / "out")
    suite, folder = write(tmp_path), tmp_path / "out" / "quick"
    run = patchbench.run(suite, out=folder, settings={"attack.gap.target_classes": [4]}, limit=20, quiet=True)
    assert set(run.cells.loc[run.cells["attack"] == "gap", "target_class"]) == {4}
    assert run.records["image"].nunique() == 20
    assert run.facts.command == (
        f"patchbench run {suite} --out {folder} --set 'attack.gap.target_classes=[4]' --limit 20 --targets '*'"
    )


def test_a_store_and_a_cluster_are_named_by_an_argument_a_store_by_the_environment_too(tmp_path, monkeypatch):
    with pytest.raises(patchbench.UserError, match="URL without credentials"):
        patchbench.run(write(tmp_path), out=tmp_path / "out", store="s3://AKIDX:secret@bucket")
    with pytest.raises(patchbench.UserError, match="--cluster local:0: expected local:N"):
        patchbench.run(write(tmp_path), out=tmp_path / "out", cluster="local:0")
    monkeypatch.setenv("PATCHBENCH_STORE", "nope://bucket")
    with pytest.raises(patchbench.UserError, match="--store nope://bucket: Protocol not known"):
        patchbench.run(write(tmp_path), out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_file_of_another_run_is_refused(quick, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(quick / "out" / "quick", folder, ignore=shutil.ignore_patterns("store"))
    run = patchbench.load_run(str(folder))
    entry = next(patch for patch in run.facts.patches if patch.attack == "gap")
    file = (folder / entry.file).with_suffix(".npz")
    shutil.copy(next(other for other in file.parent.glob("*.npz") if other != file), file)
    with pytest.raises(patchbench.UserError, match=file.name):
        _ = run.patches


def test_a_folder_without_a_run_is_a_users_mistake(tmp_path):
    with pytest.raises(patchbench.UserError, match=r"expected the run\.json"):
        patchbench.load_run(tmp_path)
    with pytest.raises(patchbench.UserError, match="no suite named 'dmo'; did you mean 'demo'"):
        patchbench.run("dmo")

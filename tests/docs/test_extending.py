"""The examples of Extending, run for real."""

import importlib
from pathlib import Path

import numpy as np
import pytest
from helpers import ROOT
from helpers.attacks import Shades
from helpers.made_run import FILES, make_run

from backends import hosts
from backends.conformance import conform
from backends.conformance.checks import CHECKS, OF_RUNTIME
from backends.hosts import Target

EXAMPLES = ROOT / "docs" / "examples"


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """Install an example as the distribution that its pyproject.toml describes."""

    def install(folder: Path, group: str, entry: str) -> None:
        assert f'[project.entry-points."{group}"]' in (folder / "pyproject.toml").read_text()
        assert entry.split(" = ")[0] in (folder / "pyproject.toml").read_text()
        info = tmp_path / "example-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: example\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[{group}]\n{entry}\n")
        monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{folder}")
        monkeypatch.syspath_prepend(str(tmp_path))
        monkeypatch.syspath_prepend(str(folder))

    return install


@pytest.mark.slow
def test_the_runtime_passes_the_conformance_suite(installed):
    installed(EXAMPLES / "runtime", "patchbench.runtimes", "plain_onnxruntime = plain_onnxruntime:Engine")
    verdicts = list(conform(Target("t", "plain_onnxruntime"), list(OF_RUNTIME)))
    assert [verdict for verdict in verdicts if verdict.fault] == []


@pytest.mark.slow
def test_the_host_passes_the_conformance_suite(monkeypatch):
    monkeypatch.setattr(hosts, "__path__", [*hosts.__path__, str(EXAMPLES / "host")])
    verdicts = list(conform(Target("t", "litert", host="nice"), list(CHECKS)))
    assert [verdict for verdict in verdicts if verdict.fault] == []


def test_the_attack_finds_the_known_best_patch(installed):
    from patches.craft import craft
    from patches.problem import Problem

    installed(EXAMPLES / "attack", "patchbench.attacks", "sign_steps = sign_steps:craft")
    pixels = np.random.default_rng(0).integers(0, 256, (20, 12, 10, 3), np.uint8)
    problem = Problem(Shades(), pixels, np.arange(20) % 3, target_class=0, px=4)
    patch = craft("sign_steps", problem, {"steps": 60, "step_size": 0.05})
    assert (patch.pixels == (255, 0, 0)).mean() > 0.99
    assert patch.checks["options"]["step_size"] == 0.05


def test_the_analysis_measures_and_draws_a_run(tmp_path, monkeypatch):
    import pandas as pd

    from harness.config import StudyTable
    from harness.results.metrics import cells, summarise
    from harness.study.lib.inputs import Inputs

    monkeypatch.syspath_prepend(str(EXAMPLES / "analysis"))
    noise = importlib.import_module("noise")
    files = [FILES[0], FILES[7]]  # the float network, and an INT8 file on two targets
    run = make_run(tmp_path / "run", victims=("resnet20",), images=60, goals=(3,), files=files)
    records = pd.read_parquet(run / "records.parquet")
    counted = cells(records)
    inputs = Inputs(None, counted, summarise(counted, records), StudyTable(), pd.DataFrame())
    table = noise.measure(inputs)
    assert len(table) == 3
    assert (table["success"] > table["noise"]).all()
    (figure,) = noise.draw(table)
    assert noise.QUESTION.endswith("?")
    assert str(figure.svg).startswith("<svg")

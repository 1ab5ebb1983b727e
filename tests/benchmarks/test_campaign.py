"""What the campaigns stand on: trials that do not depend on each other, results to go on from, and sharp eyes."""

import importlib
import json
from types import ModuleType

import pytest
from helpers import ROOT


@pytest.fixture
def trust(monkeypatch):
    """Imports a module of `benchmarks/trust`, as its programs do."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks" / "trust"))

    def named(name: str) -> ModuleType:
        return importlib.import_module(name)

    return named


def test_a_campaign_that_was_stopped_draws_the_same_trials(trust, tmp_path):
    whole, stopped = (trust("campaign").Results(tmp_path / name, 7) for name in ("whole", "stopped"))
    for trial, chance in whole.trials(5):
        whole.add(trial, drawn=chance.random())
    for trial, chance in stopped.trials(2):
        stopped.add(trial, drawn=chance.random())
    with stopped.file.open("a") as stream:
        stream.write('{"seed": 7, "trial": 2, "dra')  # it was killed while it wrote
    stopped = trust("campaign").Results(stopped.file, 7)
    for trial, chance in stopped.trials(5):
        stopped.add(trial, drawn=chance.random())
    assert stopped.file.read_text() == whole.file.read_text()
    assert len({row["drawn"] for row in whole.rows}) == 5


def test_trials_of_another_seed_are_not_gone_on_with(trust, tmp_path):
    trust("campaign").Results(tmp_path / "r", 1).add(0)
    with pytest.raises(SystemExit, match="expected trials of seed 2, found 1"):
        trust("campaign").Results(tmp_path / "r", 2)


@pytest.mark.parametrize(
    ("code", "stderr", "objection"),
    [
        (0, "a warning\nand another\n", ""),
        (2, "error: expected a folder\n", ""),
        (
            2,
            "error: expected a folder\nwhich is not there\n",
            "2 lines instead of one: error: expected a folder / which is not there",
        ),
        (1, "Traceback (most recent call last):\nValueError\n", "traceback"),
        (-11, "", "killed by SIGSEGV"),
        (None, "", "no end within the limit"),
    ],
)
def test_a_failure_is_a_code_and_one_line(trust, code, stderr, objection):
    assert trust("campaign").Ended(code, "", stderr, 1.0).objection == objection


def test_another_byte_another_number_and_a_draft_are_differences_and_times_are_not(trust, tmp_path):
    one, other = (tmp_path / name for name in ("one", "other"))
    for run_dir, seconds in ((one, 1.0), (other, 2.0)):
        (run_dir / "store/replay/abc").mkdir(parents=True)
        (run_dir / "cells.csv").write_text("a,b\n")
        (run_dir / "run.json").write_text(json.dumps({"plan": "p", "seconds": seconds, "sha256": str(seconds)}))
    differences = trust("same").differences
    assert list(differences(one, other)) == []
    (other / "cells.csv").write_text("a,c\n")
    (other / "run.json").write_text(json.dumps({"plan": "q"}))
    (other / "store/replay/abc").rename(other / "store/replay/abd")
    (other / ".123.cells.csv").touch()
    assert list(differences(one, other)) == [
        "left over: .123.cells.csv",
        "only one has .123.cells.csv",
        "only one has store/replay/abc",
        "only one has store/replay/abd",
        "cells.csv differs",
        "run.json differs",
    ]


def test_the_line_of_a_failure_comes_with_its_details(trust):
    stderr = "a warning\nerror: s.toml: not a suite\n  target.0: no such host\n"
    assert trust("campaign").Ended(2, "", stderr, 1.0).line == "error: s.toml: not a suite target.0: no such host"
    assert trust("campaign").Ended(1, "✓ train\nfailed: cell\n", "a warning\n", 1.0).line == "failed: cell"
    assert trust("campaign").Ended(0, "report: out\n", "one\nlast\n", 1.0).line == "last"

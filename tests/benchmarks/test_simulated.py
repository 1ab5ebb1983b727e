"""The simulation of `benchmarks/speed`: what is known of every schedule, and of some exactly."""

import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest
from helpers import ROOT
from helpers.command import environ
from helpers.suites import QUICK, write
from hypothesis import given
from hypothesis import strategies as st

from harness.config import read_suite
from harness.plan.plan import make
from harness.run.parts import PROBE_SECONDS

sys.path.append(str(ROOT / "benchmarks" / "speed"))
from simulated import Timed, critical_path, makespan, split
from times import ALIKE, MEASURED, NOTHING, USUAL, Row, Times, timed

SECONDS = st.integers(0, 100).map(float)


@st.composite
def plans(draw: st.DrawFn) -> list[Timed]:
    steps: list[Timed] = []
    for number in range(draw(st.integers(1, 12))):
        after = draw(st.frozensets(st.sampled_from([step.name for step in steps]))) if steps else frozenset()
        splits = draw(st.booleans())
        steps.append(Timed(str(number), "", draw(SECONDS), after, draw(st.integers(0, 3)), splits))
    return steps


@given(plans(), st.integers(1, 6))
def test_a_schedule_lasts_as_long_as_its_bounds_allow(steps: list[Timed], workers: int) -> None:
    """Below: the work shared out evenly, and the critical path; above, Graham's bound for list scheduling."""
    work, path = sum(step.seconds for step in steps), critical_path(steps).seconds
    lasts = makespan(steps, workers)
    assert max(work / workers, path) - 1e-6 <= lasts <= work / workers + path * (1 - 1 / workers) + 1e-6
    assert makespan(steps, 1) == pytest.approx(work)
    assert makespan(steps, len(steps)) == pytest.approx(path)


@given(plans())
def test_the_critical_path_is_a_path(steps: list[Timed]) -> None:
    found = critical_path(steps)
    assert found.seconds == pytest.approx(sum(step.seconds for step in found.steps))
    assert all(before.name in step.after for before, step in pairwise(found.steps))


@given(plans(), st.integers(1, 6))
def test_splitting_keeps_the_work_and_what_comes_after_what(steps: list[Timed], workers: int) -> None:
    made = split(steps, workers)
    assert sum(step.seconds for step in made) == pytest.approx(sum(step.seconds for step in steps))
    assert critical_path(made).seconds <= critical_path(steps).seconds + 1e-6
    seen: set[str] = set()
    for step in made:
        assert step.after <= seen
        seen.add(step.name)


def test_a_long_replay_is_done_by_all_workers_and_a_step_costs_the_scheduler_its_time() -> None:
    long = [Timed("replay", "", PROBE_SECONDS + 80, splits=True)]
    assert makespan(split(long, 4), 4) == PROBE_SECONDS + 20
    assert makespan(split(long, 100), 100) == PROBE_SECONDS + 20
    short = [Timed(str(number), "", 1.0) for number in range(100)]
    assert makespan(short, 1000, overhead=0.5) == pytest.approx(51.0)


def test_what_an_interrupted_run_did_not_measure_is_taken_from_its_like(tmp_path: Path) -> None:
    text = QUICK.replace("target_classes = [3]", "target_classes = [3, 4, 5]")
    plan = make(read_suite(write(tmp_path, text)), None, None)
    first, *others = (patch for patch in plan.patches if patch.surrogate)
    replays = [step for step in plan.replays if step.target.name == "ort"]
    clean = replays[0]
    rows = [Row("patch", first.name, 8.0), Row("replay", clean.what, 0.5, plan.suite.data.evaluate // 2)]
    times = Times(plan, rows, {"train": 100.0})
    found = {step.name: step.seconds for step in timed(plan, times)}
    assert {found[f"patch:{patch.key}"] for patch in (first, *others)} == {8.0}
    assert times.counts["craft"] == {MEASURED: 1, ALIKE: len(others)}
    assert sum(found[name] for name in found if name.startswith("replay:ort:")) == pytest.approx(1.0 * len(replays))
    same = len([step for step in replays if step.artifact == clean.artifact])
    assert times.counts["replay"] == {MEASURED: same, ALIKE: len(replays) - same}
    assert times.unknown["export"] == times.counts["export"][NOTHING] == 2
    assert USUAL not in times.counts["export"]
    assert sum(found[f"victim:{victim.key}"] for victim in plan.victims) == 100.0


@pytest.mark.slow
def test_a_plan_is_simulated_with_the_times_of_a_run(quick: Path) -> None:
    program = ROOT / "benchmarks" / "speed" / "scale.py"
    command = [sys.executable, program, "simulate", quick / "suite.toml"]
    said = subprocess.run([*command, quick / "none"], env=environ(), capture_output=True, text=True)
    assert said.returncode == 1
    assert "--seconds VERB=SECONDS" in said.stderr
    said = subprocess.run([*command, quick / "out" / "quick"], env=environ(), capture_output=True, text=True)
    assert said.returncode == 0, said.stderr
    assert "critical path" in said.stdout

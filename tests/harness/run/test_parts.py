"""Long replays in parts: the answers are those of the whole, to the bit, and a run that is stopped keeps its parts."""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers.brought import write_suite
from rich.console import Console

from backends.device.reading import read_json
from harness.config import read_suite
from harness.display import Display
from harness.plan.cells import ReplayStep
from harness.plan.plan import Plan, make
from harness.run import lanes, parts, perform, replays, stages
from harness.run.graph import graph
from harness.run.parts import split
from harness.store import Store, Took


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> Plan:
    folder = tmp_path_factory.mktemp("brought")
    return make(read_suite(write_suite(folder)), folder, folder)


@pytest.fixture(scope="module")
def whole(plan: Plan, tmp_path_factory: pytest.TempPathFactory) -> stages.Work:
    """The replays, not split."""
    work = work_in(plan, tmp_path_factory.mktemp("whole"))
    replays.replays(work, plan.replays)
    return work


@pytest.fixture
def split_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every replay takes long, and there are three cores."""
    monkeypatch.setattr(parts, "PROBE_SECONDS", 0.0)
    monkeypatch.setattr(parts, "PART_SECONDS", 1e-9)
    monkeypatch.setattr(lanes, "usable_cores", lambda: 3)


def work_in(plan: Plan, folder: Path) -> stages.Work:
    return stages.Work(plan, Store(folder / "store", pytest.fail), Display(Console(quiet=True)))


def test_a_replay_that_a_worker_has_done_is_not_done_again(whole: stages.Work) -> None:
    nodes = [node for node in graph(whole.plan).values() if node.stage == "replay"]
    assert nodes
    before = {key: whole.store.path(stage, key).stat().st_mtime_ns for node in nodes for stage, key in node.results}
    assert [perform.perform(whole, node, lanes.Share(), 1) for node in nodes] == [0] * len(nodes)
    assert before == {key: whole.store.path("replay", key).stat().st_mtime_ns for key in before}


def assert_same_answers(work: stages.Work, whole: stages.Work, steps: Sequence[ReplayStep]) -> None:
    assert not work.errors
    for step in steps:
        mine, theirs = (replays.answers(one, step) for one in (work, whole))
        assert mine.logits is not None
        assert theirs.logits is not None
        assert mine.logits.tobytes() == theirs.logits.tobytes()
        assert mine.integers is not None
        np.testing.assert_array_equal(mine.integers, theirs.integers)
        said, wanted = (read_json(one.store.path("replay", step.key) / "ran.json") for one in (work, whole))
        assert said.pop("seconds") > 0
        assert wanted.pop("seconds") > 0
        assert said == wanted


def test_answers_are_those_of_the_whole(
    plan: Plan, whole: stages.Work, split_all: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    work = work_in(plan, tmp_path)
    work.display = Display(Console())
    replays.replays(work, plan.replays)
    told = capsys.readouterr().out
    assert re.search(r"replay resnet8 on one, \d cases in 3 parts", told)
    assert re.search(r"replay resnet8 on sixteen, \d cases in 3 parts", told)
    assert_same_answers(work, whole, plan.replays)
    assert not list(work.store.root.glob("part/*"))


class Filling(Store):
    """A store whose disk is full after some parts; it counts them."""

    def __init__(self, root: Path, room: int = 1000) -> None:
        super().__init__(root, pytest.fail)
        self.room = self.free = room

    @contextmanager
    def writing(self, stage: str, key: str, took: Took | None = None) -> Iterator[Path]:
        if stage == "part":
            if not self.free:
                raise OSError("no space")
            self.free -= 1
        with super().writing(stage, key, took) as folder:
            yield folder


def test_a_run_that_is_stopped_goes_on_with_the_parts_that_it_has(
    plan: Plan, whole: stages.Work, split_all: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = [step for step in plan.replays if step.target.name == "one"]
    work = work_in(plan, tmp_path)
    work.store = Filling(tmp_path / "store", room=7)
    with pytest.raises(OSError, match="no space"):
        replays.replays(work, steps)
    answered = [step for step in steps if work.store.has("replay", step.key)]
    monkeypatch.setattr(lanes, "usable_cores", lambda: 8)  # another machine: it goes on with the parts as they are
    work.store = Filling(tmp_path / "store")
    replays.replays(work, steps)
    assert work.store.room - work.store.free == 3 * (len(steps) - len(answered)) - 7
    assert_same_answers(work, whole, steps)


def test_a_case_of_which_a_part_fails_has_its_error(plan: Plan, split_all: None, tmp_path: Path) -> None:
    work = work_in(plan, tmp_path)
    target = replace(plan.targets[0], runtime="dummy", options={"fault": "raise", "at": 10})
    steps = [replace(step, target=target, decided="") for step in plan.replays if step.target == plan.targets[0]][:2]
    replays.replays(work, steps)
    for step in steps:
        assert replays.answers(work, step).logits is None
        assert "kernel panic" in replays.answers(work, step).error


@pytest.mark.parametrize(("images", "batch", "parts_"), [(40, 16, 3), (40, 16, 8), (7, 1, 2), (1, 1, 5), (1000, 1, 16)])
def test_parts_are_whole_batches_and_cover_the_images(images: int, batch: int, parts_: int) -> None:
    found = split(images, batch, parts_)
    assert len(found) == min(parts_, -(-images // batch))
    covered = [i for part in found for i in range(images)[part.images]]
    assert covered == list(range(images))
    assert all(part.images.start % batch == 0 for part in found)
    sizes = [len(range(images)[part.images]) for part in found]
    assert max(sizes) - min(sizes) <= batch + images % batch

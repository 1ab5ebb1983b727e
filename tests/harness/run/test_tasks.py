"""What a plan has to do, and how long it takes as earlier runs tell."""

from pathlib import Path

import pytest
from helpers.plans import plan
from helpers.suites import QUICK

from harness.run import tasks as tasks_module
from harness.run.tasks import KnownTimes, Task, batches, expected, known_times, tasks
from harness.store import Store, Took


def test_how_long_a_result_took_is_known_to_the_next_run(tmp_path: Path) -> None:
    store = Store(tmp_path / "a" / "store", print)
    for key, what, seconds in (("1", "gap-c3", 10.0), ("2", "gap-c4", 30.0), ("3", "grey-s0", 0.1)):
        with store.writing("patch", key, Took("craft", what, seconds)):
            pass
    with store.writing("victim", "1", Took("train", "resnet8")) as folder:
        (folder / "weights").touch()
    known = known_times(tmp_path / "b")  # a run beside it, which has no store
    assert sorted(known.took) == ["patch", "victim"]
    assert 0 <= (known.took["victim"][0].seconds or 0) < 60
    assert known.estimate(Task("patch", "", "craft", "gap-c4")) == 30  # the same
    assert known.estimate(Task("patch", "", "craft", "gap-c5")) == 20  # the middle of its kind
    assert known.estimate(Task("patch", "", "craft", "lavan-c5")) is None
    assert known.estimate(Task("qat", "", "train", "resnet8")) is None


def test_a_replay_takes_as_long_as_it_has_images_and_another_target_tells_nothing() -> None:
    known = KnownTimes({"replay": [Took("replay", "net on litert", 2.0, images=100)]})
    assert known.estimate(Task("replay", "", "replay", "net on litert", 50)) == 1
    assert known.estimate(Task("replay", "", "replay", "other on litert", 500)) == 10
    assert known.estimate(Task("replay", "", "replay", "net on board", 50)) is None


def test_what_a_defence_takes_tells_nothing_of_another(tmp_path: Path) -> None:
    text = QUICK.replace("schema = 1\n", 'schema = 1\ndefence = ["none", "patchcleanser:4"]\n')
    todo = [task for task in tasks(plan(tmp_path, text)) if task.verb == "replay"]
    behind = [task for task in todo if task.what.endswith(", patchcleanser:4")]
    known = KnownTimes({"replay": [Took("replay", task.what, 100.0, task.images) for task in behind]})
    assert behind
    assert {known.estimate(task) for task in behind} == {100.0}
    assert {known.estimate(task) for task in todo if task not in behind} == {None}


@pytest.mark.parametrize("text", ["{", "[]", '{"verb": "craft", "what": 1}', '{"what": "x", "seconds": 1}'])
def test_a_time_that_cannot_be_read_is_none(text: str, tmp_path: Path) -> None:
    folder = tmp_path / "run" / "store" / "patch" / "key"
    folder.mkdir(parents=True)
    (folder / "took.json").write_text(text)
    assert known_times(tmp_path / "run").took == {}


def test_training_tells_nothing_of_loading_nor_exporting_of_reading() -> None:
    known = KnownTimes(
        {
            "victim": [Took("train", "net", 900.0), Took("load", "other", 2.0)],
            "artifact": [Took("read", "net", 1.0)],
        }
    )
    assert known.estimate(Task("victim", "", "train", "other")) == 900
    assert known.estimate(Task("victim", "", "load", "net")) == 2
    assert known.estimate(Task("artifact", "", "export", "net")) is None


def test_the_cases_of_a_file_on_a_target_are_one_batch_that_takes_as_long_as_all_of_them(tmp_path: Path) -> None:
    missing = [task for task in tasks(plan(tmp_path)) if task.verb == "replay"]
    counts = batches(missing)
    known = KnownTimes({"replay": [Took("replay", task.what, 2.0, task.images) for task in missing]})
    assert len(missing) > counts["replay"] > 1
    assert expected(missing, known)["replay"] == pytest.approx(2.0 * len(missing) / counts["replay"])
    assert expected(missing, KnownTimes({})) == {}


def test_a_large_plan_is_estimated_in_a_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is measured is looked at once, not once for each task."""
    looked: list[str] = []
    kind = tasks_module._kind
    monkeypatch.setattr(tasks_module, "_kind", lambda stage, what: looked.append(what) or kind(stage, what))
    known = KnownTimes({"replay": [Took("replay", f"net{i} on litert", i / 8, images=10) for i in range(1000)]})
    found = [known.estimate(Task("replay", "", "replay", f"net{i} on litert", 20)) for i in range(2000)]
    assert len(looked) <= 1000 + 2000
    assert found[:3] == [0.0, 0.25, 0.5]
    assert set(found[1000:]) == {2 * 499.5 / 8}  # the median

"""What a plan has to do, and how long it takes as earlier runs tell."""

from pathlib import Path

import pytest
from helpers.plans import plan

from harness.run.tasks import Task, batches, estimate, expected, known_times, tasks
from harness.store import Store, Took


def test_how_long_a_result_took_is_known_to_the_next_run(tmp_path: Path) -> None:
    store = Store(tmp_path / "a" / "store", print)
    for key, what, seconds in (("1", "gap-c3", 10.0), ("2", "gap-c4", 30.0), ("3", "grey-s0", 0.1)):
        with store.writing("patch", key, Took("craft", what, seconds)):
            pass
    with store.writing("victim", "1", Took("train", "resnet8")) as folder:
        (folder / "weights").touch()
    known = known_times(tmp_path / "b")  # a run beside it, which has no store
    assert sorted(known) == ["patch", "victim"]
    assert 0 <= (known["victim"][0].seconds or 0) < 60
    assert estimate(Task("patch", "", "craft", "gap-c4"), known) == 30  # the same
    assert estimate(Task("patch", "", "craft", "gap-c5"), known) == 20  # the middle of its kind
    assert estimate(Task("patch", "", "craft", "lavan-c5"), known) is None
    assert estimate(Task("qat", "", "train", "resnet8"), known) is None


def test_a_replay_takes_as_long_as_it_has_images_and_another_target_tells_nothing() -> None:
    known = {"replay": [Took("replay", "net on litert", 2.0, images=100)]}
    assert estimate(Task("replay", "", "replay", "net on litert", 50), known) == 1
    assert estimate(Task("replay", "", "replay", "other on litert", 500), known) == 10
    assert estimate(Task("replay", "", "replay", "net on board", 50), known) is None


@pytest.mark.parametrize("text", ["{", "[]", '{"verb": "craft", "what": 1}', '{"what": "x", "seconds": 1}'])
def test_a_time_that_cannot_be_read_is_none(text: str, tmp_path: Path) -> None:
    folder = tmp_path / "run" / "store" / "patch" / "key"
    folder.mkdir(parents=True)
    (folder / "took.json").write_text(text)
    assert known_times(tmp_path / "run") == {}


def test_training_tells_nothing_of_loading_nor_exporting_of_reading() -> None:
    known = {
        "victim": [Took("train", "net", 900.0), Took("load", "other", 2.0)],
        "artifact": [Took("read", "net", 1.0)],
    }
    assert estimate(Task("victim", "", "train", "other"), known) == 900
    assert estimate(Task("victim", "", "load", "net"), known) == 2
    assert estimate(Task("artifact", "", "export", "net"), known) is None


def test_the_cases_of_a_file_on_a_target_are_one_batch_that_takes_as_long_as_all_of_them(tmp_path: Path) -> None:
    missing = [task for task in tasks(plan(tmp_path)) if task.verb == "replay"]
    counts = batches(missing)
    known = {"replay": [Took("replay", task.what, 2.0, task.images) for task in missing]}
    assert len(missing) > counts["replay"] > 1
    assert expected(missing, known)["replay"] == pytest.approx(2.0 * len(missing) / counts["replay"])
    assert expected(missing, {}) == {}

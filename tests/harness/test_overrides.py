"""``--set`` and ``--limit``: a suite changed from the command line is one written that way, mistakes included."""

from pathlib import Path

import pytest
from helpers.suites import QUICK, SECOND_TARGET, write

from backends.device.errors import UserError
from harness.config import Overrides, Suite, read_suite

LABELLED = '\n[[attack]]\nname = "gap"\nlabel = "far.off"\ntarget_classes = 4\npixels = 6\n'


def changed(folder: Path, *settings: str, text: str = QUICK + SECOND_TARGET + LABELLED) -> Suite:
    return read_suite(write(folder, text), Overrides(settings))


@pytest.mark.parametrize(
    ("setting", "old", "new"),
    [
        ("data.evaluate=50", "evaluate = 40", "evaluate = 50"),
        ("attack.0.options.steps=10", "steps = 3", "steps = 10"),
        ('attack."far.off".pixels=[4, 5]', "pixels = 6", "pixels = [4, 5]"),
        ("attack.0.seeds=[1, 2]", "pixels = 8", "pixels = 8\nseeds = [1, 2]"),
        ("attack.0.target_classes.0=7", "target_classes = [3]", "target_classes = [7]"),
        ("target.ort-plain.threads=2", 'name = "ort-plain"', 'name = "ort-plain"\nthreads = 2'),
        ("victim.resnet8.train.epochs = 2", "epochs = 1", "epochs = 2"),
        ("export.0.calibration=entropy", '["minmax", "moving_average"]', '"entropy"'),
        ('title = "a = b"', 'name = "quick"', 'name = "quick"\ntitle = "a = b"'),
        ("title=a b = c", 'name = "quick"', 'name = "quick"\ntitle = "a b = c"'),
        ("latency.threads=all", "seconds = 0", 'seconds = 0\nthreads = "all"'),
        ("controls={noise = 2, grey = 0}", "noise = 1", "noise = 2\ngrey = 0"),
    ],
)
def test_a_changed_suite_is_one_written_that_way(tmp_path: Path, setting: str, old: str, new: str) -> None:
    text = QUICK + SECOND_TARGET + LABELLED
    assert old in text
    written = read_suite(write(tmp_path, text.replace(old, new, 1)))
    assert changed(tmp_path, setting) == written
    assert written != read_suite(write(tmp_path, text))


def test_a_later_setting_changes_what_an_earlier_one_made(tmp_path: Path) -> None:
    made = changed(tmp_path, "attack.0.pose={rotation = 10}", "attack.0.pose.scale=0.1", "attack.0.pose.rotation=5")
    assert (made.attack[0].pose.rotation, made.attack[0].pose.scale) == (5, 0.1)


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ("data.evalute=50", "with --set data.evalute=50: not a suite\n  data.evalute: unknown key; did you mean 'ev"),
        ("dat.evaluate=50", "with --set dat.evaluate=50: not a suite\n  dat: unknown key; did you mean 'data'?"),
        ("data.evaluate=many", "  data.evaluate: expected an integer, got 'many'"),
        ("data.evaluate=[1", "  data.evaluate: expected an integer, got '[1'"),
        ("data.evaluate=0", "  data.evaluate: expected a number of at least 1, got 0"),
        ("data.evaluate", "--set data.evaluate: expected KEY=VALUE, such as data.evaluate=50"),
        ("=50", "--set =50: expected a key such as data.evaluate before the ="),
        ("data evaluate=50", "--set data evaluate=50: expected a key such as data.evaluate"),
        ("attack.2.pixels=3", "--set attack.2.pixels=3: no entry 2; the list has 2, counted from 0"),
        ("attack.gap.pixels=3", "2 tables named 'gap'; give a number, one of [0, 1]"),
        ("target.ort-plan.threads=2", "no table named 'ort-plan'; did you mean 'ort-plain'?"),
        ("name.short=x", "--set name.short=x: expected a table to set 'short' in, found 'quick'"),
        ("data.evaluate=1\nname='x'", "  data.evaluate: expected an integer"),
        (f"{'.'.join('a' * 600)}=1", "expected a key such as data.evaluate"),
        ("data.evaluate=999999999999999999999", "data.evaluate: expected an integer of 64 bits"),
    ],
)
def test_a_mistake_names_the_setting_and_the_mend(tmp_path: Path, setting: str, says: str) -> None:
    with pytest.raises(UserError) as error:
        changed(tmp_path, setting)
    assert says in str(error.value)


@pytest.mark.parametrize(("limit", "evaluated"), [(10, 10), (40, 40), (5000, 40), (None, 40)])
def test_a_limit_is_the_most_images_and_never_more_than_the_suite_has(
    tmp_path: Path, limit: int | None, evaluated: int
) -> None:
    suite = read_suite(write(tmp_path), Overrides(limit=limit))
    assert suite == read_suite(write(tmp_path, QUICK.replace("evaluate = 40", f"evaluate = {evaluated}")))

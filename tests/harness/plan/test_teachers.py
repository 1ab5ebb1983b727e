"""Victims that learn from another."""

from pathlib import Path

import pytest
from helpers.plans import plan
from helpers.suites import QUICK

from backends.device.errors import UserError

PUPIL = """
[[victim]]
name = "pupil"
model = "resnet8"
train = { epochs = 1, teacher = "TEACHER" }
"""


def test_a_pupil_depends_on_its_teacher(tmp_path: Path) -> None:
    text = QUICK + PUPIL.replace("TEACHER", "resnet8")
    before, after = (plan(tmp_path, t).victims for t in (text, text.replace("epochs = 1", "epochs = 2", 1)))
    assert before[1].teacher == before[0]
    assert before[1].key != after[1].key


@pytest.mark.parametrize(("teacher", "says"), [("nobody", "not a .*victim"), ("pupil", "has a teacher itself")])
def test_a_teacher_that_cannot_teach_is_refused(tmp_path: Path, teacher: str, says: str) -> None:
    with pytest.raises(UserError, match=says):
        plan(tmp_path, QUICK + PUPIL.replace("TEACHER", teacher))

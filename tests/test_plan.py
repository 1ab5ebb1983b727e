"""Plans: what a suite asks for, no more; and what a change makes new, no more."""

import subprocess
import sys
from pathlib import Path

import pytest
from suites import QUICK, SECOND_TARGET, write

from harness.config import read_suite
from harness.plan import Plan, make
from harness.schema import UserError


def plan(folder: Path, text: str = QUICK, **kwargs: tuple[str, ...]) -> Plan:
    return make(read_suite(write(folder, text)), None, folder / "cache", **kwargs)


def keys(of: Plan, kind: str) -> set[str]:
    return {step.key for step in getattr(of, kind)}


def test_a_plan_is_the_product_of_its_axes(tmp_path: Path) -> None:
    made = plan(tmp_path)
    assert [a.name for a in made.artifacts] == ["resnet8-onnx-s8s8-minmax", "resnet8-onnx-s8s8-moving_average"]
    assert {p.attack for p in made.patches} == {"gap", "grey", "noise"}
    # torch and two artifacts, each clean, attacked, and under two controls
    assert len(made.cells) == 3 * 4
    assert {c.target_class for c in made.cells if c.replay.case.patch} == {3}


def test_controls_lie_in_the_patchs_own_places(tmp_path: Path) -> None:
    cases = {c.replay.case.patch.attack: c.replay.case for c in plan(tmp_path).cells if c.replay.case.patch}
    assert set(cases) == {"gap", "grey", "noise"}
    assert {(c.px, c.placement, c.placement_seed) for c in cases.values()} == {(8, "random", 0)}


def test_a_new_target_makes_new_replays_of_its_own_alone(tmp_path: Path) -> None:
    before, after = plan(tmp_path), plan(tmp_path, QUICK + SECOND_TARGET)
    for kind in ("victims", "artifacts", "patches"):
        assert keys(before, kind) == keys(after, kind)
    new = [step for step in after.replays if step.key not in keys(before, "replays")]
    assert keys(before, "replays") < keys(after, "replays")
    assert {step.target.name for step in new} == {"ort-plain"}


@pytest.mark.parametrize(
    ("old", "new", "same", "changed"),
    [
        ("evaluate = 40", "evaluate = 41", (), ("replays",)),
        ("steps = 3", "steps = 4", ("victims", "artifacts"), ("patches", "replays")),
        ("epochs = 1", "epochs = 2", (), ("victims", "artifacts", "patches", "replays")),
        ("runs = 5", "runs = 6", ("victims", "artifacts", "patches", "replays"), ("latencies",)),
        ('name = "ort"', 'name = "other"', ("victims", "artifacts", "patches", "replays", "latencies"), ()),
    ],
)
def test_a_change_makes_new_what_depends_on_it(
    tmp_path: Path, old: str, new: str, same: tuple[str, ...], changed: tuple[str, ...]
) -> None:
    before, after = plan(tmp_path), plan(tmp_path, QUICK.replace(old, new, 1))
    for kind in same:
        assert keys(before, kind) == keys(after, kind), kind
    for kind in changed:
        assert keys(before, kind) != keys(after, kind), kind
    assert before.key != after.key


def test_targets_are_selected_by_pattern(tmp_path: Path) -> None:
    made = plan(tmp_path, QUICK + SECOND_TARGET, targets=("*plain",))
    assert {c.replay.target.name for c in made.cells} == {"torch", "ort-plain"}
    with pytest.raises(UserError, match="the suite has ort"):
        plan(tmp_path, targets=("litert*",))


def test_two_targets_alike_share_replays_and_keep_their_names(tmp_path: Path) -> None:
    twin = '\n[[target]]\nname = "again"\nruntime = "onnxruntime"\n'
    made = plan(tmp_path, QUICK + twin)
    assert keys(made, "replays") == keys(plan(tmp_path), "replays")
    assert {c.replay.target.name for c in made.cells} == {"torch", "ort", "again"}


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("pixels = 8", "", "give either area"),
        ('name = "gap"', 'name = "gap"\nsurrogate = "float:nobody"', "which is no victim of this suite"),
    ],
)
def test_what_cannot_be_planned_is_said(tmp_path: Path, old: str, new: str, says: str) -> None:
    with pytest.raises(UserError, match=says):
        plan(tmp_path, QUICK.replace(old, new, 1))


def test_planning_loads_no_torch(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from harness.config import read_suite; from harness.plan import make; "
        f"p = make(read_suite(Path({str(write(tmp_path))!r})), None, Path({str(tmp_path)!r})); p.key; "
        "sys.exit(int(any(m in sys.modules for m in ('torch', 'onnxruntime', 'sklearn'))))"
    )
    subprocess.run([sys.executable, "-c", code], check=True)

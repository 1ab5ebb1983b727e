"""Plans: what a suite asks for, no more; and what a change makes new, no more."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers import tiny
from helpers.plans import keys, plan
from helpers.suites import QUICK, SECOND_TARGET, write
from PIL import Image
from rich.console import Console

from backends.device.errors import UserError
from harness.config import read_suite
from harness.display import Display
from harness.plan.plan import Plan, make
from harness.results import records
from harness.run import crafting
from harness.run.stages import Work
from harness.store import Store


def test_a_plan_is_the_product_of_its_axes(tmp_path: Path) -> None:
    made = plan(tmp_path)
    assert [a.name for a in made.artifacts] == ["resnet8-onnx-s8s8-minmax", "resnet8-onnx-s8s8-moving_average"]
    assert {p.attack for p in made.patches} == {"gap", "grey", "noise"}
    # torch and two artifacts, each clean, attacked, and under two controls
    assert len(made.cells) == 3 * 4
    assert {c.replay.case.defence for c in made.cells} == {""}
    assert {c.target_class for c in made.cells if c.replay.case.patch} == {3}


def test_a_file_with_a_compilers_ranges_has_a_name_that_a_surrogate_can_say(tmp_path: Path) -> None:
    suite = QUICK.replace('"moving_average"]', '"rknn:kl_divergence"]')
    made = plan(
        tmp_path, suite.replace('name = "gap"', 'name = "gap"\nsurrogate = "twin:resnet8-onnx-s8s8-rknn-kl_divergence"')
    )
    (patch,) = (patch for patch in made.patches if patch.attack == "gap")
    assert patch.surrogate
    assert patch.surrogate.artifact == made.artifacts[1]


def test_files_that_no_target_runs_are_left_out_but_for_those_that_patches_are_made_on(tmp_path: Path) -> None:
    elsewhere = QUICK.replace('runtime = "onnxruntime"', 'runtime = "litert"').replace('"onnx"', '["onnx", "tflite"]')
    made = plan(tmp_path, elsewhere)
    assert {a.format for a in made.artifacts} == {"tflite"}
    assert {a.format for a in made.left_out} == {"onnx"}
    asked = 'name = "gap"\nsurrogate = ["twin:resnet8-onnx-s8s8-minmax"]'
    made = plan(tmp_path, elsewhere.replace('name = "gap"', asked))
    assert [a.name for a in made.artifacts if a.format == "onnx"] == ["resnet8-onnx-s8s8-minmax"]
    assert [a.name for a in made.left_out] == ["resnet8-onnx-s8s8-moving_average"]


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


def test_a_runtime_of_one_thread_is_timed_on_one(tmp_path: Path) -> None:
    text = QUICK.replace('"onnx"', '"tflite"').replace("runs = 5", 'threads = ["all"]')
    threads = {step.target.threads for step in plan(tmp_path, text.replace("onnxruntime", "tflite_micro")).latencies}
    assert threads == {1}


@pytest.mark.parametrize(("runtime", "files"), [("tflite_micro", {"fp32", "w8a8"}), ("tosa", {"w8a8"})])
def test_a_runtime_that_takes_integers_alone_gets_no_file_in_float(
    tmp_path: Path, runtime: str, files: set[str]
) -> None:
    float_too = '\n[[export]]\nformat = "tflite"\nprecision = "fp32"\n'
    text = QUICK.replace('"onnx"', '"tflite"').replace("onnxruntime", runtime) + float_too
    made = plan(tmp_path, text)
    assert {c.replay.artifact.precision for c in made.cells if c.replay.target.name != "torch"} == files


def test_two_targets_alike_share_replays_and_keep_their_names(tmp_path: Path) -> None:
    twin = '\n[[target]]\nname = "again"\nruntime = "onnxruntime"\n'
    made = plan(tmp_path, QUICK + twin)
    assert keys(made, "replays") == keys(plan(tmp_path), "replays")
    assert {c.replay.target.name for c in made.cells} == {"torch", "ort", "again"}


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("pixels = 8", "", "give either area"),
        ('name = "gap"', 'name = "gap"\nsurrogate = "float:nobody"', "no victim of this suite is named 'nobody'"),
    ],
)
def test_what_cannot_be_planned_is_said(tmp_path: Path, old: str, new: str, says: str) -> None:
    with pytest.raises(UserError, match=says):
        plan(tmp_path, QUICK.replace(old, new, 1))


BROUGHT = """
schema = 1
name = "brought"
[data]
name = "digits"
calibration = 0
evaluate = 40
[[artifact]]
name = "theirs"
file = "theirs.onnx"
[[attack]]
name = "gap"
target_classes = [3]
pixels = 8
[[target]]
name = "ort"
runtime = "onnxruntime"
"""


def test_a_file_is_attacked_on_its_twin_and_needs_no_calibration(tmp_path: Path) -> None:
    tiny.onnx_file(tmp_path / "theirs.onnx")
    with pytest.raises(UserError, match=r"'theirs' is a file: surrogate = \"twin:theirs\" makes patches on it"):
        plan(tmp_path, BROUGHT, tmp_path)
    on_twin = BROUGHT.replace("pixels", 'surrogate = "twin:theirs"\npixels')
    assert [patch.surrogate.name for patch in plan(tmp_path, on_twin, tmp_path).patches if patch.surrogate] == [
        "twin-theirs"
    ]


def test_planning_loads_no_torch(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from harness.config import read_suite; "
        "from harness.plan.plan import make; "
        f"p = make(read_suite(Path({str(write(tmp_path))!r})), None, Path({str(tmp_path)!r})); p.key; "
        "sys.exit(int(any(m in sys.modules for m in ('torch', 'onnxruntime', 'sklearn'))))"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def of_attack(made: Plan) -> dict[str, list]:
    """The cells of a plan on torch, by what they are called."""
    found: dict[str, list] = {}
    for cell in made.cells:
        if cell.replay.target.name == "torch" and (patch := cell.replay.case.patch):
            found.setdefault(cell.control or patch.label or patch.attack, []).append(cell)
    return found


def test_a_patch_of_another_class_is_a_control_and_no_replay_more(tmp_path: Path) -> None:
    three = QUICK.replace("target_classes = [3]", "target_classes = [3, 5, 7]")
    plain, made = plan(tmp_path, three), plan(tmp_path, three.replace("noise = 1", "noise = 1\nother_class = 1"))
    assert keys(plain, "replays") == keys(made, "replays")
    others = of_attack(made)["other_class"]
    assert {(c.replay.case.patch.target_class, c.target_class) for c in others} == {(3, 5), (5, 7), (7, 3)}
    all_others = plan(tmp_path, three.replace("noise = 1", "other_class = 9"))
    assert len(of_attack(all_others)["other_class"]) == 6


def test_stickers_are_of_the_class_that_they_are_judged_for(tmp_path: Path) -> None:
    text = QUICK.replace("target_classes = [3]", "target_classes = [3, 5]").replace("noise = 1", "sticker = 2")
    stickers = of_attack(plan(tmp_path, text))["sticker"]
    assert [(c.replay.case.patch.target_class, c.replay.case.patch.seed, c.target_class) for c in stickers] == [
        (3, 0, 3), (3, 1, 3), (5, 0, 5), (5, 1, 5),
    ]  # fmt: skip


def test_patches_for_each_image_are_made_for_a_place(tmp_path: Path) -> None:
    text = QUICK.replace(
        "pixels = 8", 'pixels = 8\nper_image = true\nplacement = ["random", "center"]\nplacement_seed = 4'
    )
    patches = [p for p in plan(tmp_path, text).patches if p.attack == "gap"]
    assert [(p.placement, p.placement_seed, p.split) for p in patches] == [
        ("random", 4, "evaluate"),
        ("center", 0, "evaluate"),
    ]
    assert set(of_attack(plan(tmp_path, text))) == {"gap-each", "grey", "noise"}
    universal = plan(tmp_path, text.replace("per_image = true", "label = 'plain'"))
    assert len([p for p in universal.patches if p.attack == "gap"]) == 1, "one patch for all places"
    assert set(of_attack(universal)) == {"plain", "grey", "noise"}
    known = plan(tmp_path, text.replace("per_image = true", "place_known = true"))
    assert {(p.placement, p.split) for p in known.patches if p.attack == "gap"} == {
        ("random", "craft"),
        ("center", "craft"),
    }


def test_controls_lie_where_each_patch_chose_to(tmp_path: Path) -> None:
    text = QUICK.replace("pixels = 8", 'pixels = 8\nplacement = "best"').replace("[3]", "[3, 5]")
    found = of_attack(plan(tmp_path, text))
    for control in ("grey", "noise"):
        assert [(c.replay.case.at.target_class, c.target_class) for c in found[control]] == [(3, 3), (5, 5)]


def test_an_imported_patch_needs_a_file_and_no_victim(tmp_path: Path) -> None:
    text = QUICK.replace('"gap"', '"imported"').replace("steps = 3", "file = 'p.png'")
    with pytest.raises(UserError, match="found no file"):
        plan(tmp_path, text)
    Image.new("RGB", (8, 8), (1, 2, 3)).save(tmp_path / "p.png")
    first = make(read_suite(write(tmp_path, text)), tmp_path, tmp_path / "cache")
    (patch,) = (p for p in first.patches if p.attack == "imported")
    assert (patch.surrogate, patch.target_class, patch.px, patch.shape) == (None, 3, 8, "square")
    Image.new("RGB", (8, 8), (1, 2, 4)).save(tmp_path / "p.png")
    second = make(read_suite(write(tmp_path, text)), tmp_path, tmp_path / "cache")
    assert len(keys(second, "patches") - keys(first, "patches")) == 1, "another file is another patch"
    with pytest.raises(UserError, match="shape of a patch is its file's own"):
        make(read_suite(write(tmp_path, text.replace("pixels", "shape = 'round'\npixels"))), tmp_path, tmp_path)


def test_controls_of_an_imported_patch_have_its_mask(tmp_path: Path) -> None:
    text = (
        QUICK.replace('"gap"', '"imported"').replace("steps = 3", "file = 'p.png'").replace("pixels = 8", "area = 0.05")
    )
    text = text.replace("noise = 1", "noise = 1\nsticker = 1")
    rgba = np.full((8, 8, 4), 200, np.uint8)
    rgba[:, :4, 3] = 0
    Image.fromarray(rgba, "RGBA").save(tmp_path / "p.png")
    made = make(read_suite(write(tmp_path, text)), tmp_path, tmp_path / "cache")
    work = Work(made, Store(tmp_path / "store", print), Display(Console(quiet=True)), "cpu", {})
    assert {p.attack for p in made.patches} == {"imported", "grey", "noise", "sticker"}
    (shape,) = {p.shape for p in made.patches}
    assert shape.startswith("alpha-")
    for step in made.patches:
        patch = crafting.patch(work, step)
        assert (patch.px, patch.shape) == (10, shape), "the area is that which is covered"
        assert (patch.mask == (np.arange(10) >= 5)).all()
        assert not patch.pixels[~patch.mask].any()
        assert patch.pixels[patch.mask].any()
    cell = next(c for c in made.cells if c.replay.case.patch)
    columns = records.columns(cell, records.Answers(None, "", {}, {}), cell.replay.artifact.precision)
    assert (columns["shape"], columns["patch_area"]) == (shape, 50 / 32**2)
    rgba[:, :5, 3] = 0
    Image.fromarray(rgba, "RGBA").save(tmp_path / "p.png")
    suite = read_suite(write(tmp_path, text.replace("area = 0.05", "pixels = 1")))
    with pytest.raises(UserError, match="at 1 pixels nothing is left of the mask"):
        make(suite, tmp_path, tmp_path / "cache")


GAP = "\ntarget_classes = [3]\npixels = 8\noptions = { steps = 3 }"
EXACT = "\npixels = 8\noptions.bfloat16 = true\nsurrogate = {}"


def test_a_label_is_no_controls(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is the name of a control"):
        plan(tmp_path, QUICK.replace("pixels = 8", "pixels = 8\nlabel = 'noise'"))


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ('name = "gap"', 'name = "gapp"', "no attack named 'gapp'; did you mean 'gap'"),
        ('name = "gap"', 'name = "gap"\nsurrogate = "fake_qant:w4a4"', "no surrogate named 'fake_qant'; did you mean"),
        ('name = "gap"', 'name = "gap"\nsurrogate = "fake_quant:w9a9"', "each 2 to 8, or 32 for float, got 'w9a9'"),
        ('name = "gap"', 'name = "gap"\nplacement = "bst"', "placement 'bst': expected .* did you mean 'best'"),
        ('name = "gap"', 'name = "pgd"', "attack 'pgd' makes a patch for each image: .* per_image = true"),
        ("steps = 3", "stepz = 3", "attack 'gap' has no option 'stepz'; did you mean 'steps'"),
        ("steps = 3", "steps = 0", "attack 'gap', option 'steps': expected a number of at least 1, got 0"),
        ('"gap"' + GAP, '"imported"\npixels = 8', "give its file under --data"),
        ('"gap"' + GAP, '"imported"\npixels = 8\ndefence = "jpeg:75"', "expects no defence: leave defence out"),
        (GAP, GAP + "\nthrough = 'jpeg:75'", "the key through is now called defence"),
        (GAP, GAP + "\ndefence = 'jpg:75'", "defence.*: defence 'jpg:75': no defence named 'jpg'; "),
        (GAP, GAP + "\ndefence = 'pat:8'", "defence 'pat:8' works in training: name it in a victim's train"),
        (GAP, GAP + "\ndefence = 'jpeg:0'", "defence.*: defence 'jpeg:0': expected jpeg:QUALITY, from 1 to 100"),
        ('"gap"' + GAP, '"pgd"\npixels = 8\nper_image = true\noptions.restarts = 0', "'restarts': .* at least 1"),
        (
            '"gap"' + GAP,
            '"sparse_rs"\npixels = 8\noptions.queries = 7',
            "at least 16, two for each",
        ),
        ('"gap"' + GAP, '"sparse_rs"\npixels = 8\nper_image = true\noptions.queries = 39', "at least 80, two for each"),
        (GAP, EXACT.format('"qat:w4a4"'), "surrogate 'qat:w4a4': quantized surrogates need float32"),
        (GAP, EXACT.format('"fake_quant:w8a8"'), "surrogate 'fake_quant:w8a8': .* need float32"),
        (GAP, EXACT.format('[["float", "twin:x"]]'), "surrogate 'twin:x': .* need float32"),
    ],
)
def test_what_an_attack_cannot_be_is_said_before_anything_is_done(
    tmp_path: Path, old: str, new: str, says: str
) -> None:
    with pytest.raises(UserError, match=says):
        plan(tmp_path, QUICK.replace(old, new, 1))

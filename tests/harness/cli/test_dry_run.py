"""``run --dry-run``: what would be done and what is stored, how long the rest takes, and what the numbers can tell."""

import io
import json
from pathlib import Path

import pytest
from helpers import tiny
from helpers.command import patchbench
from helpers.plans import plan
from helpers.suites import QUICK, write

from backends.device.errors import UserError
from harness.cli.dry_run import dry_run, duration, images_to_beat_noise, images_to_gate, print_dry_run, rows_of
from harness.config.overrides import NO_OVERRIDES
from harness.console import console
from harness.store import Store

BROUGHT = """
schema = 1
name = "brought"
[data]
name = "digits"
evaluate = 100
[[artifact]]
name = "theirs"
file = "{file}"
input_size = [{size}, {size}]
[[attack]]
name = "noise"
pixels = 2
[[target]]
name = "here"
runtime = "{runtime}"
"""


def test_the_tasks_of_a_plan_are_counted_by_kind_and_what_is_stored_is_left_out(tmp_path: Path) -> None:
    made = plan(tmp_path)
    store = Store(tmp_path / "run" / "store", print)
    with store.writing("victim", made.victims[0].key):
        pass
    with store.writing("replay", made.replays[0].key):
        pass
    rows = {row.words: (row.all, row.stored, len(row.seconds)) for row in rows_of(made, tmp_path / "run")}
    assert rows == {
        "read images": (1, 0, 1),
        "train a victim": (1, 1, 0),
        "export a file": (2, 0, 2),
        "craft a patch": (1, 0, 1),
        "make a control": (2, 0, 2),
        "run a case in torch": (4, 1, 3),
        "replay a case": (8, 0, 8),
        "time a file": (4, 0, 4),
    }


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        ([], ""), ([None], "unknown"), ([1.2, 2], "4 s"), ([200, None, None], "4 min + 2 unknown"),
        ([7200], "2 h 0 min"),
    ],
)  # fmt: skip
def test_a_duration_says_what_it_does_not_know(seconds: list[float | None], words: str) -> None:
    assert duration(seconds) == words


def test_the_images_that_are_needed_are_those_of_the_normal_approximation() -> None:
    # 1.96 sqrt(.5 / n) = .05, of a difference where half of the pairs differ
    assert images_to_beat_noise() == pytest.approx(1.96**2 * 0.5 / 0.05**2, abs=12)
    # two pseudo-pairs that differ weigh more than the flips
    assert 60 < images_to_gate(1) < 100
    assert images_to_gate(1) > images_to_gate(3)


@pytest.mark.parametrize("columns", [80, 120])
def test_it_fits_a_terminal(columns: int, tmp_path: Path) -> None:
    out = console(columns, io.StringIO())
    made = plan(tmp_path, QUICK.replace("target_classes = [3]", "target_classes = [3, 4]\nseeds = [0, 1, 2]"))
    print_dry_run(made, Path("out/quick"), out)
    shown = out.file.getvalue()
    assert max(map(len, shown.splitlines())) <= columns
    assert "6 patches" in shown
    assert "40 images" in shown
    assert "…" not in shown


@pytest.mark.parametrize(
    ("name", "size", "says"),
    [
        ("onnx", 8, "theirs.onnx: expected integers .* 1 MatMul .* It is a float file: quantize it, or give"),
        ("tflite", 9, "theirs.tflite: takes images of 8x8, the suite says 9x9: set input_size"),
    ],
)
def test_a_file_that_a_run_would_refuse_is_refused(tmp_path: Path, name: str, size: int, says: str) -> None:
    getattr(tiny, f"{name}_file")(tmp_path / f"theirs.{name}")
    runtime = {"onnx": "onnxruntime", "tflite": "litert"}[name]
    suite = write(tmp_path, BROUGHT.format(file=f"theirs.{name}", size=size, runtime=runtime))
    out = console(120, io.StringIO())
    with pytest.raises(UserError, match=says):
        dry_run(suite, tmp_path, None, overrides=NO_OVERRIDES, targets=("*",), frozen=None, console=out)


@pytest.mark.slow
def test_a_dry_run_makes_nothing_and_after_a_run_has_nothing_left_to_do(quick: Path, tmp_path: Path) -> None:
    done = patchbench("run", quick / "suite.toml", "--dry-run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "to do: unknown" in done.stdout
    assert not (tmp_path / "out").exists()
    before = (quick / "out/quick/run.json").read_text()
    done = patchbench("run", "suite.toml", "--dry-run", cwd=quick)
    assert "nothing is left to do" in done.stdout
    done = patchbench("run", "suite.toml", "--dry-run", "--set", "attack.0.seeds=1", cwd=quick)
    assert "unknown" not in done.stdout
    assert (quick / "out/quick/run.json").read_text() == before
    assert json.loads(before)["suite"]["attack"][0]["seeds"] == [0]

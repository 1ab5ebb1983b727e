"""Files to a device without Python and back: a C program answers them, and is judged like any target."""

import re
import shutil
import subprocess
from pathlib import Path

import ai_edge_litert
import pandas as pd
import pytest
from helpers import ROOT
from helpers.command import patchbench
from helpers.required import absent

from backends.device.errors import UserError
from harness.run import packing
from harness.store import Store

SUITE = """
schema = 1
name = "packed"

[data]
name = "digits"
calibration = 0
craft = 64
evaluate = 40

[[artifact]]
name = "resnet8"
file = "resnet8.tflite"

[[attack]]
name = "gap"
surrogate = "twin:resnet8"
target_classes = [3]
pixels = 8
options = { steps = 1 }

[controls]
grey = 0
noise = 1

[latency]
threads = 1
warmup = 1
runs = 2
seconds = 0

[[target]]
name = "here"
runtime = "litert"

[[target]]
name = "phone"
runtime = "litert"
host = "packed"
"""
SOURCE = ROOT / "docs" / "examples" / "pack" / "run_tflite.c"
LIBRARY = Path(ai_edge_litert.__file__).parent / "libLiteRt.so"
DEVICE = "version = 2.3.0\narch = riscv64\ncpu = a board of mine\nkernels = xnnpack\n"

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    """A folder with a suite and its pack."""
    folder = tmp_path_factory.mktemp("packed")
    (folder / "suite.toml").write_text(SUITE)
    shutil.copy(ROOT / "benchmarks" / "baselines" / "demo" / "resnet8.tflite", folder)
    done = patchbench("pack", "suite.toml", "phone", "--data", ".", "--into", "pack", cwd=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture(scope="module")
def answered(packed):
    """What a C program answers, with LiteRT's own library."""
    compiler = shutil.which("cc")
    if compiler is None:
        absent("cc", "no C compiler")
    program, answers = packed / "run_tflite", packed / "answers"
    command = [compiler, "-O2", "-Wall", "-Werror", "-o", program, SOURCE, LIBRARY, f"-Wl,-rpath,{LIBRARY.parent}"]
    subprocess.run(command, check=True, timeout=120)
    answers.mkdir()
    subprocess.run([program, packed / "pack", answers], check=True, timeout=120, capture_output=True)
    (answers / "device.txt").write_text(DEVICE)
    return answers


def test_the_program_is_short():
    assert len(SOURCE.read_text().splitlines()) <= 80


def test_what_a_device_answered_is_judged_like_any_target(packed, answered):
    done = patchbench("take", "pack", "answers", cwd=packed)
    assert done.returncode == 0, done.stdout + done.stderr
    command = done.stdout.splitlines()[-1].split()
    done = patchbench(*command[1:], "--quiet", cwd=packed)
    assert done.returncode == 0, done.stdout + done.stderr
    cells = pd.read_csv(packed / "out" / "packed" / "cells.csv")
    counted = ["attack", "clean_accuracy", "targeted_success", "untargeted_success"]
    here, phone = (cells.loc[cells["target"] == name].reset_index(drop=True) for name in ("here", "phone"))
    assert len(here) == len(phone) > 2
    pd.testing.assert_frame_equal(here[counted], phone[counted])
    assert set(phone["arch"]) == {"riscv64"}
    assert set(phone["cpu"]) == {"a board of mine"}
    assert patchbench("take", "pack", "answers", cwd=packed).returncode == 0
    assert not (packed / "out" / "packed" / "run.json").exists()  # other answers are judged anew


def refused(packed, answers, words):
    store = Store(answers / "store", print)
    with pytest.raises(UserError, match=re.escape(words)):
        packing.take(packed / "pack", packing.read_pack(packed / "pack"), answers, store)
    assert not (answers / "store" / "replay").exists()


def swapped(file):
    data = file.read_bytes()
    record = len(data) // 40
    file.write_bytes(data[record : 2 * record] + data[:record] + data[2 * record :])


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (swapped, "answer 0 is that of image 1, by the CRC-32 of its input"),
        (lambda file: file.write_bytes(b"\0" + file.read_bytes()[1:]), "answer 0 is of no image of this case"),
        (lambda file: file.write_bytes(file.read_bytes()[:-14]), "expected 40 answers of 14 bytes, got 39"),
        (Path.unlink, "expected a file, found nothing"),
    ],
)
def test_answers_of_other_images_order_or_number_are_refused(packed, answered, tmp_path, spoil, words):
    theirs = shutil.copytree(answered, tmp_path / "theirs")
    spoil(next(theirs.glob("*.none.out")))
    refused(packed, theirs, words)


def test_a_device_says_what_ran_there(packed, answered, tmp_path):
    theirs = shutil.copytree(answered, tmp_path / "theirs")
    (theirs / "device.txt").write_text("version = 2.3.0\n")
    refused(packed, theirs, "says no arch, cpu; expected lines 'version = ...'")


def test_only_a_packed_target_is_packed(packed):
    done = patchbench("pack", "suite.toml", "here", "--data", ".", "--into", "other", cwd=packed)
    assert done.returncode == 2
    assert 'target \'here\' has host = "local"; expected host = "packed"' in " ".join(done.stderr.split())

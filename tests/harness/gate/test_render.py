"""Each rendering of a verdict, held against its golden file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from harness.gate import render
from harness.gate.compare import Comparison
from harness.gate.drift import Drift
from harness.gate.judge import ExitCode, Verdict
from harness.gate.limits import LimitResult

GOLDEN = Path(__file__).parent / "golden"


def compared(**change: Any) -> Comparison:
    known = {
        "name": "resnet20-tflite-s8s8-minmax on litert, gap 8 px random", "metric": "targeted_success",
        "before": 0.166, "after": 0.452, "change": 0.2861, "low": 0.251, "high": 0.3214, "n": 2531, "patches": 3,
        "p": 3.2e-31, "margin": 0.02, "unseen": 0.3214, "worse": True, "equal": False, "anew": False,
        "changes": ("calibration changed from moving_average to minmax",),
    }  # fmt: skip
    return Comparison(**known | change)


PLACE = "resnet20-tflite-s8s8-minmax on litert, gap 8 px random"
CLEAN = "resnet20-onnx-fp32 on onnxruntime"
STILL = {
    "equal": True,
    "change": -0.0,
    "low": -0.0028,
    "high": 0.0028,
    "p": 1.0,
    "unseen": 0.0028,
    "worse": False,
    "changes": (),
}
VERDICT = Verdict(
    ExitCode.WORSE, "baselines/cifar10.json", "out/cifar10", 0.01,
    comparisons=(
        compared(name=CLEAN, metric="clean_accuracy", before=0.915, after=0.915, n=1000, patches=0, **STILL),
        compared(),
    ),
    limits=(
        LimitResult(PLACE, "targeted_success <= 0.20", 0.452, 0.481, 2531, True),
        LimitResult(CLEAN, "clean_accuracy >= 0.90", 0.915, 0.896, 1000, True),
    ),
    drift=(Drift(f"{CLEAN}, gap 8 px random", 2, 3000, "test/00<17>"),),
    notes=("1 of 2 comparisons span a change and are judged by statistics",),
)  # fmt: skip
UNSURE = Verdict(
    ExitCode.CANNOT_COMPARE,
    "a|b.json",
    "out/x",
    0.01,
    faults=("resnet8-onnx-fp32 on ort: missing from out/x: `a` & <b>",),
)


EQUAL = Verdict(
    ExitCode.NO_WORSE,
    "baselines/cifar10.json",
    "out/cifar10",
    0.01,
    comparisons=(compared(before=0.166, after=0.166, n=2531, **STILL),),
)


@pytest.mark.parametrize(
    "kind",
    [
        "worse.md", "worse.xml", "worse.json", "worse.txt", "unsure.md", "unsure.xml",
        "equal.md", "equal.xml", "equal.json", "equal.txt",
    ],
)  # fmt: skip
def test_each_rendering_is_as_it_stands(kind: str) -> None:
    name, _, form = kind.partition(".")
    verdict = {"worse": VERDICT, "unsure": UNSURE, "equal": EQUAL}[name]
    if form == "txt":
        console = Console(width=170, record=True, file=open("/dev/null", "w"))  # noqa: SIM115, PTH123
        for part in render.terminal(verdict):
            console.print(part)
        drawn = console.export_text()
    else:
        drawn = {"md": render.markdown, "xml": render.junit, "json": render.as_json}[form](verdict)
    assert drawn == (GOLDEN / f"gate-{kind}").read_text()

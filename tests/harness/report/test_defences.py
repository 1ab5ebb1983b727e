"""The section on defences: what is naive, what adaptive, and what nothing beats."""

import io
import math

import pandas as pd
import pytest
from rich.console import Console

from harness.report.defences import defended, pareto_figure, undominated
from harness.report.terminal import defence_table
from harness.results.run_directory import RunFacts

PLACE = {"victim": "v", "artifact": "a", "artifact_label": "A", "target": "t", "split": "evaluate", "status": "ok"}


def row(defence, attack="gap", surrogate="float", success=0.0, clean=0.9, **more):
    return PLACE | {
        "defence": defence, "attack": attack, "surrogate": surrogate, "series_label": surrogate,
        "targeted_success": success, "targeted_success_low": success - 0.1, "targeted_success_high": success + 0.1,
        "clean_accuracy": clean, "clean_accuracy_low": clean, "clean_accuracy_high": clean,
    } | more  # fmt: skip


def latency(defence, p50_ms, threads=1):
    return {
        "artifact": "a", "target": "t", "defence": defence, "p50_ms": p50_ms, "p90_ms": p50_ms, "p99_ms": p50_ms,
        "n": 9, "threads": threads, "throughput": 1.0, "cold_start_ms": 1.0, "peak_rss_mb": 1.0,
    }  # fmt: skip


@pytest.fixture
def rows():
    summary = pd.DataFrame(
        [
            row("jpeg:30", "none", "", math.nan, clean=0.8),
            row("jpeg:30", success=0.2),
            row("jpeg:30", surrogate="float with defence median:3", success=0.3),
            row("jpeg:30", surrogate="float with defence jpeg:30", success=0.6),
            row("jpeg:30", "noise", "", 0.05),
            row("median:3", "none", "", math.nan, clean=0.7),
            row("median:3", success=0.1),
            row("", "none", "", math.nan, clean=0.9),
            row("", success=0.7),
            row("", surrogate="float with defence jpeg:30", success=0.5),
            row("patchcleanser:5", "none", "", math.nan, 0.6, passes=50.0, certified_accuracy=0.2),
            row("patchcleanser:5", success=0.05),
        ]
    )
    run = RunFacts.model_validate(
        {
            "schema": 2,
            "latency": [
                latency("", 1.0, threads=4),
                latency("", 2.0),
                latency("jpeg:30", 2.5),
                latency("median:3", 9.0),
            ],
        }
    )
    return defended(run, summary)


def test_success_is_split_by_what_the_attacker_expects(rows):
    by_defence = {one.defence: one for one in rows}
    assert list(by_defence) == ["", "jpeg:30", "median:3", "patchcleanser:5"], "none first"
    jpeg = by_defence["jpeg:30"]
    assert (jpeg.naive.rate, jpeg.adaptive.rate, jpeg.success, jpeg.noise) == (0.3, 0.6, 0.6, 0.05)
    assert (jpeg.p50_ms, jpeg.added_ms) == (2.5, 0.5), "of one thread, where several were measured"
    assert not jpeg.only_naive
    assert (by_defence[""].naive.rate, by_defence[""].only_naive) == (0.7, False)
    assert by_defence["median:3"].only_naive
    assert by_defence["patchcleanser:5"].certified.rate == 0.2
    assert by_defence["patchcleanser:5"].passes == 50


def test_what_is_beaten_in_everything_is_not_on_the_front(rows):
    assert undominated(rows) == [True, True, True, True], "each is the best at something"
    worse = rows[1]._replace(p50_ms=3.0)
    assert undominated([*rows, worse])[-1] is False
    elsewhere = worse._replace(target="another")
    assert undominated([*rows, elsewhere])[-1] is True


def test_the_figure_says_what_was_attacked_only_naively(rows):
    wide = pareto_figure(rows).wide
    for words in ("undefended", "jpeg:30", "median:3, only naively", "20 % certified"):
        assert words in wide
    assert "mathdefault" not in wide, "labels of a logarithmic axis are plain numbers"


def test_the_terminal_has_naive_and_adaptive_side_by_side(rows):
    console = Console(file=io.StringIO(), width=160)
    console.print(defence_table(rows, console))
    lines = {line.split("│")[3].strip(): line for line in console.file.getvalue().splitlines() if line.startswith("│")}
    assert "30.0\u00a0% (20.0–40.0)" in lines["jpeg:30"]
    assert "60.0\u00a0% (50.0–70.0)" in lines["jpeg:30"]
    assert "only naively" in lines["median:3"]
    assert "only naively" not in lines["none"]


def test_a_run_without_defences_has_no_section():
    assert defended(RunFacts.model_validate({"schema": 2}), pd.DataFrame([row("", "none", "", 0.0), row("")])) == []

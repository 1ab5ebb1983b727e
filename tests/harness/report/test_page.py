"""The page of a run whose truth is known: its contents, its empty states, and hostile names."""

from __future__ import annotations

import base64
import io
import re
from pathlib import Path

import pandas as pd
import pytest
from helpers.edited_runs import facts_of, rewrite
from helpers.made_run import FILES, headline_of, make_run
from rich.console import Console

from backends.device.errors import UserError
from harness.report import page as page_of_a_run
from harness.report import terminal
from harness.report.page import build
from harness.results.judged import judged
from harness.results.metrics import cells, summarise
from harness.results.record_files import read_outcomes
from harness.results.run_directory import read_run


def text_of(page: str) -> str:
    return re.sub(r"[ \n]+", " ", re.sub(r"<[^>]+>", " ", re.sub(r"<(style|script)>.*?</\1>", "", page, flags=re.S)))


def summary_of(records: pd.DataFrame) -> pd.DataFrame:
    return summarise(cells(records), records)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def page(run: Path) -> str:
    return build(run).read_text()


def test_the_page_holds_the_run(run: Path, page: str) -> None:
    text = text_of(page)
    summary = headline_of(pd.read_parquet(run / "records.parquet"))
    for wanted in (
        summary.sentence, "CIFAR-10, calibration beside calibration", "emulated: not comparable", "20 QLinearConv",
        "What is not measured", "patchbench run benchmarks/suites/cifar10.toml",
        "trained on the official", "128 to calibrate", "TFLite INT8 moving average", "gap → cat",
        "arch x86_64; cpu Intel Xeon; cores 2",
        "target class dog", "300 images", "6 patches",
    ):  # fmt: skip
        assert wanted in text, wanted
    assert "Failures" not in text
    assert page.count("data:image/png;base64,") == 2 * 9 + 2 * 4
    patch = base64.b64encode((run / "patches/resnet20-gap-t3-s0.png").read_bytes()).decode()
    assert patch in page
    assert page.count("<svg ") == 12  # success, calibration and lab to device, of two victims, wide and narrow
    assert not re.search(r'(src|href)="(?!data:|#)', page)
    assert not re.search(r"url\((?!#)", page)
    assert list(run.glob("*.part")) == []
    assert "arena" not in text


def test_of_many_patches_the_page_shows_the_first_and_says_so(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page_of_a_run, "PATCHES_SHOWN", 4)
    monkeypatch.setattr(page_of_a_run, "HASHES_SHOWN", 3)
    facts = read_run(run)
    made = page_of_a_run.text(run, facts, judged(facts, read_outcomes(run, facts)))
    assert "The first 4 of 18; the folder patches has all." in text_of(made)
    assert "the first 3 of 18, run.json has all" in text_of(made)
    assert made.count("data:image/png;base64,") == 4 + 2 * 4


def test_an_arena_has_a_column_where_a_target_tells_it(tmp_path: Path) -> None:
    root = make_run(tmp_path)
    known = facts_of(root)
    known["latency"][0]["arena_kb"] = 82.512
    rewrite(root, run=known)
    table = text_of(build(root).read_text()).partition("arena, kB")[2]
    assert " 81 83 " in table  # peak memory and arena of the first
    assert " 81 – " in table  # of the others


def test_categories_make_the_same_page(run: Path, page: str) -> None:
    """Text columns come as categories from `records`, and from a parquet file that was written from them."""
    records = pd.read_parquet(run / "records.parquet")
    text = [c for c in records.columns if not pd.api.types.is_numeric_dtype(records[c])]
    rewrite(run, records.astype(dict.fromkeys(text, "category")))
    assert (pd.read_parquet(run / "records.parquet").dtypes == "category").sum() == len(text)
    assert build(run).read_text() == page


def test_errors_come_first_and_in_no_rate(tmp_path: Path) -> None:
    root = make_run(tmp_path, victims=("net",), broken=("litert", "litert-arm64"))
    facts = facts_of(root)
    told = {"artifact": "net-tflite-fp32", "target": "litert", "message": "crash: SIGSEGV"}  # by its cells already
    facts["errors"] = [{"target": "ssh-pi", "message": "connection refused"}, told]
    rewrite(root, run=facts)
    page = build(root).read_text()
    text = text_of(page)
    assert text.index("Failures") < text.index("Success and clean accuracy by target")
    assert "target ssh-pi connection refused" in text
    assert "net-tflite-fp32, target litert" not in text
    assert re.search(
        r"TFLite INT8 minmax litert-arm64 crash: SIGSEGV 15 4500", text
    )  # 6 patches, 3 classes x 3 controls
    assert "12 patched cells on integer targets failed and are excluded" in text
    assert re.search(r"emulated CPU: No answer: no patched cell .* ran without an error", text)
    wide = Console(width=200, file=io.StringIO(), record=True)
    wide.print(terminal.table(summary_of(pd.read_parquet(root / "records.parquet")), wide))
    printed = wide.export_text()
    assert printed.count("failed") == 3  # of two, both targets in one row
    assert "SIGSEGV" not in printed


@pytest.mark.parametrize(
    "kind", ["no records", "no patches", "all errors", "one artifact", "bare run.json", "untargeted"]
)
def test_what_is_not_there_is_said(tmp_path: Path, kind: str) -> None:
    root = make_run(tmp_path, victims=("net",), files=FILES[3:4] if kind == "one artifact" else FILES)
    records = pd.read_parquet(root / "records.parquet")
    if kind == "no records":
        records = records.iloc[:0]
    if kind == "no patches":
        records = records[records["attack"] == "none"]
    if kind == "all errors":
        records = records.assign(status="hung", pred=-1)
    if kind == "untargeted":
        records = records[records["attack"].isin(["none", "gap"]) & records["target_class"].isin([-1, 3])]
        records = records.assign(target_class=-1)
    rewrite(root, records, {"schema": 2} if kind in ("no records", "no patches", "bare run.json") else None)
    text = text_of(build(root).read_text())
    wanted = {
        "no records": ["No patch was replayed", "There are no cells to show", "The run has no cells", "No latency"],
        "no patches": ["No patch was replayed", "No patch was crafted or imported", "97.7"],
        "all errors": ["No answer: no patched cell ran", "Failures", "hung"],
        "one artifact": [
            "On the device, the patch reaches its target class on",
            "No lab network was given",
            "one calibration, minmax, and nothing to compare it with",
        ],
        "bare run.json": ["It depends", "No latency was measured", "No patch was crafted or imported"],
        "untargeted": ["misleads the network on", "untargeted"],
    }[kind]
    for words in wanted:
        assert words in text, words
    assert "nan" not in re.findall(r"\w+", text)
    assert "Undefined" not in text
    rows = {"no records": 0, "one artifact": 1, "all errors": 9}.get(kind, 11)
    assert terminal.table(summary_of(records), Console(width=200)).row_count == rows


def test_patches_for_each_image_are_told_of_apart(tmp_path: Path) -> None:
    """The same patches twice, the second time better ones that are made for each image."""
    root = make_run(tmp_path, victims=("net",), images=60)
    records, facts = pd.read_parquet(root / "records.parquet"), facts_of(root)
    each = records[records["attack"] == "gap"].copy()
    each = each.assign(attack="pgd-each", patch="each-" + each["patch"], pred=each["target_class"])
    both = pd.concat([records, each], ignore_index=True)
    names = each["patch"].unique()
    alone, apart = headline_of(records), headline_of(both, names)
    assert (apart.verdict, apart.sentence) == (alone.verdict, alone.sentence)
    assert "Per-image patches, separately: Yes: on every integer target" in apart.details
    assert set(alone.tiles) <= set(apart.tiles)
    assert ("per image, in the lab", "100.0\u00a0%") in [tile[:2] for tile in apart.tiles]
    assert headline_of(records, names) == alone
    facts["patches"] += [{"name": name, "attack": "pgd", "per_image": True, "px": 8, "checks": {}} for name in names]
    rewrite(root, both, facts)
    text = text_of(build(root).read_text())
    assert "Per-image patches, separately" in text
    assert "gap, crafted on float" in text, "of examples"


def test_every_control_of_a_run_is_shown(tmp_path: Path) -> None:
    root = make_run(tmp_path, victims=("net",), images=60)
    records = pd.read_parquet(root / "records.parquet")
    bare = text_of(build(root).read_text())
    sticker = records[(records["attack"] == "grey")].assign(attack="sticker", patch="sticker-s0")
    sticker["pred"] = sticker["target_class"]
    best = records[records["attack"] == "noise"].assign(placement="best")
    best["patch"] += "@gap-of-its-own"
    rewrite(root, pd.concat([records, sticker, best], ignore_index=True))
    text = text_of(build(root).read_text())
    for words in ("picture of the class, %", "picture of the class, same targets 100.0", "control of"):
        assert words in text, words
        assert words not in bare, words
    assert "gap-of-its-own" in text
    assert "other class’s patch, %" not in text
    printed = terminal.table(summary_of(pd.read_parquet(root / "records.parquet")), Console(width=200))
    assert [column.header for column in printed.columns][-2:] == ["noise", "sticker"]


HOSTILE = "<img src=x onerror=alert(1)>$x^2$</td>"


def test_hostile_text_stays_text(tmp_path: Path) -> None:
    root = make_run(tmp_path, victims=("net",), classes=[HOSTILE] * 10)
    records = pd.read_parquet(root / "records.parquet").replace(
        {"victim": {"net": HOSTILE}, "target": {"ort": HOSTILE}}
    )
    records.loc[records["target"] == "litert", ["status", "pred"]] = ["crash: " + HOSTILE, -1]
    facts = facts_of(root)
    facts |= {"title": "</title><script>alert(1)</script>", "command": HOSTILE, "versions": {HOSTILE: HOSTILE}}
    facts["data"]["note"] = facts["victims"][0]["name"] = facts["patches"][0]["name"] = HOSTILE
    facts["patches"][1]["file"] = "../secret.png"
    (root.parent / "secret.png").write_bytes(b"\x89PNG\r\n\x1a\nsecret")
    facts["patches"][2]["file"] = "run.json"
    rewrite(root, records, facts)
    page = build(root).read_text()
    assert "<img src=x" not in page
    assert page.count("<script>") == 1
    assert HOSTILE in text_of(page.replace("&lt;", "\ue000").replace("&gt;", "\ue001")).replace("\ue000", "<").replace(
        "\ue001", ">"
    )
    assert page.count("no picture") == 2


@pytest.mark.parametrize("damage", ["no run.json", "another schema", "not parquet"])
def test_what_is_no_run_is_refused(tmp_path: Path, damage: str) -> None:
    root = make_run(tmp_path, victims=("net",), images=20)
    if damage == "no run.json":
        (root / "run.json").unlink()
    if damage == "another schema":
        (root / "run.json").write_text('{"schema": 99}')
    if damage == "not parquet":
        (root / "records.parquet").write_text("hello")
    with pytest.raises(UserError, match="expected"):
        build(root)


def test_of_many_cells_the_page_shows_the_first_rows_and_figures_and_says_so(
    run: Path, page: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, most in {
        "MANY_CELLS": 100,
        "FIGURES_SHOWN": 1,
        "ROWS_SHOWN": 5,
        "CHAINS_SHOWN": 2,
        "CELLS_SHOWN": 7,
        "FIRST_CELLS": 7,
    }.items():
        monkeypatch.setattr(page_of_a_run, name, most)
    facts = read_run(run)
    made = page_of_a_run.text(run, facts, judged(facts, read_outcomes(run, facts)))
    assert page.count("<svg") > made.count("<svg") == 2 * 3  # wide and narrow: success, calibration, lab to device
    text = text_of(made)
    assert "the first figures of each kind are drawn" in text
    assert "The first 5 of 22 rows; summary.json has all." in text
    assert "the first 7 are shown, cells.csv has all" in text
    assert text.count("The first 2 of 6 chains.") == 2

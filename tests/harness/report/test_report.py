"""The page from a run whose truth is known: its figures, its empty states, hostile names, and Chromium."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shutil
import subprocess
from pathlib import Path

import pandas as pd
import pytest
from helpers.made_run import FILES, make_run
from helpers.required import absent
from rich.console import Console

from backends.device.errors import UserError
from harness.report import terminal
from harness.report.headline import headline
from harness.report.labels import labelled
from harness.report.page import build
from harness.results.columns import CELL_COLUMNS
from harness.results.metrics import cells, summarise


def text_of(page: str) -> str:
    return re.sub(r"[ \n]+", " ", re.sub(r"<[^>]+>", " ", re.sub(r"<(style|script)>.*?</\1>", "", page, flags=re.S)))


def table_of(run: Path) -> pd.DataFrame:
    return labelled(cells(pd.read_parquet(run / "records.parquet")))


def summary_of(records: pd.DataFrame) -> pd.DataFrame:
    return summarise(cells(records), records)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("run"))


@pytest.mark.parametrize(
    ("survives", "verdict", "sentence"),
    [
        (0.55, "depends", "It depends on the artifact and the target"),
        (1.0, "yes", "Yes: on every"),
        (-1.0, "depends", "0 to 10"),
    ],
)
def test_the_headline_says_what_the_run_was_made_to_be(
    tmp_path: Path, survives: float, verdict: str, sentence: str
) -> None:
    head = headline(table_of(make_run(tmp_path, victims=("net",), survives=survives)))
    assert (head.verdict, sentence in head.sentence) == (verdict, True), head


def test_no_when_nothing_survives_anywhere(tmp_path: Path) -> None:
    only_moving = [f for f in FILES if f[3] != "minmax"]
    head = headline(table_of(make_run(tmp_path, victims=("net",), survives=0.0, files=only_moving)))
    assert head.verdict == "no"
    assert head.sentence.startswith("No: on integer targets the patch keeps 0")


def test_the_headline_compares_the_same_patches(run: Path) -> None:
    """Its extremes, from the records by hand: success beyond noise of the patches in torch and on each file."""
    records = pd.read_parquet(run / "records.parquet")
    right = records[(records["attack"] == "none") & (records["pred"] == records["label"])]
    ok = records.merge(right[["artifact", "target", "image"]], on=["artifact", "target", "image"])
    ok = ok[(ok["target_class"] >= 0) & (ok["label"] != ok["target_class"])]
    place = ["victim", "precision", "artifact", "target", "attack"]
    hit = ok.assign(hit=ok["pred"] == ok["target_class"]).groupby([*place, "target_class", "seed"])["hit"].mean()
    rate = hit.groupby([*place, "target_class"]).mean().groupby(place).mean().unstack("attack")
    beyond = (rate["gap"] - rate["noise"]).reset_index()
    lab = beyond[beyond["target"] == "torch"].set_index("victim")[0]
    integer = beyond[beyond["precision"] == "w8a8"]
    kept = 100 * integer[0] / integer["victim"].map(lab)
    assert f"{kept.min():.0f} to {kept.max():.0f}\u00a0%" in headline(table_of(run)).sentence


def test_a_patch_no_better_than_noise_answers_nothing(tmp_path: Path) -> None:
    root = make_run(tmp_path, victims=("net",))
    records = pd.read_parquet(root / "records.parquet")
    clean = records[records["attack"] == "none"].set_index(["artifact", "target", "image"])["pred"]
    where = pd.MultiIndex.from_frame(records[["artifact", "target", "image"]])
    head = headline(labelled(cells(records.assign(pred=clean.reindex(where).to_numpy()))))
    assert head.verdict == "nothing"
    assert "no better than noise" in head.sentence


def test_the_headline_tells_of_doubts_and_of_a_run_that_only_simulates(run: Path) -> None:
    table = table_of(run)
    assert "self-check" not in headline(table.assign(doubts="")).details
    (some, *_) = table.loc[table["precision"] == "w8a8", "artifact"]
    touched = table["artifact"].map({some: "no copies"}).fillna("")
    count = len(table[(table["artifact"] == some) & (table["attack"] == "gap")])
    assert f"affects {count} of the" in headline(table.assign(doubts=touched)).details
    simulated = labelled(table.drop(columns=["artifact_label", "series_label"]).assign(format="torch"))
    assert headline(simulated).sentence == "No answer: no target computes in integers."
    labels = set(simulated.loc[simulated["precision"] == "w8a8", "artifact_label"])
    assert labels
    assert all("INT8" not in label for label in labels)


def test_the_page_holds_the_run(run: Path) -> None:
    page = build(run).read_text()
    text = text_of(page)
    summary = headline(table_of(run))
    for wanted in (
        summary.sentence, "CIFAR-10, calibration beside calibration", "emulated: not comparable", "20 QLinearConv",
        "What is not measured", "patchbench run benchmarks/suites/cifar10.toml",
        "trained on the official", "128 to calibrate", "TFLite INT8 moving average", "gap → cat",
        "target class dog", "300 images", "6 patches",
    ):  # fmt: skip
        assert wanted in text, wanted
    assert "Failures" not in text
    assert page.count("data:image/png;base64,") == 2 * 9 + 2 * 4
    patch = base64.b64encode((run / "patches/resnet20-gap-t3-s0.png").read_bytes()).decode()
    assert patch in page
    assert len(re.findall(r'<svg viewBox="[^"]+" role="img">', page)) == 6  # success, calibration and gap, two victims
    assert not re.search(r'(src|href)="(?!data:|#)', page)
    assert not re.search(r"url\((?!#)", page)
    assert list(run.glob("*.part")) == []


def test_categories_make_the_same_page(run: Path) -> None:
    """Text columns come as categories from `records`, and from a parquet file that was written from them."""
    records = pd.read_parquet(run / "records.parquet")
    page = build(run).read_text()
    text = [c for c in records.columns if not pd.api.types.is_numeric_dtype(records[c])]
    records.astype(dict.fromkeys(text, "category")).to_parquet(run / "records.parquet")
    assert (pd.read_parquet(run / "records.parquet").dtypes == "category").sum() == len(text)
    assert build(run).read_text() == page


def test_errors_come_first_and_in_no_rate(tmp_path: Path) -> None:
    root = make_run(tmp_path, victims=("net",), broken=("litert", "litert-arm64"))
    facts = json.loads((root / "run.json").read_text())
    told = {"artifact": "net-tflite-fp32", "target": "litert", "message": "crash: SIGSEGV"}  # by its cells already
    facts["errors"] = [{"target": "ssh-pi", "message": "connection refused"}, told]
    (root / "run.json").write_text(json.dumps(facts))
    page = build(root).read_text()
    text = text_of(page)
    assert text.index("Failures") < text.index("Success and clean accuracy by target")
    assert "target ssh-pi connection refused" in text
    assert "net-tflite-fp32, target litert" not in text
    assert re.search(
        r"TFLite INT8 minmax litert-arm64 crash: SIGSEGV 15 4500", text
    )  # 6 patches, 3 classes x 3 controls
    assert "24 patched cells on integer targets failed and are excluded" in text
    printed = Console(width=200, record=True, file=open("/dev/null", "w"))  # noqa: SIM115, PTH123
    printed.print(terminal.table(summary_of(pd.read_parquet(root / "records.parquet"))))
    assert printed.export_text().count("crash: SIGSEGV") == 5


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
    records.to_parquet(root / "records.parquet")
    if kind in ("no records", "no patches", "bare run.json"):
        (root / "run.json").write_text('{"schema": 1}')
    text = text_of(build(root).read_text())
    wanted = {
        "no records": ["No patch was replayed", "There are no cells to show", "The run has no cells", "No latency"],
        "no patches": ["No patch was replayed", "No patch was crafted or imported", "97.7"],
        "all errors": ["No answer: no patched cell ran", "Failures", "hung"],
        "one artifact": [
            "No answer: no patch ran both in the lab",
            "one calibration, minmax, and nothing to compare it with",
        ],
        "bare run.json": ["It depends", "No latency was measured", "No patch was crafted or imported"],
        "untargeted": ["misleads the network on", "untargeted"],
    }[kind]
    for words in wanted:
        assert words in text, words
    assert "nan" not in re.findall(r"\w+", text)
    assert "Undefined" not in text
    assert terminal.table(summary_of(records)).row_count == (
        0 if kind == "no records" else 1 if kind == "one artifact" else 11
    )


def test_names_that_would_mislead_are_told_apart() -> None:
    row = dict.fromkeys(CELL_COLUMNS, "") | {"victim": "v", "format": "tflite", "precision": "w8a8", "attack": "gap"}
    row |= {"patch_area": 0.06, "target_class": 1, "seed": 0, "calibration": "minmax"}
    table = pd.DataFrame(
        [
            row | {"artifact": "mine", "surrogate": "float", "patch_px": 8},
            row | {"artifact": "vendor's", "surrogate": "float:b", "patch_px": 8},
            row | {"artifact": "other", "calibration": "entropy", "surrogate": "float", "patch_px": 6},
        ]
    )
    named = labelled(table)
    assert sorted(named["artifact_label"]) == ["TFLite INT8 entropy", "mine", "vendor's"]
    assert sorted(named["series_label"]) == [
        "gap, crafted on float, 6 px", "gap, crafted on float, 8 px", "gap, crafted on float:b, 8 px",
    ]  # fmt: skip


def test_an_imported_patch_was_made_on_nothing_said() -> None:
    row = dict.fromkeys(CELL_COLUMNS, "") | {"victim": "v", "artifact": "a", "format": "tflite", "precision": "w8a8"}
    row |= {"patch_area": 0.06, "target_class": 1, "seed": 0, "patch_px": 8}
    named = labelled(pd.DataFrame([row | {"attack": "imported"}, row | {"attack": "gap", "surrogate": "float"}]))
    assert sorted(named["series_label"]) == ["gap, crafted on float", "imported"]


def test_patches_for_each_image_are_told_of_apart(tmp_path: Path) -> None:
    """The same patches twice, the second time better ones that are made for each image."""
    root = make_run(tmp_path, victims=("net",), images=60)
    records, facts = pd.read_parquet(root / "records.parquet"), json.loads((root / "run.json").read_text())
    each = records[records["attack"] == "gap"].copy()
    each = each.assign(attack="pgd-each", patch="each-" + each["patch"], pred=each["target_class"])
    both = pd.concat([records, each], ignore_index=True)
    names = each["patch"].unique()
    alone, apart = headline(labelled(cells(records))), headline(labelled(cells(both)), names)
    assert (apart.verdict, apart.sentence) == (alone.verdict, alone.sentence)
    assert "Per-image patches, separately: Yes: on every integer target" in apart.details
    assert apart.tiles[: len(alone.tiles)] == alone.tiles
    assert ("per image, in the lab", "100.0\u00a0%") in [tile[:2] for tile in apart.tiles]
    assert headline(labelled(cells(records)), names) == alone
    both.to_parquet(root / "records.parquet")
    facts["patches"] += [{"name": name, "attack": "pgd", "per_image": True, "px": 8, "checks": {}} for name in names]
    (root / "run.json").write_text(json.dumps(facts))
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
    pd.concat([records, sticker, best], ignore_index=True).to_parquet(root / "records.parquet")
    text = text_of(build(root).read_text())
    for words in ("picture of the class, %", "picture of the class, integer targets 100.0", "control of"):
        assert words in text, words
        assert words not in bare, words
    assert "gap-of-its-own" in text
    assert "other class’s patch, %" not in text
    printed = terminal.table(summary_of(pd.read_parquet(root / "records.parquet")))
    assert [column.header for column in printed.columns][-2:] == ["noise", "sticker"]


HOSTILE = "<img src=x onerror=alert(1)>$x^2$</td>"


def test_hostile_text_stays_text(tmp_path: Path) -> None:
    root = make_run(tmp_path, victims=("net",), classes=[HOSTILE] * 10)
    records = pd.read_parquet(root / "records.parquet").replace(
        {"victim": {"net": HOSTILE}, "target": {"ort": HOSTILE}}
    )
    records.loc[records["target"] == "litert", ["status", "pred"]] = ["crash: " + HOSTILE, -1]
    records.to_parquet(root / "records.parquet")
    facts = json.loads((root / "run.json").read_text())
    facts |= {"title": "</title><script>alert(1)</script>", "command": HOSTILE, "versions": {HOSTILE: HOSTILE}}
    facts["data"]["note"] = facts["victims"][0]["name"] = facts["patches"][0]["name"] = HOSTILE
    facts["patches"][1]["file"] = "../secret.png"
    (root.parent / "secret.png").write_bytes(b"\x89PNG\r\n\x1a\nsecret")
    facts["patches"][2]["file"] = "run.json"
    (root / "run.json").write_text(json.dumps(facts))
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


PROBE = """<script>
addEventListener("error", (e) => document.body.append("ERROR " + (e.message || e.target.src)), true);
addEventListener("securitypolicyviolation", (e) => document.body.append("BLOCKED " + e.blockedURI));
addEventListener("load", () => {
  const images = [...document.images];
  const bad = images.filter((i) => !i.complete || !i.naturalWidth).length;
  document.querySelector("#cells details").open = true;
  const table = document.querySelector("table.sortable");
  const head = [...table.tHead.rows[0].cells].findIndex((c) => c.textContent.startsWith("targeted"));
  table.tHead.rows[0].cells[head].querySelector("button").click();
  const rates = [...table.tBodies[0].rows].map((r) => parseFloat(r.cells[head].textContent)).filter((x) => !isNaN(x));
  const sorted = rates.every((x, i) => !i || rates[i - 1] <= x);
  const wide = document.documentElement.scrollWidth - innerWidth;
  const fetched = performance.getEntriesByType("resource").filter((r) => !r.name.startsWith("data:")).length;
  document.title = JSON.stringify({images: images.length, bad, rates: rates.length, sorted, wide, fetched});
});
</script>"""


@pytest.mark.browser
@pytest.mark.parametrize("width", [1200, 500])
def test_in_a_real_browser(run: Path, tmp_path: Path, width: int) -> None:
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if not chromium:
        absent("browser", "chromium is not installed")
    page = build(run).read_text()
    probe = PROBE[len("<script>") : -len("</script>")]
    digest = base64.b64encode(hashlib.sha256(probe.encode()).digest()).decode()
    probed = page.replace("script-src ", f"script-src 'sha256-{digest}' ").replace("<body>", "<body>" + PROBE, 1)
    (tmp_path / "page.html").write_text(probed)
    flags = (
        "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
        f"--disable-component-update --disable-sync --enable-logging=stderr --v=0 --window-size={width},900 --dump-dom"
    ).split()
    result = subprocess.run(
        [str(chromium), *flags, f"--user-data-dir={tmp_path / 'profile'}", f"file://{tmp_path / 'page.html'}"],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    assert "CONSOLE" not in result.stderr
    assert "ERROR " not in text_of(result.stdout)
    assert "BLOCKED " not in text_of(result.stdout)
    title = re.search(r"<title>(.*?)</title>", result.stdout)
    assert title
    seen = json.loads(title[1])
    assert (seen["images"], seen["bad"], seen["fetched"], seen["sorted"]) == (26, 0, 0, True)
    assert seen["rates"] == len(table_of(run).query("target_class >= 0"))
    assert seen["wide"] <= 0  # nothing but its own boxes scrolls sideways
    assert headline(table_of(run)).sentence in text_of(result.stdout).replace("&nbsp;", "\u00a0")

"""The page from a run whose truth is known: its figures, its empty states, hostile names, and Chromium."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import absent
from PIL import Image
from rich.console import Console

from harness.metrics import cells
from harness.report import terminal
from harness.report.headline import headline
from harness.report.labels import labelled
from harness.report.page import build
from harness.schema import CELL_COLUMNS, RECORD_COLUMNS, UserError

CLASSES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
VICTIMS = ("resnet20", "resnet56")
FILES = [  # format, precision, signature, calibration, targets
    ("torch", "fp32", "", "", ("torch",)),
    ("onnx", "fp32", "", "", ("ort",)),
    ("tflite", "fp32", "", "", ("litert",)),
    ("onnx", "w8a8", "u8s8", "minmax", ("ort",)),
    ("onnx", "w8a8", "u8s8", "moving_average", ("ort",)),
    ("onnx", "w8a8", "s8s8", "minmax", ("ort",)),
    ("onnx", "w8a8", "s8s8", "moving_average", ("ort",)),
    ("tflite", "w8a8", "s8s8", "minmax", ("litert", "litert-arm64")),
    ("tflite", "w8a8", "s8s8", "moving_average", ("litert", "litert-arm64")),
]
RUNTIMES = {"torch": "torch", "ort": "onnxruntime", "litert": "litert", "litert-arm64": "litert"}


def make_run(
    root: Path, victims: tuple[str, ...] = VICTIMS, images: int = 300, goals: tuple[int, ...] = (3, 5, 8),
    seeds: int = 2, survives: float = 0.55, files: list[Any] = FILES, broken: tuple[str, ...] = (),
    classes: list[str] = CLASSES,
) -> Path:  # fmt: skip
    """A run directory as `patchbench run` leaves it, from random logits.

    The patch adds to its class's logit what the network feels of it: all of it in float and after ``minmax``, the share
    ``survives`` of it after ``moving_average``. Integer targets add a little noise of their own. On the targets that
    are ``broken`` every image of the patches dies of SIGSEGV.
    """
    rng = np.random.default_rng(0)
    (root / "patches").mkdir(parents=True)
    labels = np.arange(images) % 10
    frames, patches, examples, artifacts = [], [], [], []
    made = [("gap", g, s, rng.uniform(1.6, 3.6, images)) for g in goals for s in range(seeds)]
    controls = [("noise", -1, s, rng.normal(0, 0.6, (images, 10))) for s in range(2)] + [("grey", -1, 0, 0.0)]
    for victim in victims:
        logits = rng.normal(0, 0.8, (images, 10)) + 3.0 * np.eye(10)[labels]
        for attack, goal, seed, _ in made + controls:
            name = f"{victim}-{attack}" + (f"-t{goal}" if goal >= 0 else "") + f"-s{seed}"
            _picture(root / "patches" / f"{name}.png", attack, seed + goal)
            patches.append(
                {"name": name, "attack": attack, "surrogate": "float" if attack == "gap" else "", "seed": seed,
                 "target_class": goal if goal >= 0 else None, "px": 8, "shape": "square", "file": f"patches/{name}.png",
                 "sha256": hashlib.sha256(name.encode()).hexdigest(),
                 "checks": {"loss": [2.31, 1.2, 0.87], "zero_gradient_share": 0.002, "seconds": 24.8, "steps": 300}
                 if attack == "gap" else {}}
            )  # fmt: skip
        for form, precision, signature, calibration, targets in files:
            artifact = "-".join(p for p in (victim, form, precision, signature, calibration) if p)
            integer = precision != "fp32"
            artifacts.append(
                {"name": artifact, "victim": victim, "format": form, "precision": precision, "signature": signature,
                 "calibration": calibration, "file": f"artifacts/{artifact}.{form}", "bytes": 290_000,
                 "sha256": hashlib.sha256(artifact.encode()).hexdigest(),
                 "operators": {"QLinearConv": 20, "QLinearAdd": 9} if integer else {"Conv": 20, "Add": 9}}
            )  # fmt: skip
            for target in targets:
                own = rng.normal(0, 0.08, (images, 10)) * integer
                base = {
                    "victim": victim, "precision": precision, "format": form, "signature": signature, "defence": "",
                    "calibration": calibration, "granularity": "per_channel" if integer else "", "artifact": artifact,
                    "runtime": RUNTIMES[target], "target": target, "host": "qemu" if "arm" in target else "local",
                    "arch": "aarch64" if "arm" in target else "x86_64", "cpu": "any",
                    "threads": 1, "kernels": "default", "split": "evaluate",
                }  # fmt: skip
                cases: list[tuple[dict[str, Any], np.ndarray]] = [
                    ({"attack": "none", "target_class": -1, "patch_px": 0, "patch": ""}, logits + own)
                ]
                share = survives if calibration == "moving_average" else 1.0
                for attack, goal, seed, felt in made:
                    patched = logits + own + share * np.outer(felt, np.eye(10)[goal])
                    case = {"attack": attack, "target_class": goal, "seed": seed, "surrogate": "float"}
                    cases.append((case | {"patch": f"{victim}-{attack}-t{goal}-s{seed}"}, patched))
                for attack, _, seed, felt in controls:
                    for goal in goals:
                        case = {
                            "attack": attack,
                            "target_class": goal,
                            "seed": seed,
                            "patch": f"{victim}-{attack}-s{seed}",
                        }
                        cases.append((case, logits + own + felt))
                for case, out in cases:
                    bad = target in broken and case["attack"] != "none"
                    default = {"seed": 0, "surrogate": "", "patch_px": 8, "patch_area": 0.0625, "shape": "square",
                               "placement": "random"}  # fmt: skip
                    best = out.argmax(1)
                    frames.append(
                        pd.DataFrame(
                            default | base | case
                            | {"image": [f"test-{i:05d}" for i in range(images)], "label": labels, "margin": 0.0,
                               "status": "crash: SIGSEGV" if bad else "ok", "pred": 0 * best - 1 if bad else best}
                        )
                    )  # fmt: skip
    records = pd.concat(frames)[[*CELL_COLUMNS, *RECORD_COLUMNS]].reset_index(drop=True)
    records.to_parquet(root / "records.parquet")
    for patch in patches[: len(made)][:4]:
        here = records[(records["patch"] == patch["name"]) & (records["image"] == "test-00007")]
        for kind in ("clean", "patched"):
            _picture(root / "patches" / f"{patch['name']}-{kind}.png", kind, patch["seed"], 32)
        examples.append(
            {"patch": patch["name"], "image": "test-00007", "label": 7, "target_class": patch["target_class"],
             "clean_png": f"patches/{patch['name']}-clean.png", "patched_png": f"patches/{patch['name']}-patched.png",
             "preds": here[["artifact", "target", "pred"]].to_dict("records")}
        )  # fmt: skip
    run = {
        "schema": 1, "suite": {"name": "cifar10", "schema": 1}, "title": "CIFAR-10, calibration beside calibration",
        "started": "2026-11-24 04:20", "seconds": 412.0,
        "command": "patchbench run benchmarks/suites/cifar10.toml --data $PATCHBENCH_DATA",
        "versions": {"patchbench": "0.1.0", "torch": "2.13.0", "onnxruntime": "1.32.0", "ai-edge-litert": "2.3.0"},
        "machine": {"cpu": "Intel Xeon", "arch": "x86_64", "cores": 2, "kernel": "6.1", "memory": "8 GiB"},
        "data": {"name": "cifar10", "note": "the networks were trained on the official training images",
                 "sizes": {"calibration": 128, "craft": 512, "select": 0, "evaluate": images}, "ids_sha256": "ab" * 32},
        "victims": [{"name": v, "model": v, "classes": 10, "input_size": [32, 32], "sha256": "cd" * 32,
                     "float_accuracy": 0.915} for v in victims],
        "artifacts": artifacts, "patches": patches, "examples": examples, "class_names": classes, "errors": [],
        "targets": [{"name": t, "runtime": r, "host": "local", "info": {"version": "1.0", "kernels": "xnnpack"},
                     "machine": {"arch": "x86_64", "cpu": "Intel Xeon"}} for t, r in RUNTIMES.items()],
        "latency": [{"artifact": a["name"], "target": t, "threads": 1, "p50_ms": 0.41, "p90_ms": 0.47, "p99_ms": 0.6,
                     "throughput": 2400.0, "n": 1200, "cold_start_ms": 14.2, "peak_rss_mb": 81.0,
                     "emulated": "arm" in t}
                    for a, (*_, targets) in zip(artifacts, files * len(victims), strict=False) for t in targets],
    }  # fmt: skip
    (root / "run.json").write_text(json.dumps(run))
    return root


def _picture(path: Path, kind: str, seed: int, side: int = 8) -> None:
    rng = np.random.default_rng(seed + 2)
    pixels = rng.integers(0, 256, (side, side, 3)).astype(np.uint8)
    if kind == "grey":
        pixels[:] = 128
    if kind in ("clean", "patched"):
        wave = np.sin(np.add.outer(np.arange(side) / 9, np.arange(side) / 14) + seed)
        pixels = np.stack([110 + 60 * wave, 140 + 40 * wave, 160 - 50 * wave], -1).astype(np.uint8)
    if kind == "patched":
        pixels[18:26, 4:12] = rng.integers(0, 256, (8, 8, 3))
    Image.fromarray(pixels).save(path)


def text_of(page: str) -> str:
    return re.sub(r"[ \n]+", " ", re.sub(r"<[^>]+>", " ", re.sub(r"<(style|script)>.*?</\1>", "", page, flags=re.S)))


def table_of(run: Path) -> pd.DataFrame:
    return labelled(cells(pd.read_parquet(run / "records.parquet")))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("run"))


@pytest.mark.parametrize(
    ("survives", "verdict", "sentence"),
    [
        (0.55, "depends", "It depends on artifact and target"),
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
    assert head.sentence.startswith("No: on the integer targets the patch keeps 0")


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


def test_the_page_holds_the_run(run: Path) -> None:
    page = build(run).read_text()
    text = text_of(page)
    summary = headline(table_of(run))
    for wanted in (
        summary.sentence, "CIFAR-10, calibration beside calibration", "emulated: not comparable", "20 QLinearConv",
        "What is outside of what is measured", "patchbench run benchmarks/suites/cifar10.toml",
        "trained on the official", "128 to calibrate", "TFLite INT8 moving average", "gap → cat",
        "the patch wants dog", "300 images", "6 patches",
    ):  # fmt: skip
        assert wanted in text, wanted
    assert "What failed" not in text
    assert page.count("data:image/png;base64,") == 2 * 9 + 2 * 4
    patch = base64.b64encode((run / "patches/resnet20-gap-t3-s0.png").read_bytes()).decode()
    assert patch in page
    assert len(re.findall(r'<svg viewBox="[^"]+" role="img">', page)) == 4  # success and calibration, two victims
    assert not re.search(r'(src|href)="(?!data:|#)', page)
    assert not re.search(r"url\((?!#)", page)
    assert list(run.glob("*.part")) == []


def test_categories_make_the_same_page(run: Path) -> None:
    """Text columns come as categories from `harness.records`, and from a parquet file that was written from them."""
    records = pd.read_parquet(run / "records.parquet")
    page = build(run).read_text()
    text = [c for c in records.columns if not pd.api.types.is_numeric_dtype(records[c])]
    records.astype(dict.fromkeys(text, "category")).to_parquet(run / "records.parquet")
    assert (pd.read_parquet(run / "records.parquet").dtypes == "category").sum() == len(text)
    assert build(run).read_text() == page


def test_errors_come_first_and_in_no_rate(tmp_path: Path) -> None:
    root = make_run(tmp_path, victims=("net",), broken=("litert", "litert-arm64"))
    facts = json.loads((root / "run.json").read_text())
    facts["errors"] = [{"target": "ssh-pi", "message": "connection refused"}]
    (root / "run.json").write_text(json.dumps(facts))
    page = build(root).read_text()
    text = text_of(page)
    assert text.index("What failed") < text.index("Success and clean accuracy by target")
    assert "connection refused" in text
    assert re.search(
        r"TFLite INT8 minmax litert-arm64 crash: SIGSEGV 15 4500", text
    )  # 6 patches, 3 classes x 3 controls
    assert "24 patched cells on integer targets failed and are left out" in text
    printed = Console(width=200, record=True, file=open("/dev/null", "w"))  # noqa: SIM115, PTH123
    printed.print(terminal.table(cells(pd.read_parquet(root / "records.parquet"))))
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
        "no records": ["No patch was replayed", "There is no cell to show", "The run has no cells", "No latency"],
        "no patches": ["No patch was replayed", "No patch was made or brought", "97.7"],
        "all errors": ["No answer: no patched cell ran", "What failed", "hung"],
        "one artifact": ["No answer: no patch ran both in the lab", "one calibration, minmax: there is nothing to set"],
        "bare run.json": ["It depends", "No latency was measured", "No patch was made or brought"],
        "untargeted": ["misleads the network on", "untargeted"],
    }[kind]
    for words in wanted:
        assert words in text, words
    assert "nan" not in re.findall(r"\w+", text)
    assert "Undefined" not in text
    assert terminal.table(cells(records)).row_count == (
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
        "gap, made on float, 6 px", "gap, made on float, 8 px", "gap, made on float:b, 8 px",
    ]  # fmt: skip


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

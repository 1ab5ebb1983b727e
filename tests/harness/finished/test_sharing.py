"""A result that leaves the house: nothing private is left in it, its hashes are, and they are checked."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from helpers.command import patchbench
from helpers.edited_runs import MOVING, SOME, facts_of, rewrite
from helpers.made_run import headline_of, make_run
from helpers.required import absent

from harness.finished.redaction import Redaction
from harness.finished.sharing import differences, share
from harness.report.page import build
from harness.results.baseline import freeze
from harness.results.metrics import cells
from harness.results.run_directory import RunFacts

FILE = "acme_secret_v7"
MACHINE = "annas-laptop"
SUITE = {
    "name": "release", "schema": 1, "title": f"Is {FILE} robust?",
    "data": {"name": "folder", "path": "/srv/customers/AcmePhotos", "note": "photographs of ANNA_2024.jpg"},
    "victim": [{"name": "net", "model": "resnet20", "weights": "https://files.acme.example/w/acme_weights.pt"}],
    "artifact": [{"name": FILE, "file": f"vendor/{FILE}.tflite"}],
    "attack": [{"name": "gap", "options": {"steps": 300, "start": "drafts/secretpatch.npz"}}],
    "target": [
        {"name": "ort", "runtime": "onnxruntime", "host": "ssh", "address": "maria@board7.lab.acme.example"},
        {"name": "fleet", "runtime": "onnxruntime", "host": "ssh", "address": ["jetsonlab3", "jetsonlab4"]},
    ],
}  # fmt: skip
ERROR = "ssh maria@10.20.30.40: cannot read C:\\\\Users\\\\maria\\\\blob.bin, see /opt/acme/run.log"
PRIVATE = [
    FILE, "AcmePhotos", "ANNA_2024", "acme.example", "acme_weights", "secretpatch", "maria", "board7", "10.20.30.40",
    "blob.bin", "/opt/acme", "/home/", "hidden-suite", "6.1-acmekernel", "acme/runtime", "hushhush", "test-0000",
    "data:image", "vendor/", "/srv/", MACHINE, ".png", ".npz", "jetsonlab",
]  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose suite, environment, errors and names give away what they can."""
    root = make_run(tmp_path_factory.mktemp("runs") / "run", victims=("net",), images=200, goals=(3, 5), files=SOME)
    records = pd.read_parquet(root / "records.parquet").replace({"artifact": {MOVING: FILE}})
    failed = (records["artifact"] == "net-onnx-w8a8-u8s8-moving_average") & (records["attack"] == "grey")
    records.loc[failed, ["status", "pred"]] = [ERROR, -1]
    facts = facts_of(root) | {
        "suite": SUITE, "title": SUITE["title"], "label": f"{FILE}, by maria@acme.example",
        "command": "patchbench run /home/maria/hidden-suite.toml --data /srv/customers",
        "machine": {"cpu": "Intel(R) Xeon(R) CPU @ 2.20GHz", "arch": "x86_64", "kernel": "6.1-acmekernel"},
        "errors": [{"artifact": FILE, "target": "ort", "case": "gap", "message": ERROR}],
    }  # fmt: skip
    for entry in facts["artifacts"]:
        entry["name"] = FILE if entry["name"] == MOVING else entry["name"]
    facts["victims"][0]["model"] = "hushhush.network:make"
    for entry in facts["targets"]:
        entry["info"] = {"library": "/opt/acme/libdelegate.so", "node": MACHINE, "version": "1.20.1"}
        entry["boards"] = [{"address": "jetsonlab3", "replays": 1, "aside": "jetsonlab3: Connection refused"}]
        entry["machine"] = {"image": "registry.acme.example/acme/runtime:1", "arch": "x86_64"}
    rewrite(root, records, facts)
    build(root)
    rewrite(root)
    return root


@pytest.fixture(scope="module")
def shared(run: Path) -> Path:
    folder = run.parent / "shared"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket, "gethostname", lambda: f"{MACHINE}.lan")
        share(run, folder)
    return folder


def test_nothing_private_is_left(run: Path, shared: Path) -> None:
    assert {file.name for file in shared.iterdir()} == {"report.html", "cells.csv", "manifest.json"}
    own = (run / "report.html").read_text() + (run / "run.json").read_text()
    assert [word for word in (FILE, "maria", "/opt/acme", "data:image") if word not in own] == []  # it was there
    for file in shared.iterdir():
        text = file.read_text().lower()
        assert [word for word in (*PRIVATE, str(run)) if word.lower() in text] == [], file.name


def test_what_was_measured_is_left_with_its_hashes(run: Path, shared: Path) -> None:
    page = (shared / "report.html").read_text()
    facts = facts_of(run)
    assert headline_of(pd.read_parquet(run / "records.parquet")).sentence in page.replace("&nbsp;", "\xa0")
    assert facts["victims"][0]["sha256"] in page
    assert all(artifact["sha256"] in page for artifact in facts["artifacts"])
    assert "Intel(R) Xeon(R) CPU @ 2.20GHz" in page
    assert "&#34;steps&#34;: 300" in page  # the attack's numbers
    table = pd.read_csv(shared / "cells.csv")
    assert len(table) == len(cells(pd.read_parquet(run / "records.parquet")))
    assert table["artifact"].nunique() == len(facts["artifacts"])  # other names, as many


def test_a_run_is_left_as_it_is(run: Path, tmp_path: Path) -> None:
    before = {file: file.read_bytes() for file in run.rglob("*") if file.is_file()}
    share(run, tmp_path / "shared")
    assert {file: file.read_bytes() for file in run.rglob("*") if file.is_file()} == before


@pytest.mark.parametrize(
    "text",
    [
        "3/5 of the patches", "2026-11-24T04:20:11+00:00", "onnxruntime 1.20.1", "CPU @ 2.20GHz",
        "gap, crafted on float", "fake_quant:w4a4", "ab" * 32, "resnet20", "marias",
    ],
)  # fmt: skip
def test_other_texts_stay(run: Path, text: str) -> None:
    assert Redaction(RunFacts.model_validate(facts_of(run))).text(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "/etc/passwd", "~/x/secret", "..\\secret\\y", "D:\\secret\\file", "https://secret.example/x?y",
        "me@secret.example", "192.168.17.4", "fe80:0:0:0:1:2:3:4", "secret.onnx", "my-secret.v2.tflite",
        "a secret.PNG, too",
    ],
)  # fmt: skip
def test_whatever_looks_private_goes(run: Path, text: str) -> None:
    said = Redaction(RunFacts.model_validate(facts_of(run))).text(text)
    assert "secret" not in said
    assert not any(part in said for part in ("passwd", "192.168", "fe80", "me@"))


def test_the_manifest_is_checked(run: Path, shared: Path, tmp_path: Path) -> None:
    assert list(differences(shared, run, None)) == []
    copy = shutil.copytree(shared, tmp_path / "copy")
    (copy / "report.html").write_text((copy / "report.html").read_text().replace("7", "8", 1))
    (copy / "more.html").write_text("")
    (copy / "manifest.json.sig").write_text("")
    found = list(differences(copy, None, None))
    assert [line.split(": ")[0] for line in found] == [str(copy / "report.html"), str(copy / "more.html")]
    other = shutil.copytree(run, tmp_path / "other")
    with (other / "records.parquet").open("ab") as file:
        file.write(b"\0")
    (line,) = differences(shared, other, None)
    assert line.startswith(f"{other / 'records.parquet'}: expected sha256")


def test_the_baseline_that_judged_it_can_be_named(run: Path, shared: Path, tmp_path: Path) -> None:
    baseline = tmp_path / "baseline.json"
    freeze(run, baseline)
    share(run, tmp_path / "shared", baseline)
    assert list(differences(tmp_path / "shared", None, baseline)) == []
    assert list(differences(shared, None, baseline)) == [f"{baseline}: the manifest names no baseline"]
    baseline.write_text(baseline.read_text() + "\n")
    (line,) = differences(tmp_path / "shared", None, baseline)
    assert line.startswith(f"{baseline}: expected sha256")


def test_the_commands_tell_it_by_their_exit_codes(run: Path, tmp_path: Path) -> None:
    folder = tmp_path / "shared"
    assert patchbench("report", run, "--share", folder, cwd=tmp_path).returncode == 0
    assert patchbench("verify", folder, run, cwd=tmp_path).returncode == 0
    again = patchbench("report", run, "--share", folder, cwd=tmp_path)
    assert (again.returncode, again.stderr) == (2, f"error: {folder}: expected a new or empty folder\n")
    (folder / "cells.csv").unlink()
    said = patchbench("verify", folder, cwd=tmp_path)
    assert (said.returncode, f"{folder / 'cells.csv'}: missing" in said.stdout) == (1, True)
    content: dict[str, Any] = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(content | {"commit": "forged"}))
    damaged = patchbench("verify", folder, cwd=tmp_path)
    assert damaged.returncode == 2
    assert "not what was sealed with it" in damaged.stderr


def test_a_manifest_can_be_signed_with_an_ssh_key(shared: Path, tmp_path: Path) -> None:
    if not shutil.which("ssh-keygen"):
        absent("ssh", "ssh-keygen is not installed")
    folder = shutil.copytree(shared, tmp_path / "shared")
    key = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    (tmp_path / "signers").write_text(f"me@example.org {(tmp_path / 'key.pub').read_text()}")
    manifest = folder / "manifest.json"
    subprocess.run(["ssh-keygen", "-Y", "sign", "-f", key, "-n", "patchbench", manifest], check=True)
    command = ["ssh-keygen", "-Y", "verify", "-f", tmp_path / "signers", "-I", "me@example.org", "-n", "patchbench"]
    verify = [*command, "-s", folder / "manifest.json.sig"]
    assert subprocess.run(verify, stdin=manifest.open("rb")).returncode == 0
    assert list(differences(folder, None, None)) == []  # a signature may lie beside it
    manifest.write_text(manifest.read_text().replace('"schema"', ' "schema"'))
    assert subprocess.run(verify, stdin=manifest.open("rb")).returncode != 0

"""The bare machine of CI, and the second run of what it left out."""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from helpers import ROOT, left_out, required
from helpers.left_out import Ledger

SSH = f"{required.LEFT_OUT}ssh: no sshd"


def report(name: str, why: str = "") -> SimpleNamespace:
    return SimpleNamespace(nodeid=name, skipped=bool(why), longrepr=("file", 1, f"Skipped: {why}") if why else None)


def finished(ledger: Ledger, *reports: SimpleNamespace) -> int:
    """Return the exit status of a run with these reports, where every test passed."""
    session = SimpleNamespace(exitstatus=0)
    for one in reports:
        ledger.pytest_runtest_logreport(one)
    ledger.pytest_sessionfinish(session)
    return int(session.exitstatus)


def test_what_was_absent_is_written_and_other_skips_are_not(tmp_path: Path) -> None:
    file = tmp_path / "out" / "left-out.json"
    reports = (report("ran"), report("on the board", SSH), report("on arm alone", "not this CPU"))
    assert finished(Ledger(str(file), None), *reports) == 0
    assert json.loads(file.read_text()) == {"ran": 1, "left_out": {"on the board": "ssh: no sshd"}}


def test_the_second_run_wants_what_is_required(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "left-out.json"
    file.write_text(json.dumps({"ran": 1, "left_out": {"a": "ssh: no sshd", "b": "docker: no engine"}}))
    config = SimpleNamespace(option=SimpleNamespace(only_left_out=str(file)))
    monkeypatch.setattr(left_out, "REQUIRED", {"ssh", "data"})
    assert left_out.wanted(config) == {"a"}


def test_a_test_that_is_gone_or_skipped_again_fails_the_second_run() -> None:
    assert finished(Ledger(None, {"a", "b"}), report("a"), report("b")) == 0
    assert finished(Ledger(None, {"a", "b"}), report("a")) == 1
    assert finished(Ledger(None, {"a", "b"}), report("a"), report("b", "for another reason")) == 1


def test_a_bare_machine_hides_programs_and_the_images(tmp_path: Path) -> None:
    for name in ("docker", "qemu-arm", "sshd", "harmless"):
        (tmp_path / name).write_text("#!/bin/sh\n")
        (tmp_path / name).chmod(0o755)
    variables = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}", "PYTHON": sys.executable}
    variables |= {"PATCHBENCH_DATA": str(tmp_path), "PATCHBENCH_REQUIRE": "ssh"}
    script = 'command -v docker qemu-arm sshd npm chromium; command -v harmless; echo "[$PATCHBENCH_DATA]"; exit 3'
    done = subprocess.run([ROOT / ".ci" / "bare", "sh", "-c", script], capture_output=True, text=True, env=variables)
    assert done.returncode == 3
    first, second = done.stdout.splitlines()
    assert (Path(first).name, second) == ("harmless", "[]")

"""The local page over all runs: what it lists, and what it serves to nobody but its owner."""

from __future__ import annotations

import http.client
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from threading import Thread
from urllib.parse import urlsplit
from urllib.request import urlopen

import pandas as pd
import pytest
from helpers import ROOT
from helpers.command import INTERRUPTIBLE, environ
from helpers.edited_runs import MOVING, SOME, after, both, facts_of, flip, rewrite
from helpers.made_run import headline_of, make_run

from harness.finished.server import Server
from harness.report.page import build
from harness.results.metrics import cells, summarise
from harness.results.run_directory import write_summary

LABEL = "<b>a new runtime</b>"


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs of one suite, a damaged, an unfinished and a linked one."""
    root = tmp_path_factory.mktemp("runs") / "out"
    first = make_run(root / "first", victims=("net",), images=200, goals=(3, 5), files=SOME)
    second = after(
        first, root / "deep", both(flip(0.2), lambda records, run: run.update(label=LABEL, commit="c0ffee+"))
    )
    for run_dir in (first, second):
        records = pd.read_parquet(run_dir / "records.parquet")
        table = cells(records)
        write_summary(run_dir, "cifar10", table, summarise(table, records))
        build(run_dir)
        rewrite(run_dir, run=facts_of(run_dir))
    shutil.copytree(first, root / "damaged")
    with (root / "damaged" / "records.parquet").open("r+b") as file:
        file.write(b"nothing")
    (root / "unfinished" / "store").mkdir(parents=True)
    shutil.copytree(first, root.parent / "elsewhere")
    (root / "linked").symlink_to(root.parent / "elsewhere")
    (first / "study.html").symlink_to(root.parent / "elsewhere" / "report.html")
    (first / "study").mkdir()
    (first / "study" / "figure.svg").write_text("<svg/>")
    return root


@pytest.fixture(scope="module")
def server(runs: Path) -> Iterator[Server]:
    with Server(runs) as server:
        thread = Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def ask(server: Server, path: str, *, token: bool = True, **headers: str) -> http.client.HTTPResponse:
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=120)
    connection.request("GET", f"/{server.token}/{path}" if token else path, headers=headers)
    return connection.getresponse()


def test_the_page_lists_every_run_and_says_what_is_wrong_with_those_it_cannot_read(server: Server, runs: Path) -> None:
    page = ask(server, "").read().decode()
    assert "4 runs" in page
    assert LABEL not in page  # text from files is escaped
    assert "&lt;b&gt;a new runtime&lt;/b&gt;" in page
    assert "c0ffee+" in page
    for run_dir in (runs / "first", runs / "deep" / "after"):
        assert headline_of(pd.read_parquet(run_dir / "records.parquet")).sentence in page
        assert f'href="runs/{run_dir.relative_to(runs)}/report.html"' in page
    worst = re.findall(r"<li>(.+), gap: ([\d.]+)\xa0% \([\d.–]+\)</li>", page)
    rates = [float(rate) for _, rate in worst[:2]]
    assert worst[0][0].startswith("ONNX INT8")
    assert rates == sorted(rates, reverse=True)
    faults = page.split("Damaged or unfinished")[1]
    assert f"{runs / 'damaged' / 'records.parquet'}: expected sha256" in faults
    assert f"{runs / 'unfinished'}: no run.json" in faults
    assert "linked" not in page


@pytest.mark.parametrize(
    ("token", "headers", "status"),
    [(True, {}, 200), (True, {"Host": "localhost:PORT"}, 200), (False, {}, 403)]
    + [(True, {"Host": host}, 421) for host in ("evil.example", "evil.example:PORT", "127.0.0.1", "127.0.0.1:1", "")],
)  # fmt: skip
def test_only_this_host_with_the_token_is_answered(
    server: Server, token: bool, headers: dict[str, str], status: int
) -> None:
    named = {name: value.replace("PORT", str(server.server_port)) for name, value in headers.items()}
    for path in ("", "runs/first/report.html"):
        assert ask(server, path if token else f"/{path}", token=token, **named).status == status


def test_it_listens_on_the_loopback_address_alone(server: Server) -> None:
    assert server.server_address[0] == "127.0.0.1"


def test_a_report_is_served_as_it_is_and_can_reach_nothing(server: Server, runs: Path) -> None:
    answer = ask(server, "runs/first/report.html")
    assert answer.read() == (runs / "first" / "report.html").read_bytes()
    policy = str(answer.headers["Content-Security-Policy"])
    assert "sandbox allow-scripts" in policy
    assert "default-src 'none'" in policy
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert ask(server, "runs/first/study/figure.svg").headers["Content-Type"] == "image/svg+xml"


@pytest.mark.parametrize(
    "path",
    [
        "runs/first/run.json", "runs/first/records.parquet", "runs/first/patches/net-gap-t3-s0.png",
        "runs/first/../../elsewhere/report.html", "runs/first/%2e%2e/%2e%2e/elsewhere/report.html",
        "runs/first/study/../../../elsewhere/report.html", "runs/first/study/%2e%2e%2f%2e%2e%2f..%2fx.svg",
        "runs//etc/passwd", "runs/%2fetc%2fpasswd", "runs/linked/report.html", "runs/first/study.html",
        "runs/first/report.html%00.csv", "runs/damaged/../first/report.html", "runs/", "nothing",
    ],
)  # fmt: skip
def test_nothing_else_is_served(server: Server, path: str) -> None:
    """Not a run's other files, no way up, and no link, whether to a file or a folder."""
    assert ask(server, path).status == 404


def test_only_reading_is_answered(server: Server) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=60)
    connection.request("POST", f"/{server.token}/")
    assert connection.getresponse().status == 501


def test_two_runs_of_a_suite_are_compared_and_have_a_history(server: Server) -> None:
    page = ask(server, "compare?before=first&after=deep/after").read().decode()
    assert "1 of 6 rates changed beyond chance" in page
    assert ask(server, "compare?before=first").status == 404
    history = ask(server, "history/cifar10").read().decode()
    assert f"{MOVING} on ort" in history
    assert "<svg " in history
    assert ask(server, "history/other").status == 404


def test_the_command_serves_until_it_is_interrupted(runs: Path, tmp_path: Path) -> None:
    command = [*INTERRUPTIBLE, sys.executable, "-m", "harness.cli", "view", str(runs)]
    process = subprocess.Popen(
        command, cwd=ROOT, env=environ(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout
    said = process.stdout.readline()
    found = re.search(r"4 runs below .*: (http://\S+)$", said)
    assert found
    assert urlsplit(found[1]).hostname == "127.0.0.1"
    with urlopen(found[1], timeout=120) as answer:
        assert b"4 runs" in answer.read()
    os.kill(process.pid, signal.SIGINT)
    try:
        _, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    assert (process.returncode, "Traceback" in errors) == (130, False)

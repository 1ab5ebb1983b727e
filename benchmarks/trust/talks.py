"""What devices and their askers say to each other, recorded once and then changed: both sides are fuzzed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import mutations
import numpy as np
from hypothesis import strategies as some
from mutations import Draw, either
from subject import Files, Subject

from backends import ssh_connection
from backends.device.bundle import Bundle, Stamps
from backends.device.cpu_speed import cpu_speed
from backends.device.file_exchange import Message
from backends.device.machine import describe
from backends.device.query_server import serve
from backends.device.replay import Request
from backends.device.runtimes import engine
from backends.hosts import Target, local, replay
from backends.hosts import ssh as board
from backends.query_client import session

EVERY = np.arange(6, dtype=np.int32)
TOLD = "told.jsonl"
# What a device may do besides telling lines; `{}` is the file of these.
PROGRESS = json.dumps({"event": "progress", "case": "none", "done": 1, "of": 6})
DEVICES = ("cat {}", "cat {}; sleep 60", "cat {}; yes", f"cat {{}}; yes '{PROGRESS}'", "cat {}; cat /dev/zero",
           "cat {} >&2", "cat {}; kill -SEGV $$", "cat {}; yes >&2")  # fmt: skip


def talks(made: Path) -> Iterator[Subject]:
    """Both sides of a replay, a session, and a board's exchange of files."""
    bundle = made / "onnx"
    asked, told, results = record(bundle, made / "talk", partial(_replay, bundle))
    yield Subject("events of a replay", 6, results | {TOLD: told, "device": b""}, change, partial(_replay_told, bundle))
    queries, scores, _ = record(bundle, made / "session", partial(_ask, bundle))
    yield Subject("events of a session", 4, {TOLD: scores, "device": b""}, change, partial(_ask_told, bundle))
    yield Subject("request", 3, {"asked": asked.splitlines()[0]}, change_line, _read_request)
    lines: Files = {"asked": queries.splitlines()[1]}
    yield Subject("query", 4, lines, change_line, partial(_serve, bundle))
    about: Message = {
        "home": "/home/pi/.cache/patchbench",
        "machine": describe()._asdict(),
        "speed": cpu_speed()._asdict(),
        "version": "1.0",
    }
    files = {TOLD: _lines(about, {"missing": []}, {"ready": True}), "gave.jsonl": _lines(about, {"bytes": 4}) + b"abcd"}
    yield Subject("messages of a board", 3, files | {"device": b""}, change, partial(_connect, bundle))


def record(bundle: Path, folder: Path, talk: Callable[[Path, Target], object]) -> tuple[bytes, bytes, Files]:
    """Let an asker talk to a real device; return what it asked, what it was told, and the device's results."""
    folder.mkdir(parents=True, exist_ok=True)
    asked, told = folder / "asked.jsonl", folder / TOLD

    def start(_target: Target, bundle: Path, out: Path) -> subprocess.Popen[bytes]:
        device = f"{sys.executable} -m backends.device.replay {bundle} {out}"
        return _shell(f"tee {asked} | {device} | tee {told}")

    with patch.object(local, "start", start):
        talk(folder, Target("device", "onnxruntime"))
    return asked.read_bytes(), told.read_bytes(), {p.name: p.read_bytes() for p in folder.glob("out/*.npz")}


def change(draw: Draw, files: Files) -> Files:
    """Change what a device tells: a line, the order of lines, or what it does afterwards; seldom a result."""
    talk = draw(some.sampled_from([name for name in files if name.endswith(".jsonl")]))
    lines = files[talk].splitlines()
    at = draw(some.integers(0, len(lines) - 1))
    match either(draw, (12, "change"), (2, "remove"), (2, "repeat"), (2, "move"), (1, "garbage"), (2, "result")):
        case "change":
            lines[at] = (mutations.json_text if lines[at][:1] == b"{" else mutations.raw_bytes)(draw, lines[at])
        case "remove":
            del lines[at]
        case "repeat":
            lines.insert(at, lines[draw(some.integers(0, len(lines) - 1))])
        case "move":
            lines.append(lines.pop(at))
        case "garbage":
            lines.insert(
                at,
                draw(some.sampled_from([b"[" * 100_000, b"{}", b"null", b"\xff" * 9, b"a" * (3 << 20), b"1" * 5000])),
            )
        case "result":
            names = [name for name in files if name.endswith(".npz")]
            if names:
                name = draw(some.sampled_from(names))
                data = mutations.npz(draw, files[name])
                told = files[TOLD].replace(mutations.sha256(files[name]), mutations.sha256(data))
                return {name: data, TOLD: told}
    device = either(draw, (300, DEVICES[0]), *((1, device) for device in DEVICES[1:]))
    return {talk: b"\n".join(lines) + b"\n", "device": device.encode()}


def change_line(draw: Draw, files: Files) -> Files:
    """Change a line of JSON."""
    return {"asked": mutations.json_text(draw, files["asked"])}


def _start(folder: Path, *_: object) -> subprocess.Popen[bytes]:
    """Start what stands for a device: it tells the lines of a file."""
    told = folder / "files" / TOLD
    device = (folder / "files" / "device").read_text() or DEVICES[0]
    return _shell(device.replace("{}", str(told)))


def _shell(script: str) -> subprocess.Popen[bytes]:
    pipe = subprocess.PIPE
    return subprocess.Popen(["sh", "-c", script], stdin=pipe, stdout=pipe, stderr=pipe, start_new_session=True)


def _replay(bundle: Path, folder: Path, target: Target) -> object:
    outcome = replay(target, bundle, folder / "out")
    cases = {case.name for case in Bundle.read(bundle).cases}
    assert outcome.files.keys() | outcome.errors.keys() == cases, f"cases without an answer: {outcome}"
    for file in outcome.files.values():
        with np.load(file, allow_pickle=False) as arrays:
            assert arrays["logits"].shape[0] == len(EVERY), f"{file}: an answer that is none was taken"
    return outcome


def _replay_told(bundle: Path, folder: Path) -> object:
    for result in (folder / "files").glob("*.npz"):
        (folder / "out" / result.name).write_bytes(result.read_bytes())
    with patch.object(local, "start", partial(_start, folder)):
        return _replay(bundle, folder, Target("device", "onnxruntime", time_limit=2.0))


def _ask(bundle: Path, folder: Path, target: Target) -> object:
    pixels = Bundle.read(bundle).pixels
    stamps = Stamps(np.array(pixels[:1, :3, :3]), np.ones((1, 3, 3), bool), np.ones((6, 2), np.int32))
    with session(target, bundle, folder / "out") as held:
        found = [held.scores(stamps, EVERY) for _ in range(2)]
    assert all(one.shape == (len(EVERY), 4) and one.dtype == np.float32 for one in found), "scores that are none"
    return found


def _ask_told(bundle: Path, folder: Path) -> object:
    with patch.object(local, "start", partial(_start, folder)):
        return _ask(bundle, folder, Target("device", "onnxruntime", time_limit=2.0))


def _read_request(folder: Path) -> object:
    return Request.read((folder / "files" / "asked").read_bytes())


def _serve(bundle: Path, folder: Path) -> object:
    found = Bundle.read(bundle)
    runtime = engine("dummy")()
    runtime.load(found.file, {}, 1)
    lines = (folder / "files" / "asked").read_bytes().splitlines()
    return serve(runtime, found, 1, 192, lines, lambda *_, **__: None)


def _lines(*messages: Message) -> bytes:
    return b"".join(json.dumps({"board": message}).encode() + b"\n" for message in messages)


def _connect(bundle: Path, folder: Path) -> object:
    """Send a bundle to a board that has all of its files, start the device there, and fetch a result."""
    script = (folder / "files" / "device").read_text() or DEVICES[0]
    target = Target("board", "onnxruntime", host="ssh", address="board", time_limit=2.0)
    ssh_connection._reached.clear()

    def saying(told: str) -> Any:
        command = ["sh", "-c", script.replace("{}", str(folder / "files" / told)) + "; cat > /dev/null"]
        return patch.object(ssh_connection, "command", lambda *_: command)

    impatient = patch.object(ssh_connection, "SILENCE_SECONDS", target.time_limit)
    with impatient, saying(TOLD), board.start(target, bundle, folder / "out") as device:
        os.killpg(device.pid, signal.SIGKILL)
    ssh_connection._reached.clear()
    with impatient, saying("gave.jsonl"):
        board.fetch(target, folder / "out", "none.npz", 1000)
    return (folder / "out" / "none.npz").read_bytes()

"""Faults of devices: runtimes that crash, hang or lie, connections that break, containers that are killed."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
from campaign import Ended, end_group, patchbench, start
from inflict import evil_runtime
from inflict.site import Fault, NotHere, Observed, Site, both
from processes import naming

ROOT = Path(__file__).parents[3]
TIME_LIMIT = 3.0  # seconds of silence
MOST_SECONDS = 60.0  # whatever a device does
REMOVED_SECONDS = 10.0  # the engine may take as long to remove a container, after the command
MOST_KILOBYTES = 4_000_000  # of address space
FAILED = (1, 2)
# The answers are those that the runtime gave; what they are worth is judged later.
HARMLESS = ("not a number", "infinity", "words on stdout", "forked, goes on", "writes into its input")
ENGINE = "docker"


def evil(site: Site, fault: str) -> Iterator[Observed]:
    """A runtime that does evil in its fifth run."""
    packages = site.folder / "site"
    info = packages / "evil-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: evil\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[patchbench.runtimes]\nevil = evil_runtime:Engine\n")
    shutil.copy(evil_runtime.__file__, packages)
    path = os.pathsep.join(filter(None, [str(packages), os.environ.get("PYTHONPATH")]))
    options = ("--option", f"fault={fault}", "--time-limit", TIME_LIMIT)
    ended = patchbench(
        "replay", site.bundle(), "--runtime", "evil", *options, "--into", "answers",
        folder=site.folder, environment={"PYTHONPATH": path}, limit=MOST_SECONDS,
        below=("sh", "-c", f'ulimit -v {MOST_KILOBYTES}; exec "$@"', "sh"),
    )  # fmt: skip
    codes = (0,) if fault in HARMLESS else FAILED
    yield Observed("", _without_the_tail(ended), codes, site.left(site.folder / "answers"))


def _without_the_tail(ended: Ended) -> Ended:
    """Cut what the device wrote, which follows the error that names the case: its traceback is not ours."""
    first = ended.line
    if first.startswith("error: case") and ended.stderr.lstrip().startswith("error: case"):
        return ended._replace(stderr=first + "\n")
    return ended


CUT = '''#!{python}
"""The user's ssh, whose connection breaks before one of the board's messages."""
import fcntl, os, re, subprocess, sys

MESSAGE = re.compile(rb'{{"(?:board|event)":')
process = subprocess.Popen([{ssh!r}, *sys.argv[1:]], stdout=subprocess.PIPE)
kept = b""
while data := os.read(process.stdout.fileno(), 1 << 16):
    data, kept = kept + data, b""
    begins = [found.start() for found in MESSAGE.finditer(data)]
    with open({counter!r}, "r+") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        number = int(stream.read() or 0)
        stream.seek(0)
        stream.write(str(number + len(begins)))
    if number < {cut} <= number + len(begins):
        os.write(1, data[: begins[{cut} - number - 1] + 5])
        process.kill()
        sys.exit(255)
    while data:
        data = data[os.write(1, data) :]
sys.exit(process.wait())
'''


def cut_connections(site: Site) -> Iterator[Observed]:
    """The connection to a board breaks in each of its messages, one after the other."""
    if not (shutil.which("sshd") and shutil.which("ssh")):
        raise NotHere("no sshd and ssh in PATH")
    sys.path.append(str(ROOT / "tests"))
    from helpers import board as boards

    bundle = site.bundle()
    (site.folder / "board").mkdir()
    with boards.running(site.folder / "board") as board:
        whole, messages = _over_ssh(site, bundle, board.bin, 0)
        if whole.code != 0:
            yield Observed("undisturbed", whole, (0,))
            return
        for cut in range(1, messages + 1):
            ended, _ = _over_ssh(site, bundle, board.bin, cut)
            until = time.monotonic() + 10
            while board.devices() and time.monotonic() < until:
                time.sleep(0.05)
            objection = "running on the board" if board.devices() else ""
            if ended.code == 0 and not _equal(site.folder / "answers-0", site.folder / f"answers-{cut}"):
                objection = both(objection, "other answers")
            yield Observed(f"message {cut} of {messages}", ended, (0, *FAILED), objection)


def _over_ssh(site: Site, bundle: Path, ssh: Path, cut: int) -> tuple[Ended, int]:
    """Replay on a board; return how that ended, and how many messages came."""
    folder = site.folder / f"bin-{cut}"
    folder.mkdir()
    counter = folder / "messages"
    counter.write_text("0")
    script = CUT.format(python=sys.executable, ssh=str(ssh / "ssh"), counter=str(counter), cut=cut)
    (folder / "ssh").write_text(script)
    (folder / "ssh").chmod(0o755)
    target = ("--runtime", "dummy", "--option", "milliseconds=10", "--host", "ssh", "--address", "board")
    ended = patchbench(
        "replay", bundle, *target, "--into", f"answers-{cut}",
        folder=site.folder, environment={"PATH": f"{folder}:{os.environ['PATH']}"}, limit=MOST_SECONDS * 2,
    )  # fmt: skip
    return ended, int(counter.read_text())


def _equal(one: Path, other: Path) -> bool:
    """Whether two folders of answers hold the same."""
    for path in one.glob("*.npz"):
        if not (other / path.name).is_file():
            return False
        with np.load(path, allow_pickle=False) as mine, np.load(other / path.name, allow_pickle=False) as theirs:
            if not all(np.array_equal(mine[name], theirs[name]) for name in mine.files):
                return False
    return True


def killed_device(site: Site, number: int) -> Iterator[Observed]:
    """The device is killed from outside in the middle of a case, as by a kernel that is short of memory."""
    target = ("--runtime", "dummy", "--option", "milliseconds=200")
    process = start("replay", site.bundle(), *target, "--into", "answers", folder=site.folder)
    begun = time.monotonic()
    devices = []
    while process.poll() is None and not devices:
        devices = [one for one in naming(site.folder) if "backends.device.replay" in one.cmdline()]
        time.sleep(0.05)
    time.sleep(site.chance.uniform(0.5, 3.0))
    for one in devices[:1]:
        one.send_signal(number)
    yield Observed("", _awaited(process, begun), FAILED, site.left(site.folder / "answers"))


def killed_container(site: Site) -> Iterator[Observed]:
    """The container is killed in the middle of a case."""
    listed = _docker("ps")
    if listed is None:
        raise NotHere("no engine answers `docker ps`")
    target = ("--runtime", "dummy", "--option", "milliseconds=200", "--host", "docker")
    process = start("replay", site.bundle(), *target, "--into", "answers", folder=site.folder)
    begun = time.monotonic()
    names: list[str] = []
    while process.poll() is None and not names:
        names = (_docker("ps", "--quiet", "--filter", "name=patchbench-") or "").split()
        time.sleep(0.1)
    if not names:
        ended = _awaited(process, begun)
        raise NotHere(f"no container ran: {ended.line}")
    time.sleep(site.chance.uniform(0.5, 3.0))
    _docker("kill", names[0])
    ended = _awaited(process, begun)
    until = time.monotonic() + REMOVED_SECONDS
    while (left := _docker("ps", "--all", "--quiet", "--filter", f"id={names[0]}")) and time.monotonic() < until:
        time.sleep(0.2)
    yield Observed("", ended, FAILED, both(site.left(site.folder / "answers"), "a container is left" if left else ""))


def _docker(*words: str) -> str | None:
    if not shutil.which(ENGINE):
        return None
    done = subprocess.run([ENGINE, *words], capture_output=True, text=True)
    return done.stdout if done.returncode == 0 else None


def _awaited(process: subprocess.Popen[str], begun: float) -> Ended:
    try:
        out, err = process.communicate(timeout=MOST_SECONDS)
        code: int | None = process.returncode
    except subprocess.TimeoutExpired:
        end_group(process.pid)
        out, err = process.communicate()
        code = None
    return _without_the_tail(Ended(code, out, err, time.monotonic() - begun))


FAULTS: dict[str, Fault] = {
    **{f"evil runtime: {fault}": partial(evil, fault=fault) for fault in evil_runtime.DOES},
    "device killed by SIGKILL": partial(killed_device, number=signal.SIGKILL),
    "device stopped by SIGTERM": partial(killed_device, number=signal.SIGTERM),
    "ssh cut": cut_connections,
    "container killed": killed_container,
}

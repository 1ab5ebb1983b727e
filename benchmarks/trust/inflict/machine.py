"""Faults of the machine: its disk, its clock, its memory, its folders for drafts, and where standard output goes."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from campaign import SUITE, patchbench
from inflict.site import Fault, NotHere, Observed, Site, both

YEAR = 365 * 86400
STAGES = ("train", "export", "craft", "replay", "write")
AMPLE = "size=512m,nr_inodes=100k"
SHELL = ("sh", "-c")


@contextmanager
def disk(folder: Path) -> Iterator[Path]:
    """A disk of its own, whose size can be changed."""
    folder.mkdir()
    _mount("-t", "tmpfs", "-o", AMPLE, "tmpfs", folder)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def _mount(*words: str | Path) -> None:
    made = subprocess.run(["mount", *words], capture_output=True, text=True)
    if made.returncode:
        raise NotHere(f"mount: {made.stderr.strip()}")


def disk_fault(site: Site, stage: str, change: str) -> Iterator[Observed]:
    """A run on a disk that is full, has no inodes or cannot be written, until it is mended."""
    with disk(site.folder / "disk") as root:
        run_dir = site.run_before(stage, root / "run")
        about = os.statvfs(root)
        used = (about.f_blocks - about.f_bfree) * about.f_frsize
        inodes = about.f_files - about.f_ffree
        options = {
            "full": f"size={used + site.chance.choice([8, 32, 128]) * 1024}",
            "no inodes": f"nr_inodes={inodes + site.chance.randint(1, 8)}",
            "read-only": "ro",
        }
        _mount("-o", f"remount,{options[change]}", root)
        ended = patchbench("run", SUITE, "--out", run_dir, folder=site.folder)
        left = site.left(run_dir)
        _mount("-o", f"remount,rw,{AMPLE}", root)
        yield Observed("", ended, (0, 2), both(left, site.goes_on(run_dir)))


def file_size(site: Site, stage: str) -> Iterator[Observed]:
    """No file may grow over some kilobytes."""
    run_dir = site.run_before(stage)
    below = (*SHELL, f'ulimit -f {site.chance.choice([8, 16, 64])}; exec "$@"', "sh")
    ended = patchbench("run", SUITE, "--out", run_dir, folder=site.folder, below=below)
    yield Observed("", ended, (0, 2), both(site.left(run_dir), site.goes_on(run_dir)))


def little_memory(site: Site, megabytes: int) -> Iterator[Observed]:
    """The command has little address space."""
    run_dir = site.run_before("export")
    below = (*SHELL, f'ulimit -v {megabytes * 1024}; exec "$@"', "sh")
    ended = patchbench("run", SUITE, "--out", run_dir, folder=site.folder, below=below)
    yield Observed("", ended, (0, 1, 2, 3), both(site.left(run_dir), site.goes_on(run_dir)))


def python_says(site: Site, code: str) -> dict[str, str]:
    """Return the environment in which every Python begins with this."""
    site.folder.joinpath("begin").mkdir()
    site.folder.joinpath("begin/sitecustomize.py").write_text(code)
    return {"PYTHONPATH": os.pathsep.join(filter(None, [f"{site.folder}/begin", os.environ.get("PYTHONPATH")]))}


def clock(site: Site, seconds: int) -> Iterator[Observed]:
    """The clock is set to another time in the middle of a run."""
    run_dir = site.run_before("craft")
    code = f"import time\nreal, real_ns = time.time, time.time_ns\ntime.time = lambda: real() + {seconds}\n"
    code += f"time.time_ns = lambda: real_ns() + {seconds} * 10**9\n"
    ended = patchbench("run", SUITE, "--out", run_dir, folder=site.folder, environment=python_says(site, code))
    yield Observed("", ended, (0,), both(site.left(run_dir), site.goes_on(run_dir)))


def files_of_tomorrow(site: Site) -> Iterator[Observed]:
    """The clock was set back after what is stored was written."""
    run_dir = site.run_before("craft")
    for path in [run_dir, *run_dir.rglob("*")]:
        now = path.stat().st_mtime
        os.utime(path, (now + YEAR, now + YEAR))
    ended = patchbench("run", SUITE, "--out", run_dir, folder=site.folder)
    yield Observed("", ended, (0,), both(site.left(run_dir), site.goes_on(run_dir)))


def no_temporary_folder(site: Site, code: str) -> Iterator[Observed]:
    """There is no folder for temporary files, or not the one that is named."""
    run_dir = site.run_before("export")
    environment = python_says(site, code) | dict.fromkeys(("TMPDIR", "TEMP", "TMP"), "/nonexistent")
    ended = patchbench("run", SUITE, "--out", run_dir, folder=site.folder, environment=environment)
    yield Observed("", ended, (0, 2), both(site.left(run_dir), site.goes_on(run_dir)))


def output(site: Site, redirection: str, codes: tuple[int, ...]) -> Iterator[Observed]:
    """Standard output, or another stream, is closed or full; a line about that says so."""
    run_dir = site.run_before("write")
    words = {
        "run": ("run", SUITE, "--out", run_dir),
        "inspect": ("inspect", next((site.whole / "artifacts").glob("*.onnx"))),
        "help": ("--help",),
    }
    for what, command in words.items():
        ended = patchbench(*command, folder=site.folder, below=(*SHELL, redirection, "sh"))
        is_named = ended.code in (0, 3) or "standard output" in ended.line
        yield Observed(what, ended, codes, both(site.left(run_dir), "" if is_named else "does not name the output"))


NOWHERE = "import tempfile\ntempfile._candidate_tempdir_list = lambda: ['/nonexistent']\n"
CLOSED = 'exec "$@" >&-'
FAULTS: dict[str, Fault] = {
    **{f"full disk, {stage}": partial(disk_fault, stage=stage, change="full") for stage in STAGES},
    **{
        f"no inodes, {stage}": partial(disk_fault, stage=stage, change="no inodes")
        for stage in ("train", "replay", "write")
    },
    "read-only disk": partial(disk_fault, stage="write", change="read-only"),
    **{f"limit of file size, {stage}": partial(file_size, stage=stage) for stage in (*STAGES[:2], "write")},
    **{f"{size} MB of memory": partial(little_memory, megabytes=size) for size in (250, 500, 1000, 2000, 3000, 4000)},
    "clock a year back": partial(clock, seconds=-YEAR),
    "clock at 1971": partial(clock, seconds=-55 * YEAR),
    "clock a year ahead": partial(clock, seconds=YEAR),
    "files of tomorrow": files_of_tomorrow,
    "TMPDIR that is missing": partial(no_temporary_folder, code=""),
    "no temporary folder": partial(no_temporary_folder, code=NOWHERE),
    "closed stdout": partial(output, redirection=CLOSED, codes=(0, 2)),
    "full stdout": partial(output, redirection='exec "$@" >/dev/full', codes=(2,)),
    "closed stderr": partial(output, redirection='exec "$@" 2>&-', codes=(0,)),
    "closed stdin": partial(output, redirection='exec "$@" <&-', codes=(0,)),
}

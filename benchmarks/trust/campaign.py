"""What the campaigns share: a seed for each trial, a file of results to go on from, the command line, a table."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import IO, Annotated, Any, NamedTuple

import typer

import harness

Seed = Annotated[int, typer.Option(help="What decides every trial.")]
Count = Annotated[int, typer.Option(help="Trials, those of former runs included.")]
ResultsFile = Annotated[
    Path, typer.Option("--results", metavar="FILE", help="One JSON object a trial; a second run goes on from there.")
]
TableFile = Annotated[Path | None, typer.Option("--table", metavar="FILE", help="The table, as Markdown.")]

SUITE = Path(__file__).parent / "suite.toml"
PATCHBENCH = (sys.executable, "-m", "harness.cli")  # that of PYTHONPATH, where it is set
TRACEBACK = "Traceback (most recent call last)"
TRACEBACK_SEEN = "traceback"
NOT_OURS = (  # details below a line, and what native libraries say of themselves
    " ", "<jemalloc>", "INFO: Created TensorFlow Lite"
)  # fmt: skip
HUNG = "no end within the limit"


class Results:
    """The rows of a campaign, in the order in which they came; each is on disk before the next trial begins."""

    def __init__(self, file: Path, seed: int) -> None:
        """Read what a former run left; the line that it was writing when it was stopped is dropped."""
        self.file = file
        self.seed = seed
        self.rows: list[dict[str, Any]] = []
        if file.is_file():
            whole = file.read_text()
            whole = whole[: whole.rfind("\n") + 1]
            file.write_text(whole)
            self.rows = [json.loads(line) for line in whole.splitlines()]
        others = {row["seed"] for row in self.rows} - {seed}
        if others:
            sys.exit(f"{file}: expected trials of seed {seed}, found {min(others)}; give another file with --results")

    def trials(self, count: int) -> Iterator[tuple[int, Random]]:
        """Yield the trials that are not done yet, each with a source of chance of its own."""
        done = {row["trial"] for row in self.rows}
        for trial in range(count):
            if trial not in done:
                yield trial, chance(self.seed, trial)

    def add(self, trial: int, **facts: object) -> None:
        """Keep a row; a trial may have several."""
        row = {"seed": self.seed, "trial": trial, **facts}
        self.file.parent.mkdir(parents=True, exist_ok=True)
        with self.file.open("a") as stream:
            stream.write(json.dumps(row) + "\n")
        self.rows.append(row)


def chance(seed: int, trial: int) -> Random:
    """Return the source of chance of one trial, whichever ran before it."""
    return Random(f"{seed} {trial}")


class Ended(NamedTuple):
    """How a command ended: minus the signal's number as its code where one killed it, None where it did not end."""

    code: int | None
    stdout: str
    stderr: str
    seconds: float

    @property
    def line(self) -> str:
        """What it said of its failure: the line of the error, with its details, or of a failed cell; else its last."""
        said = re.search(r"^(error:.*(?:\n +.*)*|failed:.*)", f"{self.stderr}\n{self.stdout}", re.MULTILINE)
        return " ".join(said[0].split()) if said else self.stderr.strip().split("\n")[-1]

    @property
    def objection(self) -> str:
        """What is wrong with its end, empty if nothing: a failure is a code and one line, its details indented."""
        if self.code is None:
            return HUNG
        if TRACEBACK in self.stderr + self.stdout:
            return TRACEBACK_SEEN
        if self.code < 0:
            return f"killed by {signal.Signals(-self.code).name}"
        lines = [line for line in self.stderr.split("\n") if line.strip() and not line.startswith(NOT_OURS)]
        if self.code > 1 and len(lines) != 1:
            return f"{len(lines)} lines instead of one: {' / '.join(lines)}"
        return ""


def start(
    *words: object,
    folder: Path,
    below: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
    stdout: int | IO[str] = subprocess.PIPE,
    stderr: int | IO[str] = subprocess.PIPE,
) -> subprocess.Popen[str]:
    """Start a command line in a folder, in a process group of its own, as an argument of the command `below`."""
    return subprocess.Popen(
        # what a shell runs in the background inherits that Ctrl-C is ignored
        ["env", "--default-signal=INT", *below, *PATCHBENCH, *map(str, words)],
        cwd=folder,
        env=os.environ | (environment or {}),
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=stderr,
        text=True,
        errors="replace",
        start_new_session=True,
    )


class Running:
    """A command that runs in a folder, in a process group of its own; what it says is on disk as it comes."""

    def __init__(self, *words: object, folder: Path, environment: Mapping[str, str] | None = None) -> None:
        self.said, self.complained = folder / "said.txt", folder / "complained.txt"
        with self.said.open("w") as out, self.complained.open("w") as err:
            self.process = start(*words, folder=folder, environment=environment, stdout=out, stderr=err)

    def end(self, limit: float) -> Ended:
        """Wait for its end; after the limit its group is killed. The seconds are those waited."""
        begun = time.monotonic()
        code: int | None = None
        try:
            code = self.process.wait(limit)
        except subprocess.TimeoutExpired:
            end_group(self.process.pid)
            self.process.wait()
        return Ended(code, self.said.read_text(), self.complained.read_text(), time.monotonic() - begun)


def patchbench(*words: object, limit: float = 300.0, **how: Any) -> Ended:
    """Run a command line, started by `start`, to its end; after the limit, or when this ends, its group is killed."""
    begun = time.monotonic()
    process = start(*words, **how)
    code: int | None = None
    try:
        out, err = process.communicate(timeout=limit)
        code = process.returncode
    except subprocess.TimeoutExpired:
        end_group(process.pid)
        out, err = process.communicate()
    finally:
        end_group(process.pid)
    return Ended(code, out or "", err or "", time.monotonic() - begun)


def undisturbed(folder: Path, *words: object, environment: Mapping[str, str] | None = None) -> Path:
    """Return a finished run directory that nothing disturbed, made in a folder unless it is there."""
    folder.mkdir(parents=True, exist_ok=True)
    command = ("run", *(words or (SUITE,)), "--out", folder.resolve() / "undisturbed")
    ended = patchbench(*command, folder=folder, environment=environment)
    if ended.code != 0:
        sys.exit(f"the undisturbed run ended with {ended.code}: {ended.line}")
    return folder.resolve() / "undisturbed"


def commit() -> str:
    """Name the commit of the patchbench that is tested."""
    root = str(Path(harness.__file__).parent)
    found = subprocess.run(["git", "-C", root, "rev-parse", "--short", "HEAD"], capture_output=True, text=True)
    return found.stdout.strip() or "unknown"


def end_group(leader: int) -> None:
    """Kill a process group, if any of it is left."""
    with suppress(ProcessLookupError):
        os.killpg(leader, signal.SIGKILL)


def markdown(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Return a Markdown table; the columns of numbers are set to the right."""
    numbers = [bool(rows) and all(isinstance(row[i], int | float) for row in rows) for i in range(len(head))]
    lines = [head, ["--:" if number else "---" for number in numbers], *rows]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in lines) + "\n"


def write_table(file: Path | None, text: str) -> None:
    """Print a campaign's table, and write it to the file, if one is given."""
    print(text, flush=True)
    if file:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

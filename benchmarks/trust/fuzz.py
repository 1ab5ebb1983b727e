"""Change files by their structure, and read them: ``python benchmarks/trust/fuzz.py``.

A case is *refused* by a UserError, or *accepted*. Anything else is a fault: another exception (traceback), more than
10 s (hang), more than 512 MB above an unfuzzed case (memory), a file outside its folder (escape), a signal (crash).
"""

from __future__ import annotations

import multiprocessing
import os
import re
import resource
import shutil
import signal
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from importlib import import_module
from multiprocessing.connection import Connection
from pathlib import Path
from random import Random
from typing import Annotated

import hypothesis
import typer
from campaign import Count, Results, ResultsFile, Seed, TableFile, markdown, write_table
from fixture import fixture
from fuzzed_files import bundles, model_files, patches
from fuzzed_foreign import foreign_files
from fuzzed_runs import runs, suites
from hypothesis import strategies as some
from subject import Files, Subject
from talks import talks
from watch import HANG_SECONDS, Watch

FAULTS = ("traceback", "hang", "memory", "escape", "crash")
OUTCOMES = ("refused", "accepted", *FAULTS)
# Imported before a process forks; each is what a command would import.
READERS = ("harness.run.run", "harness.report.page", "harness.gate.judge", "harness.config", "harness.networks.weights",
           "harness.data.datasets", "patches.twins.onnx", "patches.twins.tflite", "patches.attacks.imported",
           "exporters.files.onnx", "exporters.files.tflite", "onnxruntime", "pyarrow.parquet")  # fmt: skip
CANARIES = ("canary.json", "canary.npy")
MOST_ADDRESSES = 8 << 30
MOST_FILE_BYTES = 64 << 20

Each = Annotated[int, typer.Option(help="Cases in one process.")]
Only = Annotated[str, typer.Option(help="Only the subjects that begin with this.")]


def main(count: Count = 100_000, seed: Seed = 0, results: ResultsFile = Path("out/trust/fuzz.jsonl"),
         table: TableFile = None, each: Each = 250, only: Only = "") -> None:  # fmt: skip
    """Fuzz every subject, as often as its share of the count says."""
    rows = Results(results, seed)
    made = fixture(results.parent)
    for module in READERS:
        import_module(module)
    kinds = (bundles, model_files, foreign_files, patches, runs, suites, talks)
    everyone = [subject for kind in kinds for subject in kind(made) if subject.name.startswith(only)]
    turns = [subject for subject in everyone for _ in range(subject.often)]
    Random(0).shuffle(turns)
    for trial, _ in rows.trials(-(-count // each)):
        subject = turns[trial % len(turns)]
        seen = fuzz(subject, min(each, subject.most), f"{seed} {trial}", results.with_name("finds"))
        rows.add(trial, subject=subject.name, **seen)
    write_table(table, report(rows))


def fuzz(subject: Subject, cases: int, seed: str, finds: Path) -> dict[str, object]:
    """Run cases of a subject in a process of their own, and in others where one does not survive; count outcomes."""
    counts: Counter[str] = Counter()
    faults: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        while (left := cases - counts.total()) > 0:
            before = counts.total()
            for outcome, says in _cases(subject, left, f"{seed} {before}", folder):
                counts[outcome] += 1
                if outcome in FAULTS:
                    faults[says.partition(": ")[0]] += 1
                    _keep(finds, subject, says, folder)
            if counts.total() == before:
                break  # hypothesis has no others
    return {"counts": counts, "faults": faults}


def _cases(subject: Subject, cases: int, seed: str, folder: Path) -> Iterator[tuple[str, str]]:
    """Yield the outcome of each case, as a process of its own tells it; a process that dies is a crash."""
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("fork").Process(
        target=_run_cases, args=(subject, cases, seed, folder, theirs, ours)
    )
    process.start()
    theirs.close()
    try:
        while True:
            if not ours.poll(4 * HANG_SECONDS):
                process.kill()
                yield "hang", f"{subject.name}: no answer"
                return
            yield ours.recv()
            ours.send(None)  # the next may overwrite what this one left
    except EOFError:
        process.join()
        assert process.exitcode is not None
        if process.exitcode > 0:
            raise SystemExit(f"{subject.name}: the fuzzer itself failed") from None
        if process.exitcode < 0:
            yield "crash", signal.Signals(-process.exitcode).name
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.kill()
        process.join()


def _run_cases(subject: Subject, cases: int, seed: str, folder: Path, pipe: Connection, parents: Connection) -> None:
    """Run cases in a child process, and tell the outcome of each."""
    parents.close()  # so that the pipe ends, and this process, when the parent does
    for name in ("files", "out", "tmp"):
        shutil.rmtree(folder / name, ignore_errors=True)
        (folder / name).mkdir()
    for canary in CANARIES:
        (folder / canary).write_text("{}")
    sys.dont_write_bytecode = True
    warnings.simplefilter("ignore")
    tempfile.tempdir = os.environ["XDG_CACHE_HOME"] = str(folder / "tmp")
    os.setsid()
    os.chdir(folder / "files")
    resource.setrlimit(resource.RLIMIT_AS, (MOST_ADDRESSES, resource.RLIM_INFINITY))
    resource.setrlimit(resource.RLIMIT_FSIZE, (MOST_FILE_BYTES, resource.RLIM_INFINITY))  # of what it starts, too
    _write(folder, subject.files)
    watch = Watch([folder / name for name in ("files", "out", "tmp")], subject.trusted)
    watch.learn(lambda: subject.read(folder))

    @hypothesis.seed(seed)
    @hypothesis.settings(max_examples=cases, database=None, deadline=None, phases=[hypothesis.Phase.generate],
                         suppress_health_check=list(hypothesis.HealthCheck))  # fmt: skip
    @hypothesis.given(some.data())
    def case(data: some.DataObject) -> None:
        changed = subject.change(data.draw, subject.files)
        _write(folder, changed)
        pipe.send(watch.run(lambda: subject.read(folder)))
        pipe.recv()  # by now the parent has kept what is worth keeping
        _write(folder, {name: subject.files[name] for name in changed if name in subject.files})
        for name in changed.keys() - subject.files.keys():
            (folder / "files" / name).unlink()

    case()


def _write(folder: Path, files: Files) -> None:
    """Write files, and empty the folders for results."""
    for name, content in files.items():
        file = folder / "files" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    for name in ("out", "tmp"):
        if any((folder / name).iterdir()):
            shutil.rmtree(folder / name)
            (folder / name).mkdir()


def _keep(finds: Path, subject: Subject, says: str, folder: Path) -> None:
    """Keep the files of a fault, unless there are some of the same place already."""
    place = re.sub(r"[^\w.:-]+", "-", f"{subject.name} {says.partition(': ')[0]}")[:100]
    kept = finds / place
    if not kept.exists():
        shutil.copytree(folder / "files", kept, ignore_dangling_symlinks=True)
        (kept / "says.txt").write_text(says)


def report(rows: Results) -> str:
    """Return the table: a line for each subject, then the faults."""
    counts: dict[str, Counter[str]] = {}
    for row in rows.rows:
        counts.setdefault(row["subject"], Counter()).update(row["counts"])
    whole = sum(counts.values(), Counter())
    lines = [
        [name, of.total(), *(of[outcome] for outcome in OUTCOMES)] for name, of in [*counts.items(), ("all", whole)]
    ]
    return f"Seed {rows.seed}.\n\n" + markdown(["what is changed", "cases", *OUTCOMES], lines)


if __name__ == "__main__":
    typer.run(main)

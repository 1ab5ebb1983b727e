"""Flip one bit of a file that a verdict rests on, and see who notices: ``python benchmarks/trust/flip.py``.

A flip is *found* by an error that names the file or its folder, or *made again* where the store was damaged; it is
*harmless* where all results are equal, and *silent* where they are not. One of fifty is judged by the command line.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import NamedTuple

import typer
from campaign import SUITE, Count, Results, ResultsFile, Seed, TableFile, markdown, patchbench, write_table
from fixture import fixture
from readings import MadeAgain, Reading, from_store, frozen, gated, pasted, replayed, unpacked, with_nothing_to_do

from backends.device.errors import UserError

# From the worst to the best. Unnamed: nobody said which file or folder it is. A fault: any exception but a UserError.
OUTCOMES = ("silent", "fault", "unnamed", "found", "made again", "harmless")
EACH = 50  # of so many flips of a class, one is judged by the command line


@dataclass
class Subject:
    """Files that lie together in `folder`, a copy of `pristine`, by their class; and all that reads them."""

    folder: Path
    pristine: Path
    classes: Mapping[str, list[Path]]
    readings: tuple[Reading, ...]
    expected: dict[tuple[str, bool], object] = field(default_factory=dict)

    def restore(self) -> None:
        """Make the folder equal to the pristine one again."""
        for copy in sorted(self.folder.rglob("*"), reverse=True):
            if not (self.pristine / copy.relative_to(self.folder)).exists():
                copy.rmdir() if copy.is_dir() else copy.unlink()
        for original in sorted(self.pristine.rglob("*")):
            copy = self.folder / original.relative_to(self.pristine)
            if original.is_dir():
                copy.mkdir(exist_ok=True)
            elif not copy.exists() or _stamp(copy) != _stamp(original):
                shutil.copy2(original, copy)


class Found(NamedTuple):
    """What became of a flip, and what was said."""

    outcome: str
    says: str


def main(count: Count = 10_000, seed: Seed = 0, results: ResultsFile = Path("out/trust/flip.jsonl"),
         table: TableFile = None) -> None:  # fmt: skip
    """Flip bits, one at a time, class by class."""
    rows = Results(results, seed)
    made = fixture(results.parent)
    with tempfile.TemporaryDirectory() as scratch:
        classes = [(name, subject) for subject in subjects(made, Path(scratch)) for name in subject.classes]
        for trial, rng in rows.trials(count):
            turn, which = divmod(trial, len(classes))
            name, subject = classes[which]
            rows.add(trial, **one_flip(subject, name, rng, by_command=turn % EACH == which % EACH))
    write_table(table, report(rows))


def subjects(made: Path, scratch: Path) -> Iterator[Subject]:
    """Yield what is to be damaged, as copies in a folder."""
    run, baseline = made / "run", Path("baseline.json")
    described = next((run / "artifacts").glob("*.json"))
    parts = (
        ("onnx", made / "onnx", (replayed("onnxruntime"),)),
        ("tflite", made / "tflite", (replayed("litert"),)),
        ("run", run, (with_nothing_to_do(SUITE), gated(made / "frozen" / baseline, Path()), frozen())),
        ("store", run, (from_store(SUITE),)),
        ("baseline", made / "frozen", (gated(baseline, run), unpacked())),
        ("patch", made / "patch", (pasted(SUITE, described),)),
    )
    for name, pristine, readings in parts:
        folder = scratch / name
        shutil.copytree(pristine, folder)
        yield Subject(folder, pristine, _classes(name, pristine), readings)


def _classes(name: str, folder: Path) -> dict[str, list[Path]]:
    """Sort a folder's files: the store's by stage, others by name or kind."""
    classes: dict[str, list[Path]] = {}
    for path in sorted(folder.rglob("*")):
        file = path.relative_to(folder)
        stored = file.parts[0] == "store"
        if path.is_file() and path.stat().st_size and stored == (name == "store") and file.name != ".lock":
            kind = file.parts[1] if stored else file.name if len(file.parts) == 1 else f"{file.parts[0]}/*{file.suffix}"
            classes.setdefault(f"{name}: {kind}", []).append(file)
    return classes


def one_flip(subject: Subject, name: str, rng: Random, by_command: bool) -> dict[str, object]:
    """Flip a bit of a file of a class, let everybody read it, and put things right again."""
    file = rng.choice(subject.classes[name])
    copy = subject.folder / file
    content = bytearray(copy.read_bytes())
    place = rng.randrange(len(content))
    bit = rng.randrange(8)
    content[place] ^= 1 << bit
    begun = time.monotonic()
    judged = []
    for reading in subject.readings:
        in_words = by_command and reading.words is not None
        if (reading.name, in_words) not in subject.expected:
            subject.expected[reading.name, in_words] = read(subject, reading, in_words).results
            subject.restore()
        copy.write_bytes(content)
        judged.append(read_damaged(subject, reading, copy, in_words))
        subject.restore()
    outcome, says = min(judged, key=lambda one: OUTCOMES.index(one.outcome))
    return {"class": name, "file": str(file), "byte": place, "bit": bit, "by_command": by_command,
            "outcome": outcome, "says": says[:500], "seconds": round(time.monotonic() - begun, 3)}  # fmt: skip


def read_damaged(subject: Subject, reading: Reading, file: Path, in_words: bool) -> Found:
    """Let a reading have the damaged file."""
    try:
        results, said = read(subject, reading, in_words)
    except MadeAgain as made:
        return Found("made again" if _names(str(made), file, subject) else "unnamed", str(made))
    except UserError as error:
        return Found("found" if _names(str(error), file, subject) else "unnamed", str(error))
    except Exception as error:
        return Found("fault", repr(error))
    if results != subject.expected[reading.name, in_words]:
        return Found("silent", f"{reading.name} gives other results")
    return Found("made again" if _names(said, file, subject) else "harmless", said)


class Read(NamedTuple):
    """What a reading gave, and what a command said before its results."""

    results: object
    said: str = ""


def read(subject: Subject, reading: Reading, in_words: bool) -> Read:
    """Read in this process, or by a command; its line of error is a `UserError`, as it was there."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        if not in_words:
            return Read(reading.inside(subject.folder, out))
        assert reading.words
        assert reading.written
        ended = patchbench(*reading.words(subject.folder, out), folder=subject.pristine.parent)
        if ended.objection:
            raise RuntimeError(f"{ended.objection}: {ended.line}")
        try:
            return Read(reading.written(subject.folder, out), ended.stdout.partition("┏")[0])
        except FileNotFoundError as error:
            raise UserError(ended.stderr) from error


def report(rows: Results) -> str:
    """Return the table: a line for each class."""
    classes = dict.fromkeys(row["class"] for row in rows.rows)
    head = ["class of file", "flips", *reversed(OUTCOMES)]
    counts = Counter((row["class"], row["outcome"]) for row in rows.rows)
    lines: list[list[object]] = []
    for name in [*classes, "all"]:
        each = [sum(n for (one, which), n in counts.items() if which == outcome and name in (one, "all"))
                for outcome in reversed(OUTCOMES)]  # fmt: skip
        lines.append([name, sum(each), *each])
    told = sum(row["by_command"] for row in rows.rows)
    return f"Seed {rows.seed}; {told} of the flips were judged by the command line.\n\n" + markdown(head, lines)


def _names(said: str, file: Path, subject: Subject) -> bool:
    """Return whether a message names the file, or the folder it belongs to: a store entry, a bundle, a run."""
    parts = file.relative_to(subject.folder).parts
    folder = parts[2] if parts[0] == "store" else str(subject.folder)
    return file.name in said or folder in said


def _stamp(file: Path) -> tuple[int, int]:
    status = file.stat()
    return status.st_size, status.st_mtime_ns


if __name__ == "__main__":
    typer.run(main)

"""Output of an analysis in ``OUT/study``: ``NAME.csv``, ``NAME-FIGURE.svg``, and ``NAME.json`` with the captions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from backends.device.artifact import sha256_file
from backends.device.json_types import typed
from harness.config.study import ANALYSES
from harness.data_frames import read_csv
from harness.sealed import check_file, read_sealed, write_sealed
from harness.store import write_text
from harness.study.lib.inputs import Figure

SCHEMA = 2
MEND = "run the study again, without --only"


@dataclass(frozen=True)
class FigureFile:
    """A figure on disk: the name of its SVG, and its caption."""

    file: str
    caption: str


@dataclass(frozen=True)
class Content:
    """What is written beside an analysis' table; ``files`` has the SHA-256 of it and of the figures, by name."""

    question: str
    figures: tuple[FigureFile, ...]
    files: dict[str, str]


class Output(NamedTuple):
    """An analysis on disk; ``figures`` is empty where the suite gave it nothing to look at."""

    name: str
    question: str
    figures: tuple[FigureFile, ...]


def write(folder: Path, name: str, question: str, table: pd.DataFrame, figures: Sequence[Figure]) -> None:
    """Write an analysis' table and figures, in place of older ones."""
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob(f"{name}-*.svg"):
        old.unlink()
    write_text(folder / f"{name}.csv", table.to_csv(index=False, float_format="%.6g"))
    captions = []
    for figure in figures:
        file = f"{name}-{figure.name}.svg"
        write_text(folder / file, f"{figure.svg}\n")
        captions.append({"file": file, "caption": figure.caption})
    files = {file: sha256_file(folder / file) for file in (f"{name}.csv", *(one["file"] for one in captions))}
    content = {"schema": SCHEMA, "question": question, "figures": captions, "files": files}
    write_sealed(folder / f"{name}.json", content)


def read(folder: Path, name: str) -> Output | None:
    """Read an analysis' question and captions; None where it did not run, a `DamagedFile` where a file is damaged."""
    file = folder / f"{name}.json"
    if not file.is_file():
        return None
    raw = read_sealed(file, SCHEMA, MEND)
    del raw["schema"]
    content: Content = typed(Content, raw, str(file))
    for listed, sha256 in content.files.items():
        check_file(folder / listed, sha256, MEND)
    return Output(name, content.question, content.figures)


def tables(folder: Path) -> dict[str, pd.DataFrame]:
    """Read the tables of the analyses that ran, by their names."""
    return {name: read_csv(folder / f"{name}.csv") for name in ANALYSES if read(folder, name)}

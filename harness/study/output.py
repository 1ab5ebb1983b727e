"""Output of an analysis in ``OUT/study``: ``NAME.csv``, ``NAME-FIGURE.svg``, and ``NAME.json`` with the captions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from backends.device.json_types import read_as
from harness.report.svg import standalone
from harness.store import write_json, write_text
from harness.study.lib.inputs import Figure


@dataclass(frozen=True)
class FigureFile:
    """A figure on disk: the name of its SVG, and its caption."""

    file: str
    caption: str


@dataclass(frozen=True)
class Content:
    """What is written beside an analysis' table."""

    question: str
    figures: tuple[FigureFile, ...]


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
        write_text(folder / file, standalone(figure.svg))
        captions.append({"file": file, "caption": figure.caption})
    write_json(folder / f"{name}.json", {"schema": 1, "question": question, "figures": captions})


def read(folder: Path, name: str) -> Output | None:
    """Read an analysis' question and captions; None where it did not run."""
    file = folder / f"{name}.json"
    if not file.is_file():
        return None
    content = read_as(Content, file, schema=1)
    return Output(name, content.question, content.figures)

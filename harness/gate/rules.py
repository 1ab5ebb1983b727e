"""Rules of the gate, as TOML: what may change by how much, and which limits hold whatever the baseline says."""

from __future__ import annotations

import re
from collections.abc import Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, field_validator, model_validator

from backends.device.errors import did_you_mean
from backends.device.names import shown
from harness.results.columns import CELL_COLUMNS
from harness.results.success import Kind
from harness.tables import Table, read_toml

Metric = Literal["clean_accuracy", "targeted_success", "untargeted_success"]
KIND: dict[Metric, Kind] = {
    "clean_accuracy": "clean",
    "targeted_success": "targeted",
    "untargeted_success": "untargeted",
}
Direction = Literal["higher", "lower"]


def _known(columns: dict[str, str]) -> dict[str, str]:
    for name in columns:
        if name not in CELL_COLUMNS:
            raise ValueError(f"no cell has a column {shown(name)}; {did_you_mean(name, CELL_COLUMNS)}")
    return columns


# A pattern for each column of a cell: { target = "litert*", precision = "w8a8" }
Columns = Annotated[dict[str, str], AfterValidator(_known)]


class CompareTable(Table):
    """Compare a metric with the baseline's, image by image.

    A change for the worse is a regression when it exceeds the margin and is significant, with Holm's correction over
    all comparisons under this rule.
    """

    metric: Metric
    """What to compare."""

    worse: Direction
    """Which direction of change is a regression."""

    margin: float = Field(default=0.02, ge=0, lt=1)
    """Change that is tolerated, as a fraction."""

    confidence: float | None = Field(default=None, gt=0.5, lt=1)
    """Confidence of all comparisons under this rule together; by default, an equal share of the gate's."""

    where: Columns = Field(default_factory=dict)
    """Which cells: columns of `cells.csv`, each with a pattern."""


class LimitTable(Table):
    """Limit a metric, whatever the baseline says; the bound of its interval is what counts."""

    rule: str
    """The limit, such as `targeted_success <= 0.20`."""

    confidence: float = Field(default=0.95, gt=0.5, lt=1)
    """Confidence of the interval."""

    where: Columns = Field(default_factory=dict)
    """Which cells: columns of `cells.csv`, each with a pattern."""

    @field_validator("rule")
    @classmethod
    def _check_rule(cls, rule: str) -> str:
        parsed = re.fullmatch(r"\s*(\w+)\s*(<=|>=)\s*(\d*\.?\d+)\s*", rule)
        if not parsed or parsed[1] not in KIND or not 0 <= float(parsed[3]) <= 1:
            raise ValueError(f"expected METRIC <= or >= a fraction, METRIC one of {', '.join(KIND)}; got {rule!r}")
        return rule

    @property
    def metric(self) -> Metric:
        """The metric that is limited."""
        return next(metric for metric in KIND if self.rule.split("=")[0].strip(" <>") == metric)

    @property
    def is_upper(self) -> bool:
        """Whether values above the limit break it."""
        return "<=" in self.rule

    @property
    def value(self) -> float:
        """The limit, a fraction."""
        return float(self.rule.split("=")[1])


class Rules(Table):
    """All rules of a gate. A file needs at least one `[[compare]]` or `[[limit]]` table."""

    schema_: Literal[1] = Field(alias="schema")
    """Version of this format."""

    confidence: float = Field(default=0.99, gt=0.5, lt=1)
    """Confidence of the whole gate: of runs where nothing changed, at most 1 - confidence raise a false alarm."""

    drift: Literal["report", "worse"] = "report"
    """What a prediction that flips where nothing changed counts as."""

    compare: list[CompareTable] = Field(default_factory=list)
    """Comparisons with the baseline."""

    limit: list[LimitTable] = Field(default_factory=list)
    """Limits that hold without one."""

    @model_validator(mode="after")
    def _check_not_empty(self) -> Rules:
        if not self.compare and not self.limit:
            raise ValueError("expected a [[compare]] or a [[limit]] table")
        return self

    def alpha(self, rule: CompareTable) -> float:
        """Return the false-alarm rate that one rule's comparisons share."""
        return 1 - rule.confidence if rule.confidence else (1 - self.confidence) / len(self.compare)


DEFAULT = Rules(
    schema=1,
    compare=[
        CompareTable(metric="clean_accuracy", worse="lower"),
        CompareTable(metric="targeted_success", worse="higher"),
        CompareTable(metric="untargeted_success", worse="higher"),
    ],
)


def read(path: Path | None) -> Rules:
    """Read rules from a file; without one, return `DEFAULT`: each metric, 2 points, 99 % for all together."""
    return read_toml(path, Rules, "rules of a gate") if path else DEFAULT


def matches(columns: Mapping[str, Any], where: Columns) -> bool:
    """Return whether every named column of a cell fits its pattern."""
    return all(fnmatchcase(str(columns[name]), pattern) for name, pattern in where.items())

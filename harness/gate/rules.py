"""Rules of the gate, as TOML: what may change by how much, and which limits hold whatever the baseline says."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator, model_validator

from harness.tables import Table, read_toml

Metric = Literal["clean_accuracy", "targeted_success", "untargeted_success"]
METRICS: tuple[Metric, ...] = ("clean_accuracy", "targeted_success", "untargeted_success")
WORSE: dict[Metric, Literal["higher", "lower"]] = {
    "clean_accuracy": "lower",
    "targeted_success": "higher",
    "untargeted_success": "higher",
}
Columns = dict[str, str]  # of a cell, each with a pattern: { target = "litert*", precision = "w8a8" }


class Compare(Table):
    """A metric compared with the baseline's, image by image.

    A change in the direction that is ``worse`` is a regression when it is greater than ``margin`` (a fraction) and
    significant: by Holm's correction over all comparisons under this rule, at ``confidence`` for them together. Without
    a confidence of its own the rule has an equal share of the gate's.
    """

    metric: Metric
    worse: Literal["higher", "lower"]
    margin: float = Field(default=0.02, ge=0, lt=1)
    confidence: float | None = Field(default=None, gt=0.5, lt=1)
    where: Columns = Field(default_factory=dict)


class Limit(Table):
    """An absolute limit such as ``targeted_success <= 0.20``, judged by the bound of the ``confidence`` interval."""

    rule: str
    confidence: float = Field(default=0.95, gt=0.5, lt=1)
    where: Columns = Field(default_factory=dict)

    @field_validator("rule")
    @classmethod
    def _can_be_read(cls, rule: str) -> str:
        found = re.fullmatch(r"\s*(\w+)\s*(<=|>=)\s*(\d*\.?\d+)\s*", rule)
        if not found or found[1] not in METRICS or not 0 <= float(found[3]) <= 1:
            raise ValueError(f"expected METRIC <= or >= a fraction, METRIC one of {', '.join(METRICS)}; got {rule!r}")
        return rule

    @property
    def metric(self) -> Metric:
        """What is limited."""
        return next(metric for metric in METRICS if self.rule.split("=")[0].strip(" <>") == metric)

    @property
    def is_upper(self) -> bool:
        """Whether values above the limit are bad."""
        return "<=" in self.rule

    @property
    def value(self) -> float:
        """The limit, a fraction."""
        return float(self.rule.split("=")[1])


class Rules(Table):
    """All rules; ``confidence`` is the whole gate's: false alarms in at most 1 - confidence of unchanged runs."""

    schema_: Literal[1] = Field(alias="schema")
    confidence: float = Field(default=0.99, gt=0.5, lt=1)
    drift: Literal["report", "worse"] = "report"  # a prediction that flips where nothing changed
    compare: list[Compare] = Field(default_factory=list)
    limit: list[Limit] = Field(default_factory=list)

    @model_validator(mode="after")
    def _something_to_do(self) -> Rules:
        if not self.compare and not self.limit:
            raise ValueError("expected a [[compare]] or a [[limit]] table")
        return self

    def alpha(self, rule: Compare) -> float:
        """False alarms allowed to one rule's comparisons together."""
        return 1 - rule.confidence if rule.confidence else (1 - self.confidence) / len(self.compare)


DEFAULT = Rules(schema=1, compare=[Compare(metric=metric, worse=WORSE[metric]) for metric in METRICS])


def read(path: Path | None) -> Rules:
    """Rules from a file; without one, `DEFAULT`: each metric, 2 points, 99 % for all together."""
    return read_toml(path, Rules, "rules of a gate") if path else DEFAULT

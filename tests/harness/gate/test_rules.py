"""Rules files: what is read, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers import ROOT

from backends.device.errors import UserError
from harness.gate.rules import DEFAULT
from harness.gate.rules import read as read_rules


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (
            "schema = 1\n[[compare]]\nmetric = 'targeted_success'\nworse = 'higher'\nmargn = 0.1",
            "did you mean 'margin'",
        ),
        ("schema = 1\n[[limit]]\nrule = 'p50_ms <= 5'", "METRIC one of clean_accuracy"),
        ("schema = 1\n[[limit]]\nrule = 'targeted_success <= 20'", "a fraction"),
        (
            "schema = 1\n[[limit]]\nrule = 'clean_accuracy >= 0'\nwhere = { tarket = 'a' }",
            r"rules\.toml: .*\n  limit\.0\.where: no cell has a column 'tarket'; did you mean 'target'",
        ),
        ("schema = 2\n", "schema"),
        ("schema = 1\n", r"expected a \[\[compare\]\] or a \[\[limit\]\]"),
        ("schema = ", "not TOML"),
    ],
)
def test_what_is_wrong_with_rules_is_said(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "rules.toml").write_text(text)
    with pytest.raises(UserError, match=says):
        read_rules(tmp_path / "rules.toml")


def test_rules_share_the_gates_alpha() -> None:
    assert sum(DEFAULT.alpha(rule) for rule in DEFAULT.compare) == pytest.approx(0.01)


def test_the_example_of_rules_can_be_read() -> None:
    rules = read_rules(ROOT / "benchmarks" / "gate" / "rules.toml")
    assert [limit.is_upper for limit in rules.limit] == [True, False]
    assert rules.limit[0].value == 0.2

"""Why an exporter failed, in one line."""

from types import SimpleNamespace

import pytest

from exporters.failure import reason


def test_the_innermost_cause_is_named():
    outer = RuntimeError("failed to export; here is the whole graph")
    outer.__cause__ = ValueError("\n  axis 3 of 2\nmore")
    assert reason(outer) == "ValueError: axis 3 of 2"


def test_the_operator_is_named_where_the_message_says_nothing():
    def infer(node):
        raise KeyError("")

    with pytest.raises(KeyError) as error:
        infer(SimpleNamespace(op_type="Loop"))
    assert reason(error.value) == "operator Loop is not supported: KeyError: ''"

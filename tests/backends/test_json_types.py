"""JSON is held to types: what comes back has exactly those, or is refused by a line that names the place."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, NotRequired, TypedDict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backends.device.artifact import Artifact, Preproc, QuantSpec
from backends.device.json_types import read_as, typed
from backends.device.reading import DamagedFile

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=10,
)
FINITE = {"allow_nan": False, "allow_infinity": False}
NUMBER = st.floats(**FINITE)
TRIPLE = st.tuples(NUMBER, NUMBER, NUMBER)
PREPROC = st.builds(Preproc, divisor=NUMBER, mean=TRIPLE, std=TRIPLE)
ARTIFACT = st.builds(
    Artifact, preproc=PREPROC, quant=st.none() | st.builds(QuantSpec, moving_average_constant=NUMBER, percentile=NUMBER)
)


class Given(TypedDict):
    n: int
    word: NotRequired[str]


@dataclass(frozen=True)
class Everything:
    path: Path
    kind: Literal["a", "b"]
    given: Given
    pair: tuple[int, float]
    words: tuple[str, ...] = ()
    by_name: dict[str, int | str | None] = field(default_factory=dict)
    anything: Any = None


GOOD: dict[str, Any] = {"path": "x/y", "kind": "b", "given": {"n": 1}, "pair": [1, 2]}


def test_every_kind_of_value_is_built():
    raw = GOOD | {"words": ["a"], "by_name": {"x": None, "y": 1, "z": "a"}, "anything": [{}]}
    found = typed(Everything, raw, "here")
    assert found == Everything(Path("x/y"), "b", {"n": 1}, (1, 2.0), ("a",), {"x": None, "y": 1, "z": "a"}, [{}])
    assert isinstance(found.pair[1], float)
    assert typed(Everything, GOOD, "here").words == ()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kind": "c"}, "here: kind: expected 'a' or 'b', got 'c'"),
        ({"given": {}}, "here: given: has no 'n'"),
        ({"given": {"n": True}}, "here: given: n: expected an integer, got True"),
        ({"given": {"n": 1, "m": 2}}, "here: given: unknown key 'm'"),
        ({"given": []}, "here: given: expected an object, got list"),
        ({"pair": [1, 2, 3]}, "here: pair: expected a list of 2, got list"),
        ({"pair": [1, 10**400]}, "here: pair: 1: expected a number"),
        ({"pair": [1, "2"]}, "here: pair: 1: expected a number, got '2'"),
        ({"words": "abc"}, "here: words: expected a list, got 'abc'"),
        ({"by_name": {"x": [1]}}, "here: by_name: x: expected"),
        ({"path": 1}, "here: path: expected a path, got 1"),
        ({"other": "x" * 1000}, "here: unknown key 'other'"),
    ],
)
def test_a_value_of_another_type_is_refused_by_its_place(changes, message):
    with pytest.raises(DamagedFile) as caught:
        typed(Everything, GOOD | changes, "here")
    assert str(caught.value).startswith(message)
    assert len(str(caught.value)) < 200


@given(ARTIFACT)
def test_a_description_comes_back_from_its_json(artifact):
    assert typed(Artifact, json.loads(json.dumps(asdict(artifact))), "here") == artifact


@given(ARTIFACT, st.data(), JSON)
def test_a_description_with_any_other_value_is_refused_or_has_the_types_of_its_fields(artifact, data, value):
    raw = json.loads(json.dumps(asdict(artifact)))
    table = raw["preproc"] if data.draw(st.booleans()) else raw
    table[data.draw(st.sampled_from(sorted(table)))] = value
    try:
        found = typed(Artifact, raw, "here")
    except DamagedFile:
        return
    for one in (found, found.preproc):
        for name, other in vars(artifact if one is found else artifact.preproc).items():
            assert type(getattr(one, name)) in (type(other), *((type(None), QuantSpec) if name == "quant" else ()))


@given(JSON)
def test_any_json_is_that_type_or_refused(value):
    for kind in (Everything, Given, list[int], tuple[str, ...], dict[str, float], int | str | None):
        try:
            typed(kind, value, "here")
        except DamagedFile as error:
            said = str(error)
            if not said.startswith("here: "):
                pytest.fail(said)


@pytest.mark.parametrize("found", [2, "1", True, None])
def test_another_schema_is_refused(tmp_path, found):
    file = tmp_path / "x.json"
    file.write_text(json.dumps({"schema": found, "n": 1}))
    with pytest.raises(DamagedFile, match=f"expected schema 1, got {found!r}"):
        read_as(Given, file, schema=1)

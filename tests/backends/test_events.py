"""Lines from a device: an event, something from elsewhere, or a `UserError`; nothing else."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backends.device.errors import UserError
from backends.device.machine import describe
from backends.events import Answered, Loaded, Progress, Scores, read_event

SHA256 = "ab" * 32
CASE = {"event": "case", "case": "none", "pixels_sha256": SHA256, "file": "none.npz", "file_sha256": SHA256,
        "seconds": 1.5, "cpu_seconds": 1, "anonymous_bytes": None}  # fmt: skip
LOADED = {"event": "loaded", "info": {"version": "1"}, "machine": describe()._asdict(), "packages": ["numpy"],
          "load_seconds": 0.1, "first_run_seconds": 0.1, "outputs": 10, "bundle_sha256": SHA256}  # fmt: skip
SCORES = {"event": "scores", "query": 1, "pixels_sha256": SHA256,
          "logits": {"dtype": "float32", "shape": [1, 1], "data": "AAAAAA=="}}  # fmt: skip
PROGRESS = {"event": "progress", "case": "none", "done": 3, "of": 6}
TRUE = [CASE, LOADED, SCORES, PROGRESS]

anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda children: st.lists(children) | st.dictionaries(st.text(), children),
    max_leaves=5,
)


def line(event):
    return json.dumps(event).encode()


@pytest.mark.parametrize(("event", "kind"), zip(TRUE, (Answered, Loaded, Scores, Progress), strict=True))
def test_what_our_device_says_is_understood(event, kind):
    found = read_event(line(event))
    assert isinstance(found, kind)
    for key, value in event.items():
        if not isinstance(value, dict):
            assert getattr(found, key) == value
    if kind is Loaded:
        assert found.machine == describe()


@pytest.mark.parametrize("greeting", [b"", b"Welcome", b'{"board": 1}', b"[]", b"{", b"\xff\x00", b'"event"', b"NaN"])
def test_what_comes_from_elsewhere_is_no_event(greeting):
    assert read_event(greeting) is None


@given(st.data())
def test_no_value_in_any_place_is_more_than_a_fault(data):
    event = dict(data.draw(st.sampled_from(TRUE)))
    key = data.draw(st.sampled_from([name for name in event if name != "event"]) | st.text())
    event[key] = data.draw(anything)
    try:
        found = read_event(line(event))
    except UserError as error:
        said = str(error)
        assert said.startswith("malformed event: ")
        assert len(said) < 500
        assert said.replace("\t", "").isprintable()
    else:
        assert found.event == event["event"]


@given(st.binary(max_size=40), st.integers(0, 300))
def test_no_bytes_in_any_place_are_more_than_a_fault(data, at):
    whole = line(LOADED)
    try:
        read_event(whole[:at] + data + whole[at + len(data) :])
    except UserError as error:
        said = str(error)
        assert said.startswith("malformed event: ")
        assert len(said) < 500


@pytest.mark.parametrize("changes", [{"cores": 0}, {"memory_bytes": -1}, {"memory_bytes": 1 << 70}, {"cores": True}])
def test_a_machine_that_cannot_be_is_refused(changes):
    with pytest.raises(UserError, match=r"malformed event: loaded\.machine"):
        read_event(line(LOADED | {"machine": LOADED["machine"] | changes}))


def test_nothing_that_moves_a_cursor_passes():
    found = read_event(line(LOADED | {"info": {"version": "1\x1b[2J\r\x07", "k\x9b": "é\n"}}))
    assert found.info == {"version": "1\ufffd[2J\ufffd\ufffd", "k\ufffd": "é\n"}

"""What a device is asked, as it reads it: a request or a query of known types and sizes, or a `UserError`."""

import io
import json
from dataclasses import asdict

import numpy as np
import pytest
from helpers import tiny
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backends.device import request as requests
from backends.device.errors import UserError
from backends.device.machine import describe
from backends.device.query_server import Query, packed, serve, unpacked
from backends.device.request import Request, lines

REQUEST = {"schema": 1, "runtime": "dummy", "cases": ["none"]}
LATENCY = {"warmup": 0, "runs": 1, "seconds": 0}
DEEP = b"[" * 100_000 + b"]" * 100_000


def query(**changes):
    stamps = tiny.stamps()
    arrays = {"images": np.arange(tiny.N, dtype=np.int32), **stamps._asdict()}
    return {"query": 1} | {name: asdict(packed(array)) for name, array in arrays.items()} | changes


def array(values, dtype):
    return asdict(packed(np.array(values, dtype)))


def test_a_request_is_read_with_its_defaults():
    found = Request.read(json.dumps(REQUEST | {"threads": 0, "latency": LATENCY}).encode())
    assert found == Request("dummy", ("none",), {}, threads=describe().cores, latency=LATENCY)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"schema": 2}, "expected one of schema 1"),
        ({"schema": None}, "expected one of schema 1"),
        ({"runtime": 3}, "runtime: expected text, got 3"),
        ({"cases": "none"}, "cases: expected a list, got 'none'"),
        ({"cases": ["none", 3]}, "cases: 1: expected text, got 3"),
        ({"cases": ["none", "none"]}, "a case is asked for twice"),
        ({"threads": -1}, "expected threads up to"),
        ({"threads": 10**6}, "expected threads up to"),
        ({"threads": True}, "threads: expected an integer, got True"),
        ({"batch": 0}, "batch from 1 to"),
        ({"batch": 1 << 40}, "batch from 1 to"),
        ({"options": {"a": []}}, "options: a: expected true or false, got list"),
        ({"latency": {"warmup": 0, "runs": 1}}, "latency: has no 'seconds'"),
        ({"latency": LATENCY | {"runs": 0}}, "latency: expected 1 to"),
        ({"latency": LATENCY | {"warmup": 1 << 60}}, "latency: expected 1 to"),
        ({"latency": LATENCY | {"seconds": -1}}, "latency: expected 1 to"),
        ({"latency": LATENCY | {"defence": 75}}, "latency: defence: expected text, got 75"),
        ({"session": 1}, "session: expected true or false, got 1"),
        ({"session": True, "defence": 75}, "defence: expected text, got 75"),
        ({"colour": "red"}, "unknown key 'colour'"),
    ],
)
def test_what_is_no_request_is_one_line(changes, says):
    with pytest.raises(UserError) as caught:
        Request.read(json.dumps(REQUEST | changes).encode())
    assert str(caught.value).startswith("standard input: not a request for a replay: ")
    assert says in str(caught.value)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("line", [b"", b"\xff", b"{", DEEP, b"NaN", b'{"schema": 1e999}', b"1" * 10_000, b"null"])
def test_what_is_no_json_is_neither_request_nor_query(bundle, line):
    for read in (Request.read, lambda line: Query.read(line, bundle)):
        with pytest.raises(UserError, match="standard input: not a "):
            read(line)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"query": "1"}, "query: expected an integer, got '1'"),
        ({"images": None}, "images: expected an object, got None"),
        ({"images": {"dtype": "int32", "shape": [6]}}, "images: has no 'data'"),
        ({"images": {"dtype": "int32", "shape": [6], "data": "AAAA"}}, "3 bytes do not fill int32 (6,)"),
        ({"images": {"dtype": "int32", "shape": [-1], "data": "AAAAAA=="}}, "4 bytes do not fill int32 (-1,)"),
        ({"images": {"dtype": "int32", "shape": [0] * 100, "data": ""}}, "0 bytes do not fill int32 (0, 0, 0, 0)"),
        ({"images": {"dtype": "int32", "shape": [0, 1 << 70], "data": ""}}, "0 bytes do not fill int32"),
        ({"images": {"dtype": "int32", "shape": [1.5], "data": ""}}, "shape: 0: expected an integer"),
        ({"images": {"dtype": "int32", "shape": [6], "data": "é"}}, "not a query: "),
        ({"images": array([0] * 6, "int64")}, "expected int32, got int64"),
        ({"images": array([], "int32")}, "expected image indices below 6, got 0 of them"),
        ({"images": array([[0] * 6], "int32")}, "expected image indices below 6"),
        ({"images": array(np.zeros(1 << 17), "int32")}, "expected image indices below 6, got 131072 of them"),
        ({"mask": {"dtype": "bool", "shape": [1, 3, 3], "data": "AgICAgICAgIC"}}, "neither 0 nor 1"),
        ({"stamps": array(np.zeros((1, 0, 0, 3)), "uint8")}, "do not fit 6 images"),
        ({"colour": "red"}, "unknown key 'colour'"),
        ({"end": True}, "unknown key 'end'"),
    ],
)
def test_what_is_no_query_is_one_line(bundle, changes, says):
    with pytest.raises(UserError) as caught:
        Query.read(json.dumps(query(**changes)).encode(), bundle)
    assert says in str(caught.value)
    assert len(str(caught.value)) < 300


def test_a_query_and_the_end_are_read(bundle):
    found = Query.read(json.dumps(query()).encode(), bundle)
    assert found.number == 1
    np.testing.assert_array_equal(found.stamps.stamps, tiny.stamps().stamps)
    assert Query.read(b'{"end": true}\n', bundle) is None


def test_a_query_is_not_answered_twice(bundle):
    from backends.device.runtimes.dummy import Engine

    runtime = Engine()
    runtime.load(bundle.file, {}, 1)
    said = []
    twice = [json.dumps(query()).encode()] * 2
    with pytest.raises(UserError, match="query 1 after query 1"):
        serve(runtime, bundle, 1, 192, twice, lambda event, **facts: said.append((event, facts)))
    assert [event for event, _ in said] == ["scores"]


def test_a_line_without_end_is_not_read_into_memory(monkeypatch):
    monkeypatch.setattr(requests, "LINE_BYTES", 100)
    stream = io.BytesIO(b"a\n" + b"x" * 99 + b"\n" + b"x" * 1000)
    read = lines(stream)
    assert next(read) == b"a\n"
    assert len(next(read)) == 100
    with pytest.raises(UserError, match="a line of more than 100 bytes"):
        next(read)
    assert stream.tell() < 250


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda children: st.lists(children) | st.dictionaries(st.text(), children),
    max_leaves=5,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_value_in_any_place_is_more_than_a_fault(bundle, data):
    whole = data.draw(st.sampled_from([REQUEST | {"latency": LATENCY}, query()]))
    changed = whole | {data.draw(st.sampled_from(list(whole)) | st.text()): data.draw(anything)}
    line = json.dumps(changed).encode()
    try:
        if "query" in whole:
            Query.read(line, bundle)
        else:
            Request.read(line)
    except UserError as error:
        said = str(error)
        assert "\n" not in said


def test_an_array_comes_out_as_it_went_in():
    for one in (np.arange(6, dtype=np.float32).reshape(2, 3), np.array([[True, False]]), np.zeros((0, 4), np.uint8)):
        found = unpacked(packed(one), one.dtype.type)
        assert found.tobytes() == one.tobytes()
        assert found.shape == one.shape

"""A device that answers wrongly: what it says never ends the asker, and every case is answered or an error."""

import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from helpers import lying_device, tiny

import backends
from backends.answers import Answers
from backends.device.errors import UserError
from backends.events import End, Progress
from backends.hosts import Target, local, replay
from backends.query_client import session

ROOT = Path(backends.__file__).parents[1]
DUMMY = Target("doll", "dummy", time_limit=60.0)
HASTY = Target("doll", "dummy", time_limit=5.0)
EVERY = np.arange(tiny.N, dtype=np.int32)

# What each lie's error begins with, or, after a *, has in it.
ERRORS = {
    "another case": "an answer for case 'moon', which was not asked for or is answered already",
    "no such kind": "malformed event: Input tag 'rumour'",
    "no kind": "malformed event: Input tag 'None'",
    "a key missing": "malformed event: case.pixels_sha256: Field required",
    "a key too many": "malformed event: case.colour: Extra inputs are not permitted, got 'red'",
    "text for a number": "malformed event: case.seconds: Input should be a valid number, got '1'",
    "a negative number": "malformed event: case.seconds: Input should be greater than or equal to 0, got -1",
    "nan": "malformed event: case.seconds: Input should be a finite number, got nan",
    "a long number": "malformed event: Invalid JSON: number out of range",
    "nested": "malformed event: Invalid JSON: recursion limit exceeded",
    "no utf-8": "malformed event: Invalid JSON: invalid unicode",
    "half a line": "malformed event: Invalid JSON: EOF while parsing",
    "early end": "the device ended without an answer for each, same",
    "an error without words": "malformed event: error.message",
    "colours": "\N{REPLACEMENT CHARACTER}[2Jgone",
    "answered before": "an answer for case 'none', which was not asked for or is answered already",
    "loaded again": "malformed event: loaded.machine",
    "scores": "expected a replay's event, got scores",
    "other pixels": "each: the device pasted pixels of sha256 0000",
    "a defence": "each: after no defence the device has pixels of sha256 0000",
    "another file": "expected a result each.npz, got 'none.npz'",
    "a way out": "expected a result each.npz, got '../each.npz'",
    "another hash": "*each.npz: differs from what the device wrote (sha256 0000",
    "no file": "*each.npz: cannot be read (No such file",
    "a pipe": "*each.npz: expected a file, found something else",
    "a link": "*each.npz: expected a file, found a link",
    "a sparse file": "*each.npz: expected at most",
    "no archive": "*each.npz: not an .npz file",
    "fewer outputs": "*each.npz: logits: expected float32 (6, 192), got float32 (6, 2)",
    "fewer images": "*each.npz: logits: expected float32 (6, 192), got float32 (2, 192)",
    "other numbers": "*each.npz: logits: expected float32 (6, 192), got float64 (6, 192)",
    "objects": "*each.npz: not an .npz file of numbers",
    "more than all": "case each: 7 images are done, of 6",
    "ever more": "case each: 7 images are done, of 6",
    "no progress": "hang: no event for 5 s",
    "no newline": "malformed event: a line of more than 262,144 bytes",
    "chatter": "hang: no event for 5 s",
    "chatter on standard error": "hang: no event for 5 s",
    "after the end": "the device ended without an answer for each, same",
}
SESSION_ERRORS = {
    "fewer images": "query 1: expected scores (6, 192), got (2, 192)",
    "fewer outputs": "query 1: expected scores (6, 192), got (6, 2)",
    "double": "query 1: malformed scores: expected float32, got float64",
    "nan": "query 1: the device's scores are not finite",
    "infinite": "query 1: the device's scores are not finite",
    "half of the data": "query 1: malformed scores: 6 bytes do not fill float32 (6, 192)",
    "no base64": "query 1: malformed scores",
    "another query": "in query 7, expected",
    "other pixels": "the device pasted pixels of sha256 0000",
    "a key missing": "malformed event: scores.logits: Field required",
    "nested": "malformed event: Invalid JSON: recursion limit exceeded",
    "a case": "malformed event: Input tag 'case_error'",
    "early end": "the device ended the session",
    "no newline": "malformed event: a line of more than",
    "no progress": "hang: no event for 5 s",
}
LATENCY_ERRORS = {
    "fewer runs": "a latency of 1 runs, expected 5 or more",
    "other runs": "latency.npy: expected int64 (1000), got int64 (5,)",
    "another file": "expected a result latency.npy, got 'none.npz'",
    "no newline": "malformed event: a line of more than",
    "early end": "the device ended without an answer for the latency",
}
QUICK = ("another case", "nested", "early end", "no newline", "fewer outputs", "a way out", "a link")


def some_slow(errors):
    """Each lie takes a process or two: all but a few are told in the long run of tests."""
    return [pytest.param(*one, marks=() if one[0] in QUICK else pytest.mark.slow) for one in errors.items()]


@pytest.fixture
def lie(tmp_path, monkeypatch):
    """From now on the local device tells this lie."""
    python = str(lying_device.python(tmp_path / "env"))
    monkeypatch.setattr(local, "interpreter", lambda requirements: (python, [str(ROOT)]))
    return lambda name: monkeypatch.setenv("LIE", name)


def test_every_lie_is_told():
    assert set(ERRORS) == set(lying_device.CASE)
    assert set(SESSION_ERRORS) == set(lying_device.SCORES)
    assert set(LATENCY_ERRORS) == set(lying_device.LATENCY)


@pytest.mark.parametrize(("name", "says"), some_slow(ERRORS))
def test_a_lie_about_a_case_is_its_error_and_the_others_are_answered(tmp_path, bundle, lie, name, says):
    lie(name)
    heard = []
    target = HASTY if says.startswith("hang") else DUMMY
    outcome = replay(target, bundle.root, tmp_path / "out", on_event=heard.append)
    assert list(outcome.files) == ["none", "same"]
    assert list(outcome.errors) == ["each"]
    found = outcome.errors["each"]
    assert says[1:] in found if says.startswith("*") else found.startswith(says)
    assert len(found.splitlines()[0]) < 500
    assert [e.case for e in heard if e.event in ("case", "case_error")] == ["none", "each", "same"]


@pytest.mark.parametrize(("name", "says"), some_slow(SESSION_ERRORS))
def test_a_lie_in_a_session_is_an_error_that_names_the_target(tmp_path, bundle, lie, name, says):
    lie(name)
    target = HASTY if says.startswith("hang") else DUMMY
    with session(target, bundle.root, tmp_path / "o") as held, pytest.raises(UserError) as caught:
        held.scores(bundle.stamps("each"), EVERY)
    assert str(caught.value).startswith("doll: ")
    assert says in str(caught.value)
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize(("name", "says"), some_slow(LATENCY_ERRORS))
def test_a_lie_about_the_latency_is_its_error_and_the_cases_stay(tmp_path, bundle, lie, name, says):
    lie(name)
    wanted = {"warmup": 0, "runs": 5, "seconds": 0}
    outcome = replay(DUMMY, bundle.root, tmp_path / "out", ["none"], latency=wanted)
    assert list(outcome.files) == ["none"]
    assert not outcome.errors
    assert outcome.latency is None
    assert says in outcome.latency_error


def answers(bundle, latency=None):
    fetched = Path("nowhere")
    return Answers(bundle, ["none"], latency, 0.0, lambda event: {}, lambda name, most: fetched, lambda event: None)


def progress(case, done):
    return Progress(event="progress", case=case, done=done)


def test_nothing_is_believed_before_the_file_is_loaded(bundle):
    for event in (progress("none", 0), End(event="end")):
        with pytest.raises(UserError, match="expected one event `loaded`, before all others"):
            answers(bundle).hear(event)


def test_a_latency_that_was_not_asked_for_or_never_ends_is_refused(bundle):
    with_none = answers(bundle)
    with_none.outputs = 4
    with pytest.raises(UserError, match="a latency that was not asked for"):
        with_none.hear(progress("", 0))
    held = answers(bundle, {"warmup": 0, "runs": 2, "seconds": 0})
    held.outputs = 4
    for done in (0, 1, 2):
        held.hear(progress("", done))
    time.sleep(0.01)
    with pytest.raises(UserError, match="hang: the latency goes on after 3 runs"):
        held.hear(progress("", 3))


ASKER = """
import sys
import time
from pathlib import Path
from backends.device.machine import memory_bytes
from backends.hosts import Target, local, replay
local.interpreter = lambda requirements: (sys.argv[1], [sys.argv[2]])
replay(Target("t", "dummy", time_limit=float(sys.argv[5])), Path(sys.argv[3]), Path(sys.argv[4]), ["none", "each"])
print(memory_bytes("VmHWM"))
"""


@pytest.mark.slow
def test_a_stream_without_end_takes_no_memory(tmp_path, bundle, lie):
    peaks = {}
    for name, seconds in (("other pixels", 30), ("no newline", 30), ("chatter", 5), ("chatter on standard error", 5)):
        lie(name)
        arguments = [tmp_path / "env/bin/python", ROOT, bundle.root, tmp_path / name, str(seconds)]
        said = subprocess.run([sys.executable, "-c", ASKER, *arguments], capture_output=True, text=True, cwd=ROOT)
        assert not said.stderr
        peaks[name] = int(said.stdout)
    assert max(peaks.values()) - min(peaks.values()) < 16 * 2**20

"""Sessions: what holds on every host is in the conformance suite; here is what can go wrong, and what is recorded."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
from helpers import tiny

from backends.device.bundle import write_bundle
from backends.device.errors import UserError
from backends.hosts import Target, replay
from backends.query_client import session

EVERY = np.arange(tiny.N, dtype=np.int32)
DUMMY = Target("doll", "dummy", time_limit=20.0)


@pytest.fixture
def bundle(tmp_path):
    return tiny.bundle(tmp_path / "bundle", tiny.onnx_file(tmp_path / "tiny.onnx"))


@pytest.mark.parametrize("batch", [1, 4])
@pytest.mark.parametrize(("runtime", "kind"), [("onnxruntime", "onnx"), ("litert", "tflite"), ("reference", "onnx")])
def test_scores_are_those_of_a_replay_to_the_bit(tmp_path, runtime, kind, batch):
    bundle = tiny.bundle(tmp_path / "b", getattr(tiny, f"{kind}_file")(tmp_path / f"tiny.{kind}"))
    target = Target("t", runtime, batch=batch)
    outcome = replay(target, bundle.root, tmp_path / "out")
    with session(target, bundle.root, tmp_path / "session") as held:
        for case in ("each", "same"):
            with np.load(outcome.files[case], allow_pickle=False) as arrays:
                assert held.scores(bundle.stamps(case), EVERY).tobytes() == arrays["logits"].tobytes()
        again = held.scores(bundle.stamps("each").of(EVERY[::-2]), EVERY[::-2])
        assert again.shape == (3, 4)
        assert held.info == outcome.info
        assert held.machine == outcome.machine
        assert held.asked == 3
    assert not (tmp_path / "session").exists(), "a session writes nothing"


@pytest.mark.parametrize("word", ["median:3", "jpeg:30", "patchcleanser:3"])
@pytest.mark.parametrize(("runtime", "kind"), [("onnxruntime", "onnx"), ("litert", "tflite")])
def test_behind_a_defence_scores_are_those_of_a_replay_behind_it(tmp_path, runtime, kind, word):
    file, stamps = getattr(tiny, f"{kind}_file")(tmp_path / f"tiny.{kind}"), tiny.stamps()
    cases = {"plain": stamps, "defended": stamps}
    bundle = write_bundle(tmp_path / "b", tiny.artifact(file), file, tiny.pixels(), cases, {"defended": word})
    target = Target("t", runtime)
    outcome = replay(target, bundle.root, tmp_path / "out")
    found = {name: np.load(file, allow_pickle=False)["logits"] for name, file in outcome.files.items()}
    assert (found["plain"] != found["defended"]).any()
    with session(target, bundle.root, tmp_path / "o", word) as held:
        assert held.scores(stamps, EVERY).tobytes() == found["defended"].tobytes()
        assert held.scores(stamps.of(EVERY[::-2]), EVERY[::-2]).tobytes() == found["defended"][::-2].tobytes()


def test_a_device_that_defends_otherwise_is_refused(tmp_path, bundle):
    with session(DUMMY, bundle.root, tmp_path / "o", "median:3") as held:
        held.defence = "median:5"
        with pytest.raises(UserError, match="doll: query 1: the device pasted pixels, after median:5, of sha256"):
            held.scores(bundle.stamps("each"), EVERY)
    with session(DUMMY, bundle.root, tmp_path / "o", "blur:3") as held:
        held.defence = ""
        with pytest.raises(UserError, match=r"doll: .*'blur:3': no defence"):
            held.scores(bundle.stamps("each"), EVERY)


def test_an_image_may_be_asked_several_times_at_once(tmp_path, bundle):
    one = bundle.stamps("same").of(np.array([2, 2]))
    with session(Target("t", "onnxruntime"), bundle.root, tmp_path / "o") as held:
        first, second = held.scores(one, np.array([2, 2], np.int32))
    assert first.tobytes() == second.tobytes()


@pytest.mark.parametrize(
    ("fault", "says"), [("segv", "doll: crash: SIGSEGV"), ("leave", "crash: exit code 0"), ("raise", "kernel panic"),
                        ("hang", "doll: hang: no event for 1.5 s"), ("native hang", "doll: hang")]
)  # fmt: skip
def test_a_device_that_fails_in_a_session_is_an_error_that_names_the_target(tmp_path, bundle, fault, says):
    # the first run is that of loading
    target = replace(DUMMY, options={"fault": fault, "at": 2 + tiny.N}, time_limit=1.5 if "hang" in fault else 20.0)
    with session(target, bundle.root, tmp_path / "o") as held:
        held.scores(bundle.stamps("each"), EVERY)
        with pytest.raises(UserError, match=says):
            held.scores(bundle.stamps("each"), EVERY)


def test_what_a_runtime_prints_and_a_pause_between_queries_do_no_harm(tmp_path, bundle):
    target = replace(DUMMY, options={"fault": "print", "at": 3}, time_limit=2.0)
    with session(target, bundle.root, tmp_path / "o") as held:
        found = held.scores(bundle.stamps("each"), EVERY)
        time.sleep(2.5)
        assert held.scores(bundle.stamps("each"), EVERY).tobytes() == found.tobytes()


def test_a_device_that_cannot_load_is_an_error(tmp_path, bundle):
    target = Target("t", "onnxruntime", options={"moon": 1})
    with pytest.raises(UserError, match=r"t: .*moon"), session(target, bundle.root, tmp_path / "o"):
        pass


def test_other_pixels_than_ours_are_refused(tmp_path, bundle):
    other = tiny.bundle(tmp_path / "other", tiny.onnx_file(tmp_path / "tiny.onnx"))
    pixels = np.load(other.root / "pixels.npy")
    pixels[-1, -1, -1, -1] ^= 1
    np.save(other.root / "pixels.npy", pixels)
    with session(DUMMY, bundle.root, tmp_path / "o") as held:
        held.scores(bundle.stamps("each"), EVERY)
        held.bundle = replace(other)  # mapped anew
        with pytest.raises(UserError, match="doll: query 2: the device pasted pixels of sha256"):
            held.scores(bundle.stamps("each"), EVERY)


@pytest.mark.parametrize(
    ("changes", "images", "says"),
    [
        ({}, [0, 1, 2, 3, 4, 6], "image indices below 6"),
        ({}, [-1, 1, 2, 3, 4, 5], "image indices below 6"),
        ({}, [0, 1], "do not fit 2 images"),
        ({"corners": np.full((6, 2), 7, np.int32)}, EVERY, "lies outside its image"),
        ({"corners": np.zeros((5, 2), np.int32)}, EVERY, "expected corners"),
        ({"stamps": np.zeros((6, 3, 3, 3))}, EVERY, "expected uint8, got float64"),
        ({"mask": np.ones((6, 2, 3), bool)}, EVERY, "do not fit 6 images"),
    ],
)
def test_a_query_that_does_not_fit_is_refused_by_the_device(tmp_path, bundle, monkeypatch, changes, images, says):
    monkeypatch.setattr("backends.query_client.seen_sha256", lambda *query: "")  # our own side would not even send it
    with pytest.raises(UserError, match=says), session(DUMMY, bundle.root, tmp_path / "o") as held:
        held.scores(bundle.stamps("each")._replace(**changes), np.array(images, np.int32))


def test_a_device_in_a_session_ends_with_its_asker(tmp_path, bundle):
    script = (
        "import sys; from pathlib import Path; import numpy as np\n"
        "from backends.hosts import Target; from backends.query_client import session\n"
        "target = Target('t', 'dummy', options={'milliseconds': 100000})\n"
        "with session(target, Path(sys.argv[1]), Path('o')) as held: pass"
    )
    import psutil

    asker = subprocess.Popen([sys.executable, "-c", script, str(bundle.root)])
    until = time.monotonic() + 20

    def devices():
        found = []
        for process in psutil.process_iter(["cmdline"]):
            if "backends.device.replay" in (line := process.info["cmdline"] or []) and str(bundle.root) in line:
                found.append(process)
        return found

    while len(devices()) < 2 and time.monotonic() < until:  # it and its watcher
        time.sleep(0.05)
    assert devices()
    os.kill(asker.pid, signal.SIGKILL)
    asker.wait()
    while devices() and time.monotonic() < until:
        time.sleep(0.05)
    assert not devices()

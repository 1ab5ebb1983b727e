"""A replay whose runtime goes wrong, is slow, or is left alone."""

import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from helpers import tiny

import backends
from backends.device.latency import measure
from backends.hosts import Target, replay

ROOT = Path(backends.__file__).parents[1]


def at_fault(fault, at=None, **changes):
    return Target("faulty", "faulty", options={"fault": fault} | ({"at": at} if at else {}), **changes)


SLOW = Target("slow", "dummy", options={"milliseconds": 4}, time_limit=1.0)


def logits(path):
    with np.load(path, allow_pickle=False) as arrays:
        return arrays["logits"]


def gone(pid, seconds=5.0):
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
            return True
        time.sleep(0.02)
    return False


# Faults of a runtime, all of a third party's that registers by entry point.


def test_whatever_a_runtime_prints_the_events_stay_whole(tmp_path, bundle, faulty):
    outcome = replay(at_fault("print", 3), bundle.root, tmp_path / "out")
    assert not outcome.errors
    expected = bundle.artifact.preproc(tiny.pixels()).reshape(tiny.N, -1)
    np.testing.assert_array_equal(logits(outcome.files["none"]), expected)


def test_nan_passes_as_it_is(tmp_path, bundle, faulty):
    found = logits(replay(at_fault("nan", 3), bundle.root, tmp_path / "out").files["none"])
    assert np.isnan(found).all(axis=1).tolist() == [False, True, False, False, False, False]


def test_a_runtime_that_writes_into_its_input_is_refused(tmp_path, bundle, faulty):
    outcome = replay(at_fault("scribble", 1), bundle.root, tmp_path / "out")
    assert len(outcome.errors) == 3
    assert all("the runtime writes into its input" in message for message in outcome.errors.values())


def test_outputs_of_another_dtype_are_refused(tmp_path, bundle, faulty):
    outcome = replay(at_fault("double", 1), bundle.root, tmp_path / "out")
    assert all("got float64" in message for message in outcome.errors.values())
    assert len(outcome.errors) == 3


# Runs 2 to 7 are those of the first case, 8 to 13 of the second.
@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("segv", "crash: SIGSEGV"),
        ("raise", "crash: exit code 1"),
        ("leave", "crash: exit code 0 before the end"),
        ("hang", "hang: no event for 4 s"),
        ("native hang", "hang: no event for 4 s"),
    ],
)
def test_a_fault_in_one_case_is_its_error_and_the_others_run(tmp_path, bundle, faulty, fault, message):
    events = []
    limit = 4.0 if "hang" in fault else 60.0  # a busy machine takes a second to load anything
    outcome = replay(at_fault(fault, 9, time_limit=limit), bundle.root, tmp_path / "out", on_event=events.append)
    assert sorted(outcome.files) == ["none", "same"]
    assert outcome.errors["each"].startswith(message)
    assert ("kernel panic" in outcome.errors["each"]) == (fault == "raise")
    assert ("Fatal Python error: Segmentation fault" in outcome.errors["each"]) == (fault == "segv")
    assert [e.case for e in events if e.event in ("case", "case_error")] == ["none", "each", "same"]
    pids = [int(line) for line in faulty.read_text().split()]
    assert len(pids) == 2
    assert all(gone(pid) for pid in pids)


@pytest.mark.slow
@pytest.mark.qemu
def test_a_crash_under_an_emulator_is_one_and_leaves_no_core(tmp_path, bundle, faulty, qemu, monkeypatch):
    monkeypatch.chdir(tmp_path)
    target, limits = at_fault("segv", 9, host="qemu", arch=os.uname().machine), resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (limits[1], limits[1]))
    try:
        outcome = replay(target, bundle.root, tmp_path / "out")
    finally:
        resource.setrlimit(resource.RLIMIT_CORE, limits)
    assert sorted(outcome.files) == ["none", "same"]
    assert outcome.errors["each"].startswith("crash: SIGSEGV\n")
    assert [path.name for path in tmp_path.iterdir() if path.suffix == ".core"] == []
    assert all(gone(int(line)) for line in faulty.read_text().split())


@pytest.mark.parametrize("at", ["load", 1])
def test_a_crash_at_load_is_everyones_error_and_is_not_tried_again(tmp_path, bundle, faulty, at):
    outcome = replay(
        at_fault("segv", at), bundle.root, tmp_path / "out", latency={"warmup": 0, "runs": 1, "seconds": 0}
    )
    assert sorted(outcome.errors) == ["each", "none", "same"]
    assert all(message.startswith("crash: SIGSEGV") for message in outcome.errors.values())
    assert outcome.latency_error == outcome.errors["none"]
    assert len(faulty.read_text().split()) == 1


def test_a_crash_in_every_case_ends(tmp_path, bundle, faulty):
    outcome = replay(at_fault("segv", 2), bundle.root, tmp_path / "out")
    assert sorted(outcome.errors) == ["each", "none", "same"]
    assert len(faulty.read_text().split()) == 3


def test_progress_is_heard_a_few_times_a_second_and_keeps_the_watch_quiet(tmp_path, faulty):
    bundle, events = tiny.bundle(tmp_path / "b", tiny.onnx_file(tmp_path / "tiny.onnx"), n=400), []
    begin = time.monotonic()
    outcome = replay(SLOW, bundle.root, tmp_path / "out", ["none"], on_event=events.append)
    seconds = time.monotonic() - begin
    done = [e.done for e in events if e.event == "progress"]
    assert not outcome.errors
    assert seconds > 400 * 0.004
    assert done == sorted(set(done))
    assert 3 <= len(done) <= 2 + 4 * seconds


# Latency.


def test_latency_is_that_of_one_run(tmp_path, bundle, faulty):
    wanted = {"warmup": 3, "runs": 40, "seconds": 0.3}
    found = replay(SLOW, bundle.root, tmp_path / "out", ["none"], latency=wanted).latency
    raw = np.load(tmp_path / "out/latency.npy", allow_pickle=False) / 1e6
    assert found.n == len(raw)
    assert raw.sum() >= 300 * 0.8
    assert len(raw) >= 40
    assert raw.min() >= 4  # a run sleeps for 4 ms
    assert (found.p50_ms, found.p90_ms, found.p99_ms) == pytest.approx(np.percentile(raw, (50, 90, 99)))
    assert 4 <= found.p50_ms < 8
    assert found.throughput_per_second == pytest.approx(1000 / raw.mean())
    assert found.cold_start_seconds > 0.004
    assert 0 < found.clock_resolution_ns < 1e6
    assert 10e6 < found.peak_rss_bytes < 400e6
    assert (found.threads, found.preprocessing) == (1, "excluded")


def test_both_limits_of_the_latency_loop_hold_and_warm_up_is_not_counted():
    ran = []
    _, nanoseconds = measure(ran.append, list(range(3)), {"warmup": 4, "runs": 7, "seconds": 0}, lambda n: None)
    assert len(nanoseconds) == 7
    assert ran == [0, 1, 2, 0, 0, 1, 2, 0, 1, 2, 0]
    begin = time.perf_counter()
    _, nanoseconds = measure(lambda x: None, list(range(3)), {"warmup": 0, "runs": 1, "seconds": 0.2}, lambda n: None)
    assert 0.2 <= time.perf_counter() - begin < 1
    assert len(nanoseconds) > 100


def test_a_crash_in_the_latency_loop_leaves_the_cases(tmp_path, bundle, faulty):
    wanted = {"warmup": 0, "runs": 10, "seconds": 0}
    outcome = replay(at_fault("segv", 20), bundle.root, tmp_path / "out", latency=wanted)
    assert len(outcome.files) == 3
    assert not outcome.errors
    assert outcome.latency is None
    assert outcome.latency_error.startswith("crash: SIGSEGV")
    assert len(faulty.read_text().split()) == 1


def test_latency_is_still_measured_after_the_last_case_crashed(tmp_path, bundle, faulty):
    wanted = {"warmup": 0, "runs": 5, "seconds": 0}
    outcome = replay(at_fault("segv", 15), bundle.root, tmp_path / "out", latency=wanted)
    assert list(outcome.errors) == ["same"]
    assert outcome.latency.n == 5


# Nothing is left running.


def test_a_key_ends_the_device(tmp_path, bundle, faulty):
    def stop(event):
        if event.event == "loaded":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        replay(at_fault("hang", 3), bundle.root, tmp_path / "out", on_event=stop)
    assert gone(int(faulty.read_text()), seconds=1)


@pytest.mark.parametrize("fault", ["hang", "native hang"])
def test_a_killed_harness_leaves_no_device_running(tmp_path, bundle, faulty, fault):
    kill_harness(tmp_path, bundle, faulty, f"options={{'fault': {fault!r}, 'at': 3}}")


@pytest.mark.slow
@pytest.mark.qemu
@pytest.mark.parametrize("fault", ["hang", "native hang"])
def test_a_killed_harness_leaves_no_emulator_running(tmp_path, bundle, faulty, fault, qemu):
    arch = os.uname().machine
    kill_harness(tmp_path, bundle, faulty, f"options={{'fault': {fault!r}, 'at': 3}}, host='qemu', arch={arch!r}")


def kill_harness(tmp_path, bundle, faulty, target):
    script = (
        "import sys\nfrom pathlib import Path\nfrom backends.hosts import Target, replay\n"
        f"t = Target('t', 'faulty', {target})\n"
        "replay(t, Path(sys.argv[1]), Path(sys.argv[2]))\n"
    )
    harness = subprocess.Popen([sys.executable, "-c", script, bundle.root, tmp_path / "out"], cwd=ROOT)
    until = time.monotonic() + 60
    while not (faulty.exists() and faulty.read_text().endswith("\n")) and time.monotonic() < until:
        time.sleep(0.02)
    device = int(faulty.read_text())
    time.sleep(0.3)  # into the hang
    assert not gone(device, seconds=0.1)
    harness.send_signal(signal.SIGKILL)
    harness.wait()
    assert gone(device)


def test_a_closed_connection_ends_an_attached_device(tmp_path, bundle, faulty):
    request = {
        "schema": 1,
        "runtime": "faulty",
        "options": {"fault": "hang", "at": 3},
        "cases": ["none"],
        "attached": True,
    }
    device = subprocess.Popen(
        [sys.executable, "-m", "backends.device.replay", bundle.root, tmp_path / "out"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        cwd=ROOT,
    )
    with device:
        device.stdin.write(json.dumps(request).encode() + b"\n")
        device.stdin.flush()
        assert json.loads(device.stdout.readline())["event"] == "loaded"
        device.stdin.close()
        assert device.wait(timeout=5) == -signal.SIGKILL

import json
import os
import resource
import signal
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
import tiny

import backends
from backends.device.artifact import Artifact, Preproc, sha256_file
from backends.device.bundle import Bundle, Stamps, write_bundle
from backends.device.latency import measure
from backends.device.machine import describe, read_cpuinfo
from backends.device.runtimes import engine, prepare, real
from backends.hosts import Target, availability, identity, replay

ROOT = Path(backends.__file__).parents[1]

# A third party's runtime: ours that goes wrong on request, which also tells when it starts and prints where it can.
FAULTY = """
import os
from backends.device.runtimes import dummy

print("garbage at import")

class Engine(dummy.Engine):
    package = "numpy"

    def load(self, path, options, threads):
        with open(os.environ["FAULTY_LOG"], "a") as log:
            log.write(f"{os.getpid()}\\n")
        print('{"event": "garbage at load"}', flush=True)
        super().load(path, options, threads)
"""


@pytest.fixture
def faulty(tmp_path, monkeypatch):
    """Installs the faulty runtime as a distribution of its own; gives the log of its starts, a process id each."""
    site, log = tmp_path / "site", tmp_path / "log"
    info = site / "faulty-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: faulty\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[patchbench.runtimes]\nfaulty = faulty_runtime:Engine\n")
    (site / "faulty_runtime.py").write_text(FAULTY)
    monkeypatch.setenv("PYTHONPATH", str(site))
    monkeypatch.setenv("FAULTY_LOG", str(log))
    monkeypatch.syspath_prepend(str(site))
    return log


@pytest.fixture
def bundle(tmp_path):
    return tiny.bundle(tmp_path / "bundle", tiny.onnx_file(tmp_path / "tiny.onnx"))


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


def by_hand(bundle, out, request, **changes):
    return subprocess.run(
        [sys.executable, "-m", "backends.device.replay", str(bundle), str(out)],
        input=request if isinstance(request, str) else json.dumps({"schema": 1, "options": {}} | request) + "\n",
        capture_output=True,
        text=True,
        timeout=60,
        **{"cwd": ROOT} | changes,
    )


# What a replay gives.


@pytest.mark.parametrize(("runtime", "kind"), [("onnxruntime", "onnx"), ("reference", "onnx"), ("litert", "tflite")])
@pytest.mark.parametrize("batch", [1, 4])
def test_results_are_those_of_the_runtime_on_slowly_pasted_pixels(tmp_path, monkeypatch, runtime, kind, batch):
    file = getattr(tiny, f"{kind}_file")(tmp_path / f"tiny.{kind}")
    bundle, events = tiny.bundle(tmp_path / "bundle", file), []
    monkeypatch.chdir(tmp_path)  # modules are found from anywhere
    outcome = replay(Target("t", runtime, batch=batch), bundle.root, tmp_path / "out", on_event=events.append)
    assert not outcome.errors
    assert list(outcome.files) == ["none", "each", "same"]
    direct = engine(runtime)()
    direct.load(file, {}, 1)
    for name, stamps in (("none", None), ("each", tiny.stamps()), ("same", tiny.stamps(p=2, each=False))):
        pasted = tiny.pasted_slowly(tiny.pixels(), stamps)
        expected = direct.run(prepare(direct.input, bundle.artifact.preproc(pasted), file))
        with np.load(outcome.files[name], allow_pickle=False) as arrays:
            np.testing.assert_allclose(arrays["logits"], real(direct.output, expected), rtol=1e-6, atol=1e-6)
            assert ("integers" in arrays) == (kind == "tflite")
            if kind == "tflite":
                assert arrays["integers"].dtype == np.int8
                np.testing.assert_array_equal(arrays["integers"], expected)
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["each.npz", "none.npz", "same.npz"]
    assert outcome.info["version"] == version(engine(runtime).package)
    assert outcome.machine["arch"] == os.uname().machine
    cases = [e for e in events if e["event"] == "case"]
    assert [(e["case"], e["pixels_sha256"]) for e in cases] == [(c.name, c.sha256) for c in bundle.cases]
    assert [Path(e["file"]) for e in cases] == list(outcome.files.values())


def test_runtimes_agree_on_the_same_bundle(tmp_path, bundle):
    found = [
        logits(replay(Target(name, name), bundle.root, tmp_path / name).files["each"])
        for name in ("onnxruntime", "reference")
    ]
    np.testing.assert_allclose(*found, rtol=1e-4, atol=1e-5)


def test_only_the_cases_asked_for_are_run(tmp_path, bundle):
    outcome = replay(Target("t", "onnxruntime"), bundle.root, tmp_path / "out", cases=["same"])
    assert list(outcome.files) == ["same"]


def test_by_hand_one_line_in_and_events_out(tmp_path, bundle):
    said = by_hand(bundle.root, tmp_path / "out", {"runtime": "onnxruntime", "cases": ["none", "each"]})
    events = [json.loads(line) for line in said.stdout.splitlines()]
    assert [e["event"] for e in events if e["event"] != "progress"] == ["loaded", "case", "case", "end"]
    assert said.returncode == 0
    assert events[0]["load_seconds"] > 0
    assert logits(tmp_path / "out" / events[-2]["file"]).shape == (tiny.N, tiny.CLASSES)


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        ("", "not a request"),
        ("[]", "not a request"),
        ('{"schema": 2}', "schema 1"),
        ({"runtime": "onnxruntime", "cases": [], "colour": 1}, "colour"),
        ({"runtime": "onnxruntime", "cases": [], "batch": 0}, "must be positive"),
        ({"runtime": "onnxruntime", "cases": ["missing"]}, "no case 'missing'"),
        ({"runtime": "abacus", "cases": []}, "no runtime named 'abacus'"),
        ({"runtime": "litert", "cases": []}, "litert runs tflite, not onnx"),
        ({"runtime": "onnxruntime", "cases": [], "options": {"speed": 9}}, "unknown option 'speed'"),
    ],
)
def test_what_a_user_can_mend_is_an_error_event_and_exit_code_2(tmp_path, bundle, request_, message):
    said = by_hand(bundle.root, tmp_path / "out", request_)
    (event,) = (json.loads(line) for line in said.stdout.splitlines())
    assert event["event"] == "error"
    assert message in event["message"]
    assert said.returncode == 2
    assert not said.stderr


def test_a_place_that_cannot_be_written_is_an_error(tmp_path, bundle):
    (tmp_path / "out").write_text("in the way")
    outcome = replay(Target("t", "onnxruntime"), bundle.root, tmp_path / "out")
    assert len(outcome.errors) == 3
    assert {m.rpartition("(")[0] for m in outcome.errors.values()} == {
        f"{tmp_path}/out/{name}.npz: cannot be written " for name in ("none", "each", "same")
    }


def test_a_missing_package_is_an_error_of_every_case_saying_what_to_install(tmp_path, bundle, monkeypatch):
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.modules['onnxruntime'] = None\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    outcome = replay(Target("t", "onnxruntime"), bundle.root, tmp_path / "out")
    assert len(outcome.errors) == 3
    assert all(message.endswith("pip install onnxruntime") for message in outcome.errors.values())


def test_an_artifact_of_more_classes_than_the_file_gives_is_an_error(tmp_path):
    file = tiny.onnx_file(tmp_path / "tiny.onnx")
    description = tiny.artifact(file, class_offset=1)
    bundle = write_bundle(tmp_path / "bundle", description, file, tiny.pixels(), {"none": None})
    outcome = replay(Target("t", "onnxruntime"), bundle.root, tmp_path / "out")
    assert "expected float32 outputs (1, 5 or more), got float32 (1, 4)" in outcome.errors["none"]


# That what the device saw is what was meant.


def test_a_changed_stamp_is_an_error_of_its_case_alone(tmp_path, bundle):
    path = bundle.root / "cases/each/stamps.npy"
    stamps = np.load(path)
    np.save(path, stamps ^ 1)
    outcome = replay(Target("t", "onnxruntime"), bundle.root, tmp_path / "out")
    assert sorted(outcome.files) == ["none", "same"]
    assert bundle.case("each").sha256 in outcome.errors["each"]
    assert not (tmp_path / "out/each.npz").exists()


def test_one_changed_pixel_is_an_error_of_every_case(tmp_path, bundle):
    mapped = np.lib.format.open_memmap(bundle.root / "pixels.npy", mode="r+")
    mapped[-1, -1, -1, -1] ^= 1
    mapped.flush()
    outcome = replay(Target("t", "onnxruntime"), bundle.root, tmp_path / "out")
    assert sorted(outcome.errors) == ["each", "none", "same"]
    assert all("sha256" in message for message in outcome.errors.values())


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
        ("hang", "hang: no sign of life for 1 s"),
        ("native hang", "hang: no sign of life for 1 s"),
    ],
)
def test_a_fault_in_one_case_is_its_error_and_the_others_run(tmp_path, bundle, faulty, fault, message):
    events = []
    outcome = replay(at_fault(fault, 9, time_limit=1.0), bundle.root, tmp_path / "out", on_event=events.append)
    assert sorted(outcome.files) == ["none", "same"]
    assert outcome.errors["each"].startswith(message)
    assert ("kernel panic" in outcome.errors["each"]) == (fault == "raise")
    assert ("Fatal Python error: Segmentation fault" in outcome.errors["each"]) == (fault == "segv")
    assert [e["case"] for e in events if e["event"] in ("case", "case_error")] == ["none", "each", "same"]
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
    done = [e["done"] for e in events if e["event"] == "progress"]
    assert not outcome.errors
    assert seconds > 400 * 0.004
    assert done == sorted(set(done))
    assert 3 <= len(done) <= 2 + 4 * seconds


# Latency.


def test_latency_is_that_of_one_run(tmp_path, bundle, faulty):
    wanted = {"warmup": 3, "runs": 40, "seconds": 0.3}
    found = replay(SLOW, bundle.root, tmp_path / "out", ["none"], latency=wanted).latency
    raw = np.load(tmp_path / "out/latency.npy", allow_pickle=False) / 1e6
    assert found["n"] == len(raw)
    assert raw.sum() >= 300 * 0.8
    assert len(raw) >= 40
    assert raw.min() >= 4  # a run sleeps for 4 ms
    assert (found["p50_ms"], found["p90_ms"], found["p99_ms"]) == pytest.approx(np.percentile(raw, (50, 90, 99)))
    assert 4 <= found["p50_ms"] < 8
    assert found["throughput_per_second"] == pytest.approx(1000 / raw.mean())
    assert found["cold_start_seconds"] > 0.004
    assert 0 < found["clock_resolution_ns"] < 1e6
    assert 10e6 < found["peak_rss_bytes"] < 400e6
    assert (found["threads"], found["preprocessing"]) == (1, "excluded")


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
    assert outcome.latency["n"] == 5


# Nothing is left running.


def test_a_key_ends_the_device(tmp_path, bundle, faulty):
    def stop(event):
        if event["event"] == "loaded":
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


# What is known of a target without running it.


def test_identity_names_what_decides_the_results():
    first = identity(Target("a", "onnxruntime"))
    assert first["version"] == version("onnxruntime")
    assert first == identity(Target("b", "onnxruntime", time_limit=1))
    for other in (
        Target("a", "litert"),
        Target("a", "onnxruntime", options={"optimization": "basic"}),
        Target("a", "onnxruntime", threads=2),
        Target("a", "onnxruntime", batch=2),
    ):
        assert identity(other) != first
    assert json.loads(json.dumps(first)) == first


def test_availability_says_why_not_and_how_to_mend_it(tmp_path, faulty, monkeypatch):
    assert availability(Target("t", "onnxruntime")) is None
    assert availability(at_fault("none")) is None
    (tmp_path / "site/faulty_runtime.py").write_text(FAULTY.replace('"numpy"', '"no-such-runtime"'))
    monkeypatch.delitem(sys.modules, "faulty_runtime", raising=False)
    assert availability(at_fault("none")) == "no-such-runtime is not installed: pip install no-such-runtime"
    assert "no runtime named 'abacus'" in availability(Target("t", "abacus"))
    assert "no host named 'moon'; there are " in availability(Target("t", "onnxruntime", host="moon"))
    assert "this machine is" in availability(Target("t", "onnxruntime", arch="pdp11"))


def test_a_machine_describes_itself():
    machine = describe()
    assert machine.arch == os.uname().machine
    assert machine.cores == len(os.sched_getaffinity(0))
    assert machine.numpy == np.__version__
    assert 1e8 < machine.memory_bytes < 1e14
    if machine.arch == "x86_64":
        assert {"sse2", "fpu"} <= set(machine.features)
        assert "SSE2" in machine.detected
        assert machine.cpu


def test_arm_gives_implementer_and_part_for_a_name(tmp_path):
    (tmp_path / "cpuinfo").write_text(
        "processor\t: 0\nBogoMIPS\t: 108.00\nFeatures\t: fp asimd crc32 cpuid\nCPU implementer\t: 0x41\n"
        "CPU architecture: 8\nCPU variant\t: 0x1\nCPU part\t: 0xd0b\nCPU revision\t: 2\n\nprocessor\t: 1\n"
    )
    assert read_cpuinfo(tmp_path / "cpuinfo") == ("0x41/0xd0b r1p2", ("asimd", "cpuid", "crc32", "fp"))
    assert read_cpuinfo(tmp_path / "none") == ("", ())


@pytest.mark.data
def test_mlperf_tiny_through_a_bundle_keeps_its_accuracy(tmp_path, data_dir):
    with np.load(data_dir / "cifar10/cifar10.npz") as arrays:
        pixels, labels = arrays["x_test"], arrays["y_test"]
    file = data_dir / "vendor/mlperf_tiny_resnet8_int8.tflite"
    artifact = Artifact(
        name="resnet8", victim="resnet8", format="tflite", precision="w8a8", file=file.name, sha256=sha256_file(file),
        input_size=(32, 32), classes=10, preproc=Preproc("nhwc", divisor=1), output_kind="softmax",
    )  # fmt: skip
    grey = Stamps(np.full((1, 12, 12, 3), 128, np.uint8), np.ones((1, 12, 12), bool), np.full((1000, 2), 10, np.int32))
    bundle = write_bundle(tmp_path / "bundle", artifact, file, pixels, {"none": None, "grey": grey})
    assert Bundle.read(bundle.root) == bundle
    accuracy = {}
    for batch in (1, 64):
        outcome = replay(Target("t", "litert", batch=batch), bundle.root, tmp_path / f"out{batch}")
        accuracy[batch] = {name: (logits(path).argmax(1) == labels).mean() for name, path in outcome.files.items()}
    assert accuracy[1] == accuracy[64]
    assert abs(accuracy[1]["none"] - 0.878) <= 0.003
    assert accuracy[1]["grey"] < accuracy[1]["none"] - 0.05

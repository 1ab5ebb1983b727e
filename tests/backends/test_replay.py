"""What a replay gives, that the device saw what was meant, and what is known of a target without running it."""

import json
import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
from helpers import tiny

import backends
from backends.device.artifact import Artifact, Preproc, sha256_file
from backends.device.bundle import Bundle, Stamps, write_bundle
from backends.device.checksums import write_sums
from backends.device.machine import describe, read_cpuinfo
from backends.device.runtimes import engine, prepare, real
from backends.hosts import Target, availability, identity, local, replay

ROOT = Path(backends.__file__).parents[1]


def logits(path):
    with np.load(path, allow_pickle=False) as arrays:
        return arrays["logits"]


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
    cases = [e for e in events if e.event == "case"]
    assert [(e.case, e.pixels_sha256) for e in cases] == [(c.name, c.sha256) for c in bundle.cases]
    assert [Path(e.file) for e in cases] == list(outcome.files.values())


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
        ({"runtime": "onnxruntime", "cases": [], "batch": 0}, "batch from 1 to"),
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
    write_sums(bundle.root)
    outcome = replay(Target("t", "onnxruntime"), bundle.root, tmp_path / "out")
    assert sorted(outcome.files) == ["none", "same"]
    assert bundle.case("each").sha256 in outcome.errors["each"]
    assert not (tmp_path / "out/each.npz").exists()


def test_one_changed_pixel_is_an_error_of_every_case(tmp_path, bundle):
    mapped = np.lib.format.open_memmap(bundle.root / "pixels.npy", mode="r+")
    mapped[-1, -1, -1, -1] ^= 1
    mapped.flush()
    write_sums(bundle.root)
    outcome = replay(Target("t", "onnxruntime"), bundle.root, tmp_path / "out")
    assert sorted(outcome.errors) == ["each", "none", "same"]
    assert all("sha256" in message for message in outcome.errors.values())


def test_a_device_that_read_another_bundle_is_an_error_of_every_case(tmp_path, bundle, monkeypatch):
    other = write_bundle(tmp_path / "other", bundle.artifact, bundle.file, tiny.pixels() ^ 1, {"none": None})
    start = local.start
    monkeypatch.setattr(local, "start", lambda target, root, out: start(target, other.root, out))
    outcome = replay(Target("t", "onnxruntime"), bundle.root, tmp_path / "out", cases=["none"])
    assert f"read a bundle of sha256 {other.sha256}, expected {bundle.sha256}" in outcome.errors["none"]


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
    assert availability(Target("t", "faulty")) is None
    code = tmp_path / "site/faulty_runtime.py"
    code.write_text(code.read_text().replace('"numpy"', '"no-such-runtime"'))
    monkeypatch.delitem(sys.modules, "faulty_runtime", raising=False)
    assert availability(Target("t", "faulty")) == "no-such-runtime is not installed: pip install no-such-runtime"
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

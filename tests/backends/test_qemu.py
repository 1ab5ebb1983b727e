import json
import os
import platform

import numpy as np
import pytest
from helpers import tiny

from backends.device.errors import UserError
from backends.hosts import Target, availability, identity, is_emulated, prepare, replay
from backends.sysroots import Sysroot

FAKE = """#!/bin/sh
if [ "$1" = --version ]; then echo "{name} version {version} (Debian 1:{version})"; fi
[ "$1" = -cpu ] && printf 'Available CPUs:\\n  cortex-a53\\n  cortex-a72\\n  max (any)\\n\\nWords:\\n  moon\\n'
"""


@pytest.fixture
def fakes(tmp_path, monkeypatch):
    """A machine where only what a test puts there is installed, and nothing is cached."""
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setenv("PATCHBENCH_CACHE", str(tmp_path / "cache"))
    (tmp_path / "bin").mkdir()

    def install(name, version=""):
        (tmp_path / "bin" / name).write_text(FAKE.format(name=name, version=version))
        (tmp_path / "bin" / name).chmod(0o755)

    return install


def arm(runtime="litert", cpu="cortex-a72", **changes):
    return Target("t", runtime, host="qemu", **{"arch": "aarch64", "cpu": cpu} | changes)


INSTALL = "apt-get install qemu-user mmdebstrap debian-archive-keyring"


def test_a_missing_emulator_is_named_with_the_command_that_installs_it(fakes):
    assert availability(arm()).startswith(f"qemu-aarch64 is not installed: {INSTALL} (10 is in Debian 13")
    assert availability(arm(arch="armv7l")).startswith("qemu-arm is not installed")
    with pytest.raises(UserError, match="qemu-aarch64 is not installed"):
        prepare(arm())


@pytest.mark.parametrize("version", ["7.2.11", "8.2.2", "9.2.1", "9"])
def test_too_old_an_emulator_says_so_and_how_to_mend_it(fakes, tmp_path, version):
    fakes("qemu-aarch64", version)
    fakes("mmdebstrap")
    why_not = availability(arm())
    assert f"{tmp_path}/bin/qemu-aarch64 is version {version if '.' in version else 'unknown'}, too old" in why_not
    assert "expected 10.0 or newer (10 is in Debian 13 and Ubuntu 25.10, package qemu-user)" in why_not
    with pytest.raises(UserError, match="too old"):
        prepare(arm())
    assert not (tmp_path / "cache").exists()


def test_an_unknown_cpu_is_refused_with_those_near_it(fakes):
    fakes("qemu-aarch64", "10.0.2")
    fakes("mmdebstrap")
    assert availability(arm()) is None
    assert availability(arm(cpu="")) is None
    assert availability(arm(cpu="max,sve=off")) is None
    assert "has no CPU 'moon'" in availability(arm(cpu="moon"))
    why_not = availability(arm(cpu="cortex-a27"))
    assert "qemu-aarch64 has no CPU 'cortex-a27'; did you mean 'cortex-a72'?" in why_not
    assert "qemu-aarch64 -cpu help" in why_not


def test_a_missing_mmdebstrap_matters_until_the_system_is_made(fakes):
    fakes("qemu-aarch64", "11.1")
    assert availability(arm()) == f"mmdebstrap, which unpacks the sysroot for aarch64, is not installed: {INSTALL}"
    Sysroot("aarch64").folder.mkdir(parents=True)
    assert availability(arm()) is None


def test_debian_is_a_release_and_for_another_architecture(fakes):
    fakes("qemu-aarch64", "11.1")
    fakes("qemu-arm", "11.1")
    fakes("mmdebstrap")
    assert availability(arm(debian="trixie")) is None
    assert "did you mean 'trixie'?" in availability(arm(debian="trixi"))
    own = Target("t", "onnxruntime", host="qemu", arch="armv7l", debian="trixie", version="1.23.2")
    assert "trixie has its own onnxruntime for armv7l; leave it out" in availability(own)


def test_an_architecture_must_be_given_and_a_runtime_must_be_ours(fakes, monkeypatch):
    for arch in ("", "pdp11"):
        assert f"arch = {arch!r}: expected one of x86_64, aarch64, armv7l" in availability(arm(arch=arch))
    fakes("qemu-aarch64", "10.0")
    fakes("mmdebstrap")
    assert "no runtime named 'abacus'" in availability(arm("abacus"))


def test_identity_is_that_of_what_is_emulated_and_not_of_this_machine(fakes):
    fakes("qemu-aarch64", "10.0.2")
    first = identity(arm())
    assert first["emulator"] == "qemu-aarch64 10.0.2"
    assert first["cpu"] == "cortex-a72"
    assert first["version"] == identity(Target("t", "litert"))["version"]
    assert json.loads(json.dumps(first)) == first
    others = (arm(cpu="max"), arm(threads=2), arm(version="2.1.0"), arm(options={"kernels": "builtin"}))
    assert len({json.dumps(identity(other)) for other in (*others, arm())}) == 5
    assert identity(arm(arch="armv7l"))["emulator"] is None  # not there; yet a plan can be made
    assert is_emulated(arm())


def test_what_mmdebstrap_cannot_do_is_an_error_with_its_words_and_leaves_nothing(fakes, tmp_path):
    fakes("qemu-aarch64", "10.0")
    fakes("mmdebstrap")
    (tmp_path / "bin/mmdebstrap").write_text("#!/bin/sh\necho E: no such mirror >&2\nexit 25\n")
    with pytest.raises(UserError, match=r"bookworm for aarch64: mmdebstrap .*failed\nE: no such mirror$"):
        prepare(arm())
    assert [path.suffix for path in (tmp_path / "cache/sysroots").iterdir()] == [".lock"]


# The real thing.


def ready(target):
    prepare(target)
    return target


def replayed(target, bundle, out):
    outcome = replay(target, bundle.root, out)
    assert outcome.errors == {}
    return outcome


def arrays(outcome, name="each"):
    with np.load(outcome.files[name], allow_pickle=False) as found:
        return dict(found)


@pytest.fixture(scope="module")
def tflite(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tflite")
    return tiny.bundle(folder / "bundle", tiny.tflite_file(folder / "tiny.tflite"))


@pytest.mark.slow
@pytest.mark.qemu
@pytest.mark.parametrize(("cpu", "has_dot_product"), [("cortex-a53", False), ("neoverse-n1", True)])
def test_litert_on_an_emulated_arm(qemu, tmp_path, tflite, cpu, has_dot_product):
    outcome = replayed(ready(arm(cpu=cpu)), tflite, tmp_path / "arm")
    here = replayed(Target("t", "litert"), tflite, tmp_path / "here")
    for name in here.files:  # XNNPACK's integers are the same on every architecture
        np.testing.assert_array_equal(arrays(outcome, name)["integers"], arrays(here, name)["integers"])
    machine = outcome.machine
    assert (machine["arch"], machine["cpu"], machine["emulated"]) == ("aarch64", cpu, True)
    assert machine["emulator"].startswith("qemu-aarch64 1")
    assert ("ASIMDDP" in machine["detected"], "asimddp" in machine["features"]) == (has_dot_product,) * 2
    assert outcome.info["version"] == identity(arm())["version"]


@pytest.mark.slow
@pytest.mark.qemu
def test_tflite_runtime_on_a_32_bit_arm(qemu, tmp_path, tflite):
    outcome = replayed(ready(arm("tflite_runtime", "max", arch="armv7l")), tflite, tmp_path / "arm")
    here = replayed(Target("t", "litert", options={"kernels": "builtin"}), tflite, tmp_path / "here")
    steps = arrays(outcome)["integers"].astype(int) - arrays(here)["integers"]
    assert np.abs(steps).max() <= 1
    assert outcome.machine["arch"].startswith("armv")
    assert outcome.machine["numpy"].startswith("1.24.")


@pytest.mark.slow
@pytest.mark.qemu
@pytest.mark.parametrize(
    ("debian", "arch", "runtime", "python"),
    [
        ("bullseye", "aarch64", "litert", "3.9."),
        ("trixie", "aarch64", "litert", "3.13."),
        ("trixie", "armv7l", "onnxruntime", "3.13."),  # pip has no wheel for it, Debian a package
        ("forky", "aarch64", "onnxruntime", "3.14."),
    ],
)
def test_an_older_and_a_newer_debian(qemu, tmp_path, tflite, debian, arch, runtime, python):
    bundle = tflite
    if runtime == "onnxruntime":
        bundle = tiny.bundle(tmp_path / "bundle", tiny.onnx_file(tmp_path / "tiny.onnx", integer_output=True))
    outcome = replayed(ready(arm(runtime, "max", arch=arch, debian=debian)), bundle, tmp_path / "arm")
    here = replayed(Target("t", runtime), bundle, tmp_path / "here")
    for name in here.files:
        np.testing.assert_array_equal(arrays(outcome, name)["integers"], arrays(here, name)["integers"])
    assert outcome.machine["python"].startswith(python)


@pytest.mark.slow
@pytest.mark.qemu
@pytest.mark.skipif(platform.machine() != "x86_64", reason="this very Python, on another x86")
def test_onnxruntime_on_an_x86_without_avx512(qemu, tmp_path):
    bundle = tiny.bundle(tmp_path / "bundle", tiny.onnx_file(tmp_path / "tiny.onnx"))
    target = ready(Target("t", "onnxruntime", host="qemu", arch="x86_64", cpu="Haswell"))
    outcome = replayed(target, bundle, tmp_path / "haswell")
    here = replayed(Target("t", "onnxruntime"), bundle, tmp_path / "here")
    np.testing.assert_allclose(arrays(outcome)["logits"], arrays(here)["logits"], rtol=1e-4, atol=1e-4)
    detected = set(outcome.machine["detected"])
    assert "AVX2" in detected
    assert not {name for name in detected if name.startswith("AVX512")}
    assert (outcome.machine["cpu"], outcome.machine["emulator"][:12]) == ("Haswell", "qemu-x86_64 ")


@pytest.mark.slow
@pytest.mark.qemu
def test_an_option_not_in_force_is_an_error_there_too(qemu, tmp_path, tflite):
    target = ready(arm("tflite_runtime", options={"kernels": "xnnpack"}))
    outcome = replay(target, tflite.root, tmp_path / "out")
    assert len(outcome.errors) == 3
    assert all("'xnnpack' are not in force" in message for message in outcome.errors.values())


@pytest.mark.slow
@pytest.mark.qemu
def test_a_system_holds_what_is_needed_and_no_devices(qemu):
    prepare(arm())
    root = Sysroot("aarch64").folder
    assert sorted(path.name for path in root.iterdir()) == ["lib", "usr"]
    assert not any(path.is_block_device() or path.is_char_device() for path in root.rglob("*"))
    links = [path for path in root.rglob("*") if path.is_symlink()]
    assert not [path for path in links if path.readlink().is_absolute()]
    assert all(path.lstat().st_uid == os.getuid() for path in links)

"""The host docker with an engine: real containers, of this machine's CPU and of an arm64."""

import json
import os
import platform
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from helpers import tiny
from helpers.command import patchbench
from helpers.required import absent
from helpers.spy import SPY

from backends import container_images
from backends.device.errors import UserError
from backends.hosts import Target, availability, docker, identity, prepare, replay

ROOT = Path(container_images.ROOT)
HERE = platform.machine()


@pytest.fixture(scope="session")
def built():
    """Gives, for a target, the id of its image, which is built when it is not there."""

    def build(target):
        if why_not := availability(target):
            absent("docker", why_not)
        try:
            prepare(target)
        except UserError as error:
            absent("docker", str(error))
        return container_images.inspect(identity(target)["image"]).id

    return build


@pytest.fixture(scope="session")
def spy(built, tmp_path_factory):
    """The name of an image with the runtime above in it."""
    built(Target("t", "litert", host="docker"))
    context, name = tmp_path_factory.mktemp("spy"), f"patchbench/test-spy:{os.getpid()}"
    info = context / "site/spy-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: spy\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[patchbench.runtimes]\nspy = spy_runtime:Engine\n")
    (context / "site/spy_runtime.py").write_text(SPY)
    base = identity(Target("t", "litert", host="docker"))["image"]
    (context / "Dockerfile").write_text(f"FROM {base}\nCOPY site /opt/site\n")
    container_images.docker("buildx", "build", "--load", "--tag", name, str(context))
    yield name
    container_images.docker("image", "rm", "--force", name)


def spying(image, fault="", **changes):
    return Target("spy", "spy", host="docker", image=image, options={"fault": fault}, **changes)


def containers(image):
    return container_images.docker("ps", "--all", "--quiet", "--filter", f"ancestor={image}").split()


def gone(image, seconds=8.0):
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if not containers(image):
            return True
        time.sleep(0.1)
    return False


def arrays(path):
    with np.load(path, allow_pickle=False) as file:
        return dict(file)


@pytest.mark.slow
@pytest.mark.docker
@pytest.mark.parametrize("arch", ["x86_64", "aarch64"])
@pytest.mark.parametrize(("runtime", "kind"), [("onnxruntime", "onnx"), ("litert", "tflite")])
def test_a_container_gives_what_this_machine_gives(tmp_path, built, arch, runtime, kind):
    bundle = tiny.bundle(tmp_path / "with, comma", getattr(tiny, f"{kind}_file")(tmp_path / f"tiny.{kind}"))
    target = Target("t", runtime, host="docker", arch=arch)
    image = built(target)
    found = replay(target, bundle.root, tmp_path / "out:put")
    assert not found.errors
    here = replay(Target("t", runtime), bundle.root, tmp_path / "here")
    assert list(found.files) == ["none", "each", "same"]
    for case, file in found.files.items():
        assert (file.stat().st_uid, file.stat().st_gid) == (os.getuid(), os.getgid())
        ours, theirs = arrays(here.files[case]), arrays(file)
        assert ours.keys() == theirs.keys()
        if kind == "tflite" or arch == HERE:
            np.testing.assert_array_equal(theirs["logits"], ours["logits"])
        else:
            np.testing.assert_allclose(theirs["logits"], ours["logits"], rtol=1e-5, atol=1e-5)
    assert found.info == here.info
    machine = found.machine
    assert (machine["arch"], machine["emulated"], machine["image"]) == (arch, arch != HERE, image)
    assert machine["numpy"] == np.__version__
    assert here.machine["image"] == ""


@pytest.mark.slow
@pytest.mark.docker
@pytest.mark.skipif(HERE != "x86_64", reason="an aarch64 is emulated on x86-64 alone")
def test_an_emulated_container_has_the_cpu_that_its_target_names(tmp_path, built):
    bundle = tiny.bundle(tmp_path / "bundle", tiny.tflite_file(tmp_path / "tiny.tflite"))
    for cpu, has_vectors in (("cortex-a53", False), ("neoverse-v1", True)):
        target = Target("t", "litert", host="docker", arch="aarch64", cpu=cpu)
        built(target)
        machine = replay(target, bundle.root, tmp_path / cpu).machine
        assert (machine["cpu"], "sve" in machine["features"]) == (cpu, has_vectors)


@pytest.mark.slow
@pytest.mark.docker
@pytest.mark.parametrize("arch", ["x86_64", "aarch64"])
def test_the_replay_image_is_small_and_no_user_of_it_is_root(built, arch):
    image = built(Target("t", "litert", host="docker", arch=arch))
    size, user = container_images.docker("image", "inspect", "--format", "{{.Size}} {{.Config.User}}", image).split()
    assert int(size) < 450e6
    assert user == "65534:65534"


@pytest.mark.slow
@pytest.mark.docker
def test_another_version_has_an_image_of_its_own(tmp_path, built, bundle):
    target = Target("t", "onnxruntime", "1.23.2", host="docker")
    image = built(target)
    outcome = replay(target, bundle.root, tmp_path / "out", ["none"])
    assert not outcome.errors
    assert outcome.info["version"] == "1.23.2"
    assert outcome.machine["image"] == image != built(Target("t", "onnxruntime", host="docker"))


@pytest.mark.slow
@pytest.mark.docker
def test_the_verb_replays_in_a_container(tmp_path, built, bundle):
    image = built(Target("t", "onnxruntime", host="docker"))
    where = ("--host", "docker", "--arch", HERE, "--image", image)
    done = patchbench("replay", bundle.root, "--runtime", "onnxruntime", *where, "--into", "answers", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "answers/device.json").read_text())["machine"]["image"] == image
    refused = patchbench(
        "replay", bundle.root, "--runtime", "litert", *where, "--cpu", "i486", "--into", "x", cwd=tmp_path
    )
    assert "litert on docker: cannot choose a CPU model (i486) without emulation" in refused.stderr


@pytest.mark.slow
@pytest.mark.docker
def test_by_hand_the_image_replays_with_the_code_that_it_holds(tmp_path, built, bundle):
    image, out = built(Target("t", "onnxruntime", host="docker")), tmp_path / "out"
    out.mkdir()
    out.chmod(0o777)
    run = ["docker", "run", "--rm", "-i", "-v", f"{bundle.root}:/bundle:ro", "-v", f"{out}:/out", image]
    request = {"schema": 1, "runtime": "onnxruntime", "options": {}, "cases": ["each"]}
    done = subprocess.run([*run, "/bundle", "/out"], input=json.dumps(request), capture_output=True, text=True)
    assert json.loads(done.stdout.splitlines()[-1]) == {"event": "end"}, done.stderr
    assert (out / "each.npz").is_file()


@pytest.mark.slow
@pytest.mark.docker
def test_seen_from_inside_there_is_nothing_but_the_work(tmp_path, spy, bundle):
    outcome = replay(spying(spy), bundle.root, tmp_path / "out")
    assert not outcome.errors
    seen = json.loads(outcome.info["seen"])
    user = (os.getuid(), os.getgid()) if os.getuid() else (65534, 65534)
    assert seen["ids"] == [user[0]] * 3 + [user[1]] * 3
    assert seen["capabilities"] == [0] * 4
    assert seen["no new privileges"] == "1"
    assert seen["networks"] == ["lo"]
    assert seen["writable"] == ["/out"]
    assert seen["processes"] == str(docker.PROCESSES)
    assert seen["there"] == []
    assert seen["tools"] == []
    assert gone(spy)


@pytest.mark.slow
@pytest.mark.docker
@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("segv", "crash: SIGSEGV"),
        ("memory", "crash: SIGKILL"),
        ("hang", "hang: no event for 4 s"),
    ],
)
def test_a_fault_is_the_error_of_its_case_and_leaves_no_container(tmp_path, spy, bundle, monkeypatch, fault, message):
    monkeypatch.setattr(docker, "MEMORY", "256m")
    outcome = replay(spying(spy, fault, time_limit=4.0), bundle.root, tmp_path / "out", ["none"])
    assert outcome.errors["none"].startswith(message)
    assert ("the container ran out of memory, its limit is 256m" in outcome.errors["none"]) == (fault == "memory")
    assert ("Fatal Python error: Segmentation fault" in outcome.errors["none"]) == (fault == "segv")
    assert gone(spy)


@pytest.mark.slow
@pytest.mark.docker
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_container_does_not_outlive_its_asker(tmp_path, spy, bundle, how):
    script = (
        "import signal, sys\nfrom pathlib import Path\nfrom backends.hosts import Target, replay\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # tests in the background of a shell inherit none
        f"t = Target('t', 'spy', host='docker', image={spy!r}, options={{'fault': 'hang'}})\n"
        "replay(t, Path(sys.argv[1]), Path(sys.argv[2]), on_event=lambda e: print(e.event, flush=True))\n"
    )
    command = [sys.executable, "-c", script, str(bundle.root), str(tmp_path / "out")]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, stderr=subprocess.DEVNULL) as asker:
        while asker.stdout.readline() != "progress\n":
            assert asker.poll() is None
        time.sleep(0.3)  # into the hang
        assert len(containers(spy)) == 1
        asker.send_signal(how)
        asker.wait(timeout=30)
    assert gone(spy)


@pytest.mark.slow
@pytest.mark.docker
def test_an_engine_that_does_not_answer_says_what_starts_it(built, tmp_path, monkeypatch):
    built(Target("t", "litert", host="docker"))
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none.sock")
    assert "docker's engine does not answer: sudo systemctl start docker" in availability(
        Target("t", "litert", host="docker")
    )


@pytest.mark.slow
@pytest.mark.docker
def test_an_image_that_is_not_here_or_of_another_platform_says_how_to_get_it(built):
    tag = container_images.inspect(built(Target("t", "litert", host="docker"))).id
    other = "aarch64" if HERE == "x86_64" else "x86_64"
    missing = Target("t", "litert", host="docker", image="nowhere/nothing:1")
    assert availability(missing).endswith(
        f"is missing: docker pull --platform {container_images.PLATFORMS[HERE]} nowhere/nothing:1"
    )
    if docker.emulates(other, docker.BINFMT):
        wrong = availability(Target("t", "litert", host="docker", arch=other, image=tag))
        assert f"is {container_images.PLATFORMS[HERE]}, not {container_images.PLATFORMS[other]}" in wrong


@pytest.mark.slow
@pytest.mark.docker
def test_an_image_that_cannot_be_built_says_why(built, monkeypatch):
    built(Target("t", "litert", host="docker"))
    monkeypatch.setenv("PATCHBENCH_BASE_IMAGE", "localhost/no-such-image:1")
    heard = []
    with pytest.raises(UserError, match="no-such-image") as error:
        prepare(Target("t", "litert", host="docker"), heard.append)
    assert "localhost/no-such-image:1" in str(error.value)
    assert "set PATCHBENCH_BASE_IMAGE to use another base than localhost/no-such-image:1" in str(error.value)
    assert heard

"""Words that become a requirement, an image, an address or an argument."""

import re
import subprocess
from pathlib import Path

import pytest
from helpers import ROOT
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from packaging.requirements import Requirement

from backends import container_images, environments, hosts, sysroots
from backends.device.errors import UserError
from backends.hosts import Target, qemu
from backends.words import check_pin

# fmt: off
HOSTILE = (
    "/../../../x", "../x", "1==2", "1.0; python_version > '3'", "1 --index-url=http://x", "--pre", "-r/etc/passwd",
    "1.0\n--pre", "*", "1.*", ">=1", "1 ", "1.0+ſ", "@ file:///x", "9" * 5000, "\0", "[red]", "$(reboot)", "a;b",
)
PINS = ("a", "a>=1", "a == 1", "a==1;x", "a[b]==1", "a==1,==1", "a @ file:///x", "--pre", "a==1 b==1", "a===1")
IMAGES = ("python:3.11-slim", "localhost:5000/a/b__c:1", "a@sha256:" + "0" * 64, "sha256:" + "0" * 64)
ADDRESSES = ("board", "pi@board", "pi@10.0.0.7", "pi@fe80::1%eth0", "ssh://pi@board:2222", "ssh://[::1]:22", "b_1")
NO_ADDRESSES = ("-oProxyCommand=x", "a b", "a;b", "a@-b", "`x`@b", "a\nb", "ssh://", "ssh://a:b", "a/b", "@b")
NO_TARGETS = (
    {"arch": "../x"}, {"arch": "x" * 40}, {"cpu": "-help"}, {"cpu": "a\nb"}, {"options": {"a": "\0"}}, {"threads": -1},
    {"options": {"a": float("nan")}}, {"options": {"a\n": 1}}, {"options": {"a": 2**64}}, {"batch": 10**9},
    {"time_limit": float("inf")}, {"time_limit": float("nan")},
)
# fmt: on
TEXTS = st.text() | st.sampled_from(HOSTILE) | st.from_regex(r"[-\w./:=@+!; ]{1,40}", fullmatch=True)


@pytest.mark.parametrize("version", ["1.23.2", "2.3.0rc1", "1!2.0", "1.0.post1", "2.0+cpu"])
def test_a_version_is_one(version: str) -> None:
    assert Target("t", "litert", version).version == version


@pytest.mark.parametrize("version", HOSTILE)
def test_what_is_no_version_is_refused(version: str) -> None:
    with pytest.raises(UserError, match="expected a version such as"):
        Target("t", "litert", version)


def test_a_version_written_otherwise_is_told_how() -> None:
    with pytest.raises(UserError, match=r"version 'v1\.2-rc1': expected a version such as 1\.23\.2; write it 1\.2rc1$"):
        Target("t", "litert", "v1.2-rc1")


@pytest.mark.parametrize("pin", PINS)
def test_pip_gets_no_other_requirement(pin: str) -> None:
    with pytest.raises(UserError, match="expected NAME==VERSION"):
        check_pin(pin)


@pytest.mark.parametrize("name", IMAGES)
def test_an_image_is_one(name: str) -> None:
    assert Target("t", "litert", host="docker", image=name).image == name


@pytest.mark.parametrize(
    "name", ["--privileged", "-v/:/host", "a b", "a\nb", "$(reboot)", "a;b", "a,source=/", ".", "a/../b", "a:b:c", "A"]
)
def test_what_is_no_image_is_refused(name: str) -> None:
    with pytest.raises(UserError, match="expected a name like python"):
        Target("t", "litert", host="docker", image=name)


@pytest.mark.parametrize("address", ADDRESSES)
def test_an_address_is_one(address: str) -> None:
    assert Target("t", "litert", host="ssh", address=address).address == address


@pytest.mark.parametrize("address", NO_ADDRESSES)
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(UserError, match="expected user@machine"):
        Target("t", "litert", host="ssh", address=address)


def test_a_port_is_written_as_ssh_has_it() -> None:
    with pytest.raises(UserError, match=r"; write it ssh://pi@board:22$"):
        Target("t", "litert", host="ssh", address="pi@board:22")


@pytest.mark.parametrize("given", NO_TARGETS)
def test_what_no_device_can_be_told_is_refused(given: dict) -> None:
    with pytest.raises(UserError, match="expected"):
        Target("t", "litert", **given)


@pytest.mark.parametrize("cpu", ["max,-help=,", "max,", "a b", "max;x"])
def test_qemu_gets_no_other_words(tmp_path: Path, cpu: str) -> None:
    with pytest.raises(UserError, match="expected a CPU model"):
        qemu.start(Target("t", "litert", host="qemu", arch="aarch64", cpu=cpu), tmp_path, tmp_path)


@pytest.mark.parametrize("name", ["__init__", "__main__", "os.path", "../local", "", "local\0", "x" * 300])
@pytest.mark.parametrize("what", ["host", "runtime"])
def test_a_registry_has_its_files_alone(what: str, name: str) -> None:
    target = Target("t", **({"runtime": "litert"} | {what: name}))
    assert f"no {what} named" in str(hosts.availability(target))


def is_of_ours(word: str, cache: Path) -> bool:
    """Whether an argument of pip is one that no suite decides."""
    tags = ("manylinux_2_", "manylinux2014_", "linux_")
    fixed = (
        *environments.QUIET,
        "--target",
        "--platform",
        "--only-binary=:all:",
        "--implementation",
        "cp",
        "--no-deps",
    )
    return word in (*fixed, "--python-version", "3.11") or word.startswith(tags) or Path(word).is_relative_to(cache)


def is_pin(word: str) -> bool:
    (pin,) = Requirement(word).specifier
    return word == f"{Requirement(word).name}=={pin.version}"


HOSTS = st.sampled_from([("local", ""), ("qemu", "x86_64"), ("qemu", "aarch64"), ("qemu", "armv7l"), ("docker", "")])
OTHERS = st.just("") | TEXTS
RUNTIMES = st.sampled_from(
    [
        "litert",
        "tflite_runtime",
        "tensorflow",
        "tflite_micro",
        "openvino",
        "tosa",
        "qnn",
        "tpu_mlir",
        "rknn",
        "nncase",
        "executorch",
        "onnxruntime",
    ]
)


@given(version=st.just("1.0.7") | TEXTS, cpu=OTHERS, arch=OTHERS, image=OTHERS, on=HOSTS, runtime=RUNTIMES)
@example(version="1.0.7", cpu="", arch="", image="", on=("local", ""), runtime="litert")
@example(version="1.0.7", cpu="", arch="", image="", on=("docker", ""), runtime="litert")
@example(version="1.0.7", cpu="", arch="", image="", on=("qemu", "aarch64"), runtime="litert")
@example(version="1.0.7", cpu="", arch="", image="", on=("qemu", "armv7l"), runtime="tflite_runtime")
@example(version="1.0.7", cpu="", arch="", image="", on=("docker", ""), runtime="rknn")
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_the_words_pip_gets_pins_and_the_cache_alone_is_written(
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
    on: tuple[str, str],
    arch: str,
    **words: str,
) -> None:
    root = tmp_path_factory.mktemp("root")
    cache = root / "a/b/c/d/e/cache"
    monkeypatch.setenv("PATCHBENCH_CACHE", str(cache))
    monkeypatch.setenv("PATCHBENCH_ACCEPT_LICENCE", "qualcomm rockchip")
    commands: list[list[str]] = []
    for module in (environments, container_images):
        monkeypatch.setattr(module, "run", lambda command, *_: commands.append(list(command)))
    monkeypatch.setattr(qemu, "availability", lambda target: None)
    monkeypatch.setattr(sysroots, "make_sysroot", lambda sysroot, tell: None)
    monkeypatch.setattr(container_images, "inspect", lambda name: None)
    monkeypatch.setattr(container_images, "cannot_build", lambda: None)
    refusal = ""
    try:
        hosts.prepare(Target("t", host=on[0], arch=on[1] or arch, **words))
    except UserError as error:
        refusal = str(error)
    for command in commands:
        given = [word.removeprefix("REQUIREMENTS=").split() for word in command if word.startswith("REQUIREMENTS=")]
        if "install" in command:
            given = [[word for word in command[command.index("install") + 1 :] if not is_of_ours(word, cache)]]
        assert all(is_pin(word) for pins in given for word in pins)
    if words["version"] == "1.0.7" and not (words["cpu"] or words["image"] or arch):
        assert commands or re.search("use (the|another) host", refusal)  # some runtimes are not for every host
    written = [path for path in root.glob("**/*") if not (path.is_relative_to(cache) or cache.is_relative_to(path))]
    assert written == []


def dockerfile_step(requirements: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """The Dockerfile's installation of REQUIREMENTS, with a python3 that prints its arguments."""
    step = (ROOT / "Dockerfile").read_text().partition("ARG REQUIREMENTS\nRUN ")[2].partition("\n\n")[0]
    script = step[step.index("if [") :].replace("\\\n", "")
    (folder / "python3").write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    (folder / "python3").chmod(0o755)
    environment = {"PATH": f"{folder}:/usr/bin:/bin", "REQUIREMENTS": requirements}
    return subprocess.run(["sh", "-c", script], env=environment, cwd=folder, capture_output=True, text=True)


@pytest.mark.parametrize("requirements", ["a==1 --index-url=x", "*", "a==1;x", "$(reboot)", "-rpython3", "a==1 ../x"])
def test_the_image_is_built_of_pins_alone(tmp_path: Path, requirements: str) -> None:
    done = dockerfile_step(requirements, tmp_path)
    assert done.returncode == 2
    assert "expected NAME==VERSION" in done.stderr
    assert done.stdout == ""


def test_the_image_is_built_of_what_is_asked_for(tmp_path: Path) -> None:
    asked = dockerfile_step("numpy==2.3.5 onnxruntime==1!1.23.2", tmp_path).stdout.split()
    assert asked[-3:] == ["/opt/site", "numpy==2.3.5", "onnxruntime==1!1.23.2"]
    pinned = dockerfile_step("", tmp_path).stdout.split()
    assert pinned[-3:] == ["--require-hashes", "--requirement", "requirements-replay.txt"]

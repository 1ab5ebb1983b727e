"""The host docker: what needs no engine."""

import platform
import re
import tomllib
from pathlib import Path

import pytest

from backends import container_images
from backends.device.errors import UserError
from backends.hosts import Target, availability, cores, docker, identity, is_emulated, prepare, replay

ROOT = Path(container_images.ROOT)
HERE = platform.machine()


def test_without_docker_the_error_says_what_to_install(tmp_path, bundle, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    target = Target("t", "onnxruntime", host="docker")
    assert availability(target) == "docker is not installed: sudo apt-get install docker.io docker-buildx"
    with pytest.raises(UserError, match=r"apt-get install docker\.io"):
        prepare(target)
    outcome = replay(target, bundle.root, tmp_path / "out")
    assert set(outcome.errors.values()) == {availability(target)}
    assert len(outcome.errors) == 3
    assert identity(target)["image"].startswith("patchbench/replay:")
    assert identity(Target("t", "onnxruntime", host="docker", image="mine:1"))["image"] == "mine:1"


def test_an_architecture_without_an_image_is_refused():
    with pytest.raises(UserError, match="no images for pdp11, only for x86_64, aarch64"):
        identity(Target("t", "onnxruntime", host="docker", arch="pdp11"))


def test_another_architecture_is_an_emulated_one():
    other = "aarch64" if HERE == "x86_64" else "x86_64"
    assert not is_emulated(Target("t", "litert", host="docker"))
    assert not is_emulated(Target("t", "litert", host="docker", arch=HERE))
    assert is_emulated(Target("t", "litert", host="docker", arch=other))
    assert identity(Target("t", "litert", host="docker", arch=other))["cpu"] == "emulated"
    assert identity(Target("t", "litert", host="docker", arch=other, cpu="max"))["cpu"] == "max"
    assert cores(Target("t", "litert", host="docker", threads=3)) == 3


def test_emulation_counts_where_containers_have_it(tmp_path):
    assert not docker.emulates("aarch64", tmp_path)
    entry = tmp_path / "qemu-aarch64"
    for text, there in (
        ("enabled\nflags: F\n", True),
        ("enabled\nflags: OCF\n", True),
        ("disabled\nflags: F\n", False),
    ):
        entry.write_text(text)
        assert docker.emulates("aarch64", tmp_path) is there
    entry.write_text("enabled\ninterpreter /usr/bin/qemu-F\nflags: \n")
    assert not docker.emulates("aarch64", tmp_path)


def test_an_image_of_another_runtime_or_version_holds_that_alone():
    assert container_images.recipe("x86_64", "ai-edge-litert").requirements == ()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lock = (ROOT / "requirements-replay.txt").read_text()  # for the Python in the image, whatever runs here
    numpy, pillow = re.findall(r"^(?:numpy|pillow)==\S+", lock, re.MULTILINE)
    extra = project["optional-dependencies"]["tflite-runtime"]
    assert container_images.recipe("x86_64", "tflite-runtime").requirements == tuple(sorted([*extra, pillow]))
    assert container_images.recipe("x86_64", "onnxruntime", "1.23.2").requirements == (
        numpy,
        "onnxruntime==1.23.2",
        pillow,
    )
    with pytest.raises(UserError, match="abacus"):
        container_images.recipe("x86_64", "abacus")
    with pytest.raises(UserError, match=r"^no images with executorch, which needs torch's gigabytes: use another"):
        container_images.recipe("x86_64", "executorch")


def test_an_image_is_named_by_what_it_is_built_from(tmp_path, monkeypatch):
    monkeypatch.delenv("PATCHBENCH_BASE_IMAGE", raising=False)
    first = container_images.recipe("x86_64", "onnxruntime")
    assert first.base == "python:3.11-slim"
    assert first.tag == container_images.recipe("x86_64", "ai-edge-litert").tag
    others = [
        container_images.recipe("aarch64", "onnxruntime"),
        container_images.recipe("x86_64", "onnxruntime", "1.23.2"),
    ]
    monkeypatch.setenv("PATCHBENCH_BASE_IMAGE", "mine/python:{arch}")
    others.append(container_images.recipe("aarch64", "onnxruntime"))
    assert others[-1].base == "mine/python:arm64"
    for name in container_images.FILES:
        (tmp_path / name).write_text((ROOT / name).read_text() + "# changed\n")
    tags = [first.tag, *(other.tag for other in others)]
    monkeypatch.setattr(container_images, "HERE", tmp_path)
    assert len({*tags, first.tag}) == 5

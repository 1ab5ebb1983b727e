"""Without torch: what imports, what works, and what says which extra it needs."""

import json
import os
import subprocess
import sys
import tomllib
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest
from helpers import ROOT, tiny
from helpers.suites import QUICK, write
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from harness.extras import EXTRAS

# Whatever computes with networks: modules, and folders with all that is in them. Everything else imports without torch.
NEED_TORCH = {
    "exporters": "compiler_ranges export means onnx_float onnx_graph onnx_qdq pooling pte pte_graph pte_observers "
    "pte_proof sub_pixel tflite esp_ppq nncase rknn toolchains tpu_mlir",
    "patches": "acceleration attacks best_place differentiable_defences disguise fake_quant objectives paste printable "
    "problem straight_through structure surrogates training_defences twins",
    "harness.api": "networks",
    "harness.data": "downloads",
    "harness.networks": "architectures checkpoints distillation quantization_aware_training training victims weights",
    "harness.study": "features gradients places saturation strength",
    "harness.study.lib": "layers pixel_gradients readings structure",
}
NO_TORCH = (
    "torch is not installed: pip install 'patchbench[craft]' --extra-index-url https://download.pytorch.org/whl/cpu"
)
IMPORT_ALL = """
import importlib, json, sys
failed = {}
for name in json.loads(sys.argv[1]):
    try:
        importlib.import_module(name)
    except ModuleNotFoundError as error:
        failed[name] = error.name
print(json.dumps(failed))
"""
BROUGHT = """
schema = 1
name = "brought"
[data]
name = "digits"
calibration = 8
craft = 64
evaluate = 20
[[artifact]]
name = "mine"
file = "demo/resnet8.onnx"
[[attack]]
name = "noise"
pixels = 8
[latency]
warmup = 1
runs = 2
seconds = 0
[[target]]
name = "ort"
runtime = "onnxruntime"
"""
Python = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Python:
    """This Python with links to its packages, but to none of those that `craft` brings beyond `inspect`."""
    site = tmp_path_factory.mktemp("site")
    gone = {module for module, extra in EXTRAS.items() if extra == "craft"}
    numpy = find_spec("numpy")
    assert numpy
    assert numpy.origin
    for package in Path(numpy.origin).parents[1].iterdir():
        if package.name.partition("-")[0] not in gone and not package.name.startswith("__editable__"):
            (site / package.name).symlink_to(package)

    def run(*arguments: object, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
        environ = os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT / 'harness' / 'api'}:{site}"}
        command = [sys.executable, "-S", *map(str, arguments)]
        return subprocess.run(command, cwd=cwd, env=environ, capture_output=True, text=True, timeout=300)

    return run


def test_only_what_computes_with_networks_needs_torch(python: Python) -> None:
    packages = ("backends", "exporters", "harness", "patches")
    files = [file.relative_to(ROOT) for package in packages for file in (ROOT / package).rglob("*.py")]
    names = [
        ".".join(file.with_suffix("").parts).removesuffix(".__init__") for file in files if file.stem != "__main__"
    ]
    done = python("-c", IMPORT_ALL, json.dumps(names))
    assert done.returncode == 0, done.stderr
    failed = json.loads(done.stdout)
    assert set(failed.values()) <= set(EXTRAS)
    known = {f"{folder}.{module}" for folder, modules in NEED_TORCH.items() for module in modules.split()}
    assert [name for name in failed if not known & {name, name.rpartition(".")[0]}] == []
    assert [name for name in known if not any(one == name or one.startswith(f"{name}.") for one in failed)] == []


def test_the_api_imports(python: Python) -> None:
    done = python("-c", "import patchbench, sys; print('torch' in sys.modules)")
    assert (done.stdout, done.returncode) == ("False\n", 0), done.stderr


def test_a_bundle_is_replayed(python: Python, tmp_path: Path) -> None:
    tiny.bundle(tmp_path / "bundle", tiny.onnx_file(tmp_path / "tiny.onnx"))
    words = ("replay", "bundle", "--runtime", "onnxruntime", "--into", "answers")
    done = python("-m", "harness.cli", *words, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "answers" / "none.npz").is_file()


@pytest.mark.slow
def test_files_and_patches_that_are_there_are_run_reported_judged_and_looked_into(
    python: Python, tmp_path: Path
) -> None:
    data = ROOT / "benchmarks" / "baselines"
    for words in (
        ("run", write(tmp_path, BROUGHT), "--data", data),
        ("report", "out/brought"),
        ("baseline", "out/brought", "-o", "base.json"),
        ("gate", "base.json", "out/brought"),
        ("inspect", data / "demo" / "resnet8.onnx"),
        ("inspect", data / "demo" / "resnet8.tflite"),
    ):
        done = python("-m", "harness.cli", *words, cwd=tmp_path)
        assert done.returncode == 0, done.stdout + done.stderr
    checks = json.loads((tmp_path / "out" / "brought" / "run.json").read_text())["checks"]
    (arithmetic,) = [check for check in checks if check["name"] == "arithmetic"]
    assert "patchbench[craft]" in json.dumps(arithmetic)


def test_a_suite_that_makes_networks_says_what_to_install(python: Python, tmp_path: Path) -> None:
    suite = write(tmp_path, QUICK)
    done = python("-m", "harness.cli", "run", suite, cwd=tmp_path)
    assert done.stderr == f"error: {suite}: {NO_TORCH}\n"
    assert done.returncode == 2
    assert "train" not in done.stdout


def test_a_suite_that_ships_is_called_by_its_name(python: Python, tmp_path: Path) -> None:
    done = python("-m", "harness.cli", "run", "demo", cwd=tmp_path)
    assert done.stderr == f"error: suite demo: {NO_TORCH}\n"


def test_a_command_that_needs_a_package_says_which_extra_has_it(python: Python, tmp_path: Path) -> None:
    done = python("-m", "harness.cli", "train", write(tmp_path, QUICK), "--into", "weights", cwd=tmp_path)
    assert done.stderr == f"error: {NO_TORCH}\n"
    assert done.returncode == 2


def test_each_package_is_in_the_extra_that_the_error_names() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for module, extra in EXTRAS.items():
        wanted = list(map(Requirement, extras[extra]))
        own = [
            Requirement(line) for one in wanted if one.name == "patchbench" for e in one.extras for line in extras[e]
        ]
        brings_others = {"flatbuffers": "ai-edge-litert"}
        assert brings_others.get(module, canonicalize_name(module)) in {one.name for one in wanted + own}

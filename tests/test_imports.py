"""Who may import whom: the rules of the README's architecture, as data, and checked on every file."""

import ast
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest
from helpers import tiny

ROOT = Path(__file__).parents[1]
OURS = ("backends", "exporters", "harness", "patches")

# From the ground up: a folder, or a module beside folders, imports only what stands above it in this list. A tuple's
# entries know nothing of each other.
FLOORS = [
    "backends",
    "exporters",
    "patches",
    (
        "harness.console",
        "harness.data_frames",
        "harness.display",
        "harness.extras",
        "harness.shipped",
        "harness.tables",
        "harness.torchvision_import",
    ),
    "harness.archives",
    "harness.shared_store",
    "harness.store",
    "harness.sealed",
    "harness.config",
    "harness.data",
    "harness.networks",
    "harness.plan",
    "harness.results",
    "harness.report",
    "harness.run",
    "harness.gate",
    "harness.finished",
    "harness.study",
    "harness.cli",
    "harness.api",
]
# What may be imported of third parties, by folder; others may import any.
THIRD_PARTIES = {
    "backends.device": {"numpy", "PIL"},
    "backends": {"numpy", "filelock", "packaging", "pydantic"},
    "harness.results": {"numpy", "pandas", "pyarrow", "pydantic", "scipy"},
    "harness.report": {"numpy", "pandas", "matplotlib", "jinja2", "markupsafe", "rich", "PIL"},
    "harness.gate": {"numpy", "pandas", "pydantic", "rich", "matplotlib"},
    "harness.finished": {"numpy", "pandas", "pydantic", "rich", "markupsafe"},
}
# What each runtime's file may import, inside functions.
PACKAGES = {"onnxruntime": {"onnxruntime"}, "litert": {"ai_edge_litert"}, "reference": {"onnx"}}
PACKAGES |= {"tflite_runtime": {"tflite_runtime"}, "tensorflow": {"tensorflow"}, "tflite_micro": {"tflite_micro"}}
PACKAGES |= {"openvino": {"openvino"}, "tosa": {"tosa_converter_for_tflite", "tosa_reference_model"}}
PACKAGES |= {"qnn": {"onnx", "onnxruntime", "onnxruntime_qnn"}}
PACKAGES |= {"executorch": {"executorch", "torch"}, "tpu_mlir": {"pymlir"}}
PACKAGES |= {"rknn": {"rknn", "ruamel"}, "nncase": {"_nncase"}, "esp_ppq": {"esp_ppq", "torch"}}
PACKAGES |= {"rknn_lite": {"rknnlite"}, "sail": {"sophon"}}
# Modules that import quickly, whatever they lead to: the command line, a run with nothing to do, and all judging.
LIGHT = [
    "plan.plan", "run.run", "cli.app", "config", "store", "results.records", "results.metrics", "results.stats",
    "results.checks", "gate.judge", "gate.history", "api.patchbench",
]  # fmt: skip
HEAVY = {"torch", "torchvision", "onnx", "onnxruntime", "litert_torch", "ai_edge_quantizer", "ai_edge_litert", "jax"}
# What a device may not have; one that lacks them gives the same results.
BLOCKED = ["torch", "torchvision", "pandas", "pydantic", "scipy", "PIL", "harness", "exporters", "patches"]
BLOCKED += ["backends.hosts", "backends.answers", "backends.events", "backends.conversation", "backends.query_client"]

FILES = sorted(str(p.relative_to(ROOT)) for package in OURS for p in (ROOT / package).rglob("*.py"))


def is_module(name: str) -> bool:
    path = ROOT.joinpath(*name.split("."))
    return path.is_dir() or path.with_suffix(".py").is_file()


def imports(tree: ast.AST, inside: bool = False) -> Iterator[tuple[str, bool]]:
    """Every imported module of a file, and whether that is inside a function."""
    for node in ast.iter_child_nodes(tree):
        function = inside or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        if isinstance(node, ast.Import):
            yield from ((alias.name, inside) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports are not used here"
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                yield (full if is_module(full) else str(node.module)), inside
        elif isinstance(node, ast.Call) and getattr(node.func, "attr", getattr(node.func, "id", "")) in (
            "import_module",
            "__import__",
        ):
            if isinstance(node.args[0], ast.Constant):
                yield node.args[0].value, inside
            yield from imports(node, function)
        else:
            yield from imports(node, function)


def module(file: str) -> str:
    return file.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def within(name: str, folder: str) -> bool:
    return name == folder or name.startswith(f"{folder}.")


def floor(name: str) -> tuple[int, str]:
    """A module's floor, and the entry of `FLOORS` that it belongs to."""
    for number, entries in enumerate(FLOORS):
        for entry in (entries,) if isinstance(entries, str) else entries:
            if within(name, entry):
                return number, entry
    raise AssertionError(f"{name} has no place in FLOORS")


def faults(file: str, source: str) -> list[str]:
    """What a file imports against the rules."""
    name = module(file)
    found = []
    for imported, inside in imports(ast.parse(source)):
        if imported.partition(".")[0] in OURS:
            allowed = may_import(name, imported)
        else:
            allowed = may_use(name, imported.partition(".")[0], inside)
        if not allowed:
            found.append(imported)
    return found


def may_import(name: str, imported: str) -> bool:
    if within(name, "backends.device"):
        return within(imported, "backends.device")
    if imported in ("harness", "backends", "exporters", "patches") or name == "harness":
        return True  # the package itself, which imports nothing
    (own, entry), (other, other_entry) = floor(name), floor(imported)
    return other < own or other_entry == entry


def may_use(name: str, package: str, inside: bool) -> bool:
    if package in sys.stdlib_module_names:
        return True
    runtime = name.removeprefix("backends.device.runtimes.")
    if inside and package in PACKAGES.get(runtime, ()):
        return True
    folder = next((folder for folder in THIRD_PARTIES if within(name, folder)), None)
    return folder is None or package in THIRD_PARTIES[folder]


@pytest.mark.parametrize("file", FILES)
def test_a_file_imports_only_what_it_may(file):
    assert faults(file, (ROOT / file).read_text()) == []


def test_no_modules_import_each_other_in_a_circle():
    """Imports inside functions count too: they delay a heavy package, and never hide a circle."""
    graph = {}
    for file in FILES:
        names = {imported for imported, _ in imports(ast.parse((ROOT / file).read_text()))}
        graph[module(file)] = names - {module(file)}
    TopologicalSorter(graph).prepare()  # a CycleError names the circle


@pytest.mark.parametrize(
    ("file", "source", "fault"),
    [
        ("backends/device/replay.py", "import torch", "torch"),
        ("backends/device/replay.py", "def f():\n    from harness import store", "harness.store"),
        ("backends/device/bundle.py", "from backends.hosts import Target", "backends.hosts"),
        ("backends/device/runtimes/litert.py", "import ai_edge_litert", "ai_edge_litert"),
        ("backends/device/runtimes/litert.py", "def f():\n    import onnxruntime", "onnxruntime"),
        ("backends/hosts/local.py", "import pandas", "pandas"),
        ("exporters/tflite.py", "from patches.placement import corners", "patches.placement"),
        ("exporters/tflite.py", "f = lambda: import_module('patches.craft')", "patches.craft"),
        ("patches/attacks/gap.py", "class A:\n    def f(self):\n        import harness.store", "harness.store"),
        ("harness/results/metrics.py", "if True:\n    import torch.nn", "torch.nn"),
        ("harness/data/datasets.py", "from harness.networks import victims", "harness.networks.victims"),
        ("harness/plan/plan.py", "def f():\n    from harness.run import stages", "harness.run.stages"),
    ],
)
def test_the_rules_find_what_breaks_them(file, source, fault):
    assert faults(file, source) == [fault]


@pytest.mark.parametrize("name", LIGHT)
def test_what_must_start_quickly_loads_nothing_heavy(name):
    script = f"import json, sys, harness.{name}; print(json.dumps(sorted(sys.modules)))"
    command = [sys.executable, "-c", script]
    environ = os.environ | {"PYTHONPATH": str(ROOT / "harness" / "api")}
    said = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT, env=environ).stdout
    assert set(json.loads(said)) & HEAVY == set()


@pytest.mark.parametrize(("runtime", "kind"), [("onnxruntime", "onnx"), ("litert", "tflite")])
def test_the_device_side_runs_without_all_the_rest(tmp_path, runtime, kind):
    bundle = tiny.bundle(tmp_path / "bundle", getattr(tiny, f"{kind}_file")(tmp_path / f"tiny.{kind}"))
    script = (
        "import atexit, json, runpy, sys\n"
        f"sys.modules.update(dict.fromkeys({[b for b in BLOCKED if b != runtime]!r}))\n"
        "modules = sys.argv.pop()\n"
        "atexit.register(lambda: open(modules, 'w').write(json.dumps([n for n, m in sys.modules.items() if m])))\n"
        "runpy.run_module('backends.device.replay', run_name='__main__', alter_sys=True)\n"
    )
    request = {"schema": 1, "runtime": runtime, "options": {}, "cases": ["none", "each"]}
    said = subprocess.run(
        [sys.executable, "-c", script, str(bundle.root), str(tmp_path / "out"), str(tmp_path / "modules")],
        input=json.dumps(request | {"latency": {"warmup": 1, "runs": 2, "seconds": 0}}),
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert said.returncode == 0, said.stderr
    events = [json.loads(line)["event"] for line in said.stdout.splitlines()]
    assert [e for e in events if e != "progress"] == ["loaded", "case", "case", "latency", "end"]
    loaded = {name.partition(".")[0] for name in json.loads((tmp_path / "modules").read_text())}
    third_parties = {name for name in loaded - set(sys.stdlib_module_names) if not name.startswith("_")}
    assert third_parties - {"backends", "numpy", *PACKAGES[runtime]} == set()

"""Who may import whom: the rules of the README's architecture, as data, and checked on every file."""

import ast
import fnmatch
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import tiny

ROOT = Path(__file__).parents[1]
OURS = ("backends", "exporters", "harness", "patches")

ANY = None
STATISTICS = {"numpy", "pandas", "pyarrow", "scipy", "sklearn", "matplotlib", "jinja2", "markupsafe", "rich", "PIL"}
# Files, what of ours they may import (with all below it), and which third parties; the first line that fits holds.
RULES = [
    ("backends/device/runtimes/*", ["backends.device"], {"numpy"}),  # and the runtime itself, inside functions
    ("backends/device/defences.py", ["backends.device"], {"numpy", "PIL"}),  # Pillow inside a function
    ("backends/device/*", ["backends.device"], {"numpy"}),
    ("backends/environments.py", ["backends"], {"filelock"}),
    ("backends/conformance/*", ["backends"], {"numpy"}),
    ("backends/session.py", ["backends"], {"numpy"}),
    ("backends/*", ["backends"], set()),
    ("patches/*", ["patches", "harness.schema", "harness.calibration", "exporters.files", "exporters.ranges"], ANY),
    (
        "exporters/files/tflite.py",
        ["exporters", "harness.schema", "backends.device.delegates"],  # both sides tell what XNNPACK took
        ANY,
    ),
    ("exporters/*", ["exporters", "harness.schema", "harness.calibration"], ANY),
    ("harness/plan.py", [*OURS], ANY),
    ("harness/cases.py", [*OURS], ANY),
    ("harness/surrogates.py", [*OURS], ANY),
    ("harness/crafting.py", [*OURS], ANY),
    ("harness/run.py", [*OURS], ANY),
    ("harness/cli.py", [*OURS], ANY),
    ("harness/options.py", [], {"typer"}),
    ("harness/verbs.py", [*OURS], ANY),
    ("harness/twins.py", [*OURS], ANY),  # the verb `twin`
    ("harness/qat.py", ["harness", "patches.fake_quant"], ANY),  # a training, of what surrogates and exports share
    ("harness/stages.py", [*OURS], ANY),  # the stages of run.py, which imports them when one has to be done
    ("harness/black_box.py", [*OURS], ANY),  # a stage of run.py that asks a target
    ("harness/replays.py", ["harness", "backends"], ANY),  # its other half: what runs on targets
    ("harness/steps.py", ["harness", "backends.device", "backends.hosts"], ANY),  # the words of plan.py
    ("harness/schema.py", [f"backends.device.{name}" for name in ("artifact", "defences", "errors")], {"numpy"}),
    ("harness/config.py", ["harness.schema", "harness.toml", "harness.study.settings"], {"pydantic"}),
    ("harness/toml.py", ["harness.schema", "backends.device.errors"], {"pydantic"}),
    ("harness/study/settings.py", ["harness.toml"], {"pydantic"}),
    ("harness/study/*", [*OURS], ANY),  # analyses: they look into networks, files and devices alike
    ("harness/records.py", ["harness", "backends.device"], STATISTICS),
    ("harness/metrics.py", ["harness", "backends.device"], STATISTICS),
    ("harness/stats.py", ["harness", "backends.device"], STATISTICS),
    ("harness/checks.py", ["harness", "backends.device"], STATISTICS),
    ("harness/agreement.py", [], {"numpy"}),
    ("harness/fleet.py", [], set()),
    ("harness/gate/rules.py", ["harness", "backends.device"], {"pydantic"}),
    ("harness/gate/*", ["harness", "backends.device"], STATISTICS),
    *(
        (f"harness/{name}.py", ["harness", "backends.device"], STATISTICS)
        for name in ("outcomes", "intervals", "gap", "paired")
    ),
    *((f"harness/{name}.py", ["harness", "backends.device"], STATISTICS) for name in ("baseline", "history")),
    ("harness/again.py", ["harness", "backends.device", "backends.hosts"], ANY),  # one more stage of run.py
    ("harness/report/*", ["harness", "backends.device"], STATISTICS),
    ("harness/*", ["harness", "backends.device"], ANY),
]
# What each runtime's file may import, inside functions.
PACKAGES = {"onnxruntime": {"onnxruntime"}, "litert": {"ai_edge_litert"}, "reference": {"onnx"}}
PACKAGES |= {"tflite_runtime": {"tflite_runtime"}, "tensorflow": {"tensorflow"}}
# Modules that import quickly, whatever they lead to: the command line, a run with nothing to do, and all judging.
LIGHT = ["plan", "run", "cli", "config", "store", "records", "metrics", "stats", "checks", "gate", "history"]
HEAVY = {"torch", "torchvision", "onnx", "onnxruntime", "litert_torch", "ai_edge_quantizer", "ai_edge_litert", "jax"}
# What a device may not have; one that lacks them gives the same results.
BLOCKED = ["torch", "torchvision", "pandas", "pydantic", "scipy", "PIL", "harness", "exporters", "patches"]
BLOCKED += ["backends.hosts", "backends.watch", "backends.session"]

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


def faults(file: str, source: str) -> list[str]:
    """What a file imports against the rules."""
    ours, third_parties = next(rule[1:] for rule in RULES if fnmatch.fnmatch(file, rule[0]))
    found = []
    for name, inside in imports(ast.parse(source)):
        top = name.partition(".")[0]
        if top in OURS:
            allowed = any(name == one or name.startswith(f"{one}.") for one in ours) or name == "backends" in ours[0]
        elif top in sys.stdlib_module_names or third_parties is ANY or top in third_parties:
            allowed = True
        else:
            allowed = (
                inside and file.startswith("backends/device/runtimes/") and top in PACKAGES.get(Path(file).stem, ())
            )
        if not allowed:
            found.append(name)
    return found


@pytest.mark.parametrize("file", FILES)
def test_a_file_imports_only_what_it_may(file):
    assert faults(file, (ROOT / file).read_text()) == []


@pytest.mark.parametrize(
    ("file", "source", "fault"),
    [
        ("backends/device/replay.py", "import torch", "torch"),
        ("backends/device/replay.py", "def f():\n    from harness import schema", "harness.schema"),
        ("backends/device/bundle.py", "from backends.hosts import Target", "backends.hosts"),
        ("backends/device/runtimes/litert.py", "import ai_edge_litert", "ai_edge_litert"),
        ("backends/device/runtimes/litert.py", "def f():\n    import onnxruntime", "onnxruntime"),
        ("backends/hosts/local.py", "import numpy", "numpy"),
        ("patches/attacks/gap.py", "from exporters import onnx_qdq", "exporters.onnx_qdq"),
        ("patches/attacks/gap.py", "class A:\n    def f(self):\n        import backends.device", "backends.device"),
        ("exporters/tflite.py", "from patches.placement import place", "patches.placement"),
        ("exporters/tflite.py", "f = lambda: import_module('patches')", "patches"),
        ("harness/metrics.py", "if True:\n    import torch.nn", "torch.nn"),
        ("harness/data.py", "import patches", "patches"),
    ],
)
def test_the_rules_find_what_breaks_them(file, source, fault):
    assert faults(file, source) == [fault]


@pytest.mark.parametrize("module", [m for m in LIGHT if {f"harness/{m}.py", f"harness/{m}/__init__.py"} & {*FILES}])
def test_what_must_start_quickly_loads_nothing_heavy(module):
    script = f"import json, sys, harness.{module}; print(json.dumps(sorted(sys.modules)))"
    said = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT).stdout
    assert set(json.loads(said)) & (HEAVY | {"exporters", "patches"}) == set()


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

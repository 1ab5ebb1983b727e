"""The package that users import: what it holds, and what it needs."""

import ast
import subprocess
import sys

import patchbench
from helpers import ROOT, tiny
from helpers.command import environ

PACKAGE = ROOT / "harness" / "api" / "patchbench"


def test_the_package_only_collects_names_and_lists_each():
    _, guard, *statements = ast.parse((PACKAGE / "__init__.py").read_text()).body
    assert ast.unparse(guard) == "import patchbench_packages.ours"
    assert {type(statement) for statement in statements} == {ast.ImportFrom, ast.Assign}
    imported = {alias.asname or alias.name for s in statements if isinstance(s, ast.ImportFrom) for alias in s.names}
    assert imported == set(patchbench.__all__)


def test_everything_public_says_what_it_is():
    assert [name for name in patchbench.__all__ if not getattr(patchbench, name).__doc__] == []


def test_packages_say_that_they_are_typed():
    folders = [PACKAGE, *(ROOT / name for name in ("backends", "exporters", "patches", "harness"))]
    assert [folder for folder in folders if not (folder / "py.typed").is_file()] == []


def test_files_are_inspected_and_replayed_where_there_is_no_torch(tmp_path):
    file = tiny.onnx_file(tmp_path / "tiny.onnx")
    script = (
        "import sys\n"
        "sys.modules.update(dict.fromkeys(['torch', 'torchvision', 'litert_torch']))\n"
        "import numpy as np, patchbench\n"
        f"print(patchbench.inspect({str(file)!r}).format)\n"
        f"images = np.zeros((3, {tiny.SIZE}, {tiny.SIZE}, 3), np.uint8)\n"
        f"print(patchbench.replay({str(file)!r}, images, 'onnxruntime', timed_runs=0).logits.shape)\n"
        f"patchbench.craft({str(file)!r}, images, [0, 1, 2], px=2)\n"
    )
    path = str(PACKAGE.parent)
    said = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, cwd=tmp_path, env=environ(PYTHONPATH=path)
    )
    assert "UserError: torch is not installed: pip install 'patchbench[craft]' --extra-index-url https" in said.stderr
    assert said.stdout.split() == ["onnx", "(3,", f"{tiny.CLASSES})"]

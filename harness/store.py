"""Where results live: a folder for each stage's result, under the hash of everything that went into it.

A result is written beside its place and renamed, so it is there whole or not at all, and a killed run goes on where it
was. The hash covers the stage's inputs, the versions of the packages that do the work, and the code (docstrings and
comments apart), so nothing stale is ever reused.
"""

from __future__ import annotations

import ast
import hashlib
import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, is_dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from backends.device.files import replacing

ROOT = Path(__file__).parent.parent
PACKAGES = {
    "data": ("pillow", "scikit-learn"),
    "victim": ("torch", "torchvision"),
    "artifact": ("torch", "torchvision", "onnx", "onnxscript", "onnxruntime", "litert-torch", "ai-edge-quantizer"),
    "patch": ("torch", "numpy"),
    "torch": ("torch",),
    "simulated": ("torch", "onnxruntime"),
    "qat": ("torch", "onnxruntime"),
    "defence": ("pillow",),
    "study": ("torch", "numpy", "scipy"),
}
# The folders whose code decides a result: a module that is added to one counts at once.
NETWORKS = ("harness/data", "harness/networks")
CODE = {
    "data": ("harness/data",),
    "victim": NETWORKS,
    "artifact": (*NETWORKS, "exporters"),
    "patch": (*NETWORKS, "exporters", "patches"),
    "torch": (*NETWORKS, "backends/device"),
    "simulated": (*NETWORKS, "exporters", "patches"),
    "qat": (*NETWORKS, "exporters", "patches"),
    "case": ("backends/device", "patches"),
    "bundle": ("backends/device",),
    "defence": ("backends/device",),
    "replay": ("backends/device",),
    "latency": ("backends/device",),
    "again": ("backends/device", "harness/run"),
    "study": (*NETWORKS, "backends/device", "exporters", "patches", "harness/results", "harness/run", "harness/study"),
    "report": ("harness/results", "harness/report", "harness/run"),
}


def key(stage: str, **inputs: object) -> str:
    """Hex digest (32 digits) of a stage's inputs, its packages' versions and its code."""
    family = stage.partition("-")[0]  # each analysis of the study is a stage of its own
    versions = {name: _version(name) for name in PACKAGES.get(family, ())}
    whole = {"stage": stage, "inputs": inputs, "versions": versions, "code": code_digest(*CODE.get(family, ()))}
    return hashlib.sha256(json.dumps(whole, sort_keys=True, default=_plain).encode()).hexdigest()[:32]


@cache
def code_digest(*paths: str) -> str:
    """Digest of the source under some paths of this project, blind to comments and docstrings."""
    digest = hashlib.sha256()
    for path in paths:
        files = sorted((ROOT / path).rglob("*")) if (ROOT / path).is_dir() else [ROOT / path]
        for file in files:
            if file.suffix == ".py":
                digest.update(ast.dump(_without_docstrings(ast.parse(file.read_bytes()))).encode())
            elif file.suffix in (".html", ".css", ".js"):
                digest.update(file.read_bytes())
    return digest.hexdigest()


class Store:
    """Results on disk, ``ROOT/STAGE/KEY/``."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.scratch = root / "unfinished"  # nobody else's: the run directory is held
        shutil.rmtree(self.scratch, ignore_errors=True)
        self.scratch.mkdir(parents=True)

    def path(self, stage: str, key: str) -> Path:
        """Where a result is, or will be."""
        return self.root / stage / key

    def has(self, stage: str, key: str) -> bool:
        """Whether a result is there, whole."""
        return self.path(stage, key).is_dir()

    @contextmanager
    def writing(self, stage: str, key: str) -> Iterator[Path]:
        """A folder to fill; it becomes the result when the block ends well and vanishes when it does not."""
        folder = Path(tempfile.mkdtemp(prefix=f"{stage}-", dir=self.scratch))
        try:
            yield folder
            place = self.path(stage, key)
            place.parent.mkdir(parents=True, exist_ok=True)
            folder.chmod(0o755)
            folder.rename(place)
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def write_json(path: Path, content: Mapping[str, object]) -> None:
    """Write JSON, whole or not at all."""
    write_text(path, json.dumps(content, indent=1, default=_plain) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write text, whole or not at all."""
    with replacing(path) as draft:
        draft.write_text(text)


def place(source: Path, into: Path) -> None:
    """Copy a stored file to where a user looks for it: nothing done to the copy reaches the store."""
    into.parent.mkdir(parents=True, exist_ok=True)
    with replacing(into) as draft:
        shutil.copy2(source, draft)


def _plain(value: object) -> object:
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    if hasattr(value, "model_dump"):
        return value.model_dump()
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{type(value).__name__} has no place in a key")


@cache
def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "absent"


def _without_docstrings(tree: ast.AST) -> ast.AST:
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0] if node.body else None
            if (
                isinstance(first, ast.Expr)
                and isinstance(first.value, ast.Constant)
                and isinstance(first.value.value, str)
            ):
                node.body = node.body[1:] or [ast.Pass()]
    return tree

"""The store: one folder per stage result, named by a hash of everything that went into it.

A result is written to a temporary folder and renamed, so that it is complete or absent and a killed run continues where
it stopped. The hash covers the stage's inputs, the versions of the packages that do the work, and the code without
docstrings and comments, so that nothing stale is reused; nothing damaged is either, for the hashes of a result's files
lie beside them.
"""

from __future__ import annotations

import ast
import hashlib
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, is_dataclass, replace
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from backends.device.checksums import SUMS, verify, write_sums
from backends.device.errors import NotWritten, UserError
from backends.device.files import disk_errors_at, replacing
from backends.device.reading import DamagedFile
from harness.shared_store import SharedStore

ROOT = Path(__file__).parent.parent
TOOK = "took.json"  # in the folder of a result
LONG = 1000  # values of a list in JSON that is still indented
UNLIMITED = sys.maxsize  # bytes of a file that we wrote: all images of a data set may be many
PACKAGES = {
    "data": ("pillow", "scikit-learn"),
    "victim": ("torch", "torchvision"),
    "artifact": ("torch", "torchvision", "onnx", "onnxscript", "onnxruntime", "litert-torch", "ai-edge-quantizer"),
    "patch": ("torch", "numpy"),
    "torch": ("torch",),
    "arithmetic": ("torch", "numpy"),
    "twin": ("torch", "numpy", "onnxruntime", "ai-edge-litert"),
    "simulated": ("torch", "onnxruntime"),
    "qat": ("torch", "onnxruntime"),
    "defence": ("pillow",),
    "study": ("torch", "numpy", "scipy"),
}
# The folders whose code decides a result; a module added to one changes the hash. Every stage runs in harness/run.
NETWORKS = ("harness/run", "harness/data", "harness/networks")
CODE = {
    "data": ("harness/run", "harness/data"),
    "victim": (*NETWORKS, "patches/training_defences"),
    "artifact": (*NETWORKS, "exporters"),
    "patch": (*NETWORKS, "exporters", "patches"),
    "torch": (*NETWORKS, "backends/device"),
    "simulated": (*NETWORKS, "exporters", "patches"),
    "qat": (*NETWORKS, "exporters", "patches"),
    "case": ("backends/device", "patches"),
    "bundle": ("harness/run", "backends/device"),
    "defence": ("backends/device",),
    "replay": ("harness/run", "backends/device"),
    "latency": ("harness/run", "backends/device"),
    "probe": ("harness/run", "backends/device"),
    "begins": ("harness/run", "backends/device", "exporters", "harness/results"),
    "arithmetic": (*NETWORKS, "exporters", "patches", "harness/results"),
    "twin": (*NETWORKS, "backends/device", "exporters", "patches", "harness/results"),
    "study": (*NETWORKS, "backends/device", "exporters", "patches", "harness/results", "harness/study"),
    "report": ("harness/run", "harness/results", "harness/report"),
}


def key(stage: str, **inputs: object) -> str:
    """Return the hash (32 hex digits) of a stage's inputs, package versions and code."""
    family = stage.partition("-")[0]  # each analysis of the study is a stage of its own
    everything = {
        "stage": stage,
        "inputs": inputs,
        "versions": {name: version_of(name) for name in PACKAGES.get(family, ())},
        "code": code_digest(*CODE.get(family, ())),
    }
    return hashlib.sha256(json.dumps(everything, sort_keys=True, default=_plain).encode()).hexdigest()[:32]


@cache
def code_digest(*paths: str) -> str:
    """Return a digest of the source under some paths of this project, without comments and docstrings."""
    digest = hashlib.sha256()
    for path in paths:
        files = sorted((ROOT / path).rglob("*")) if (ROOT / path).is_dir() else [ROOT / path]
        for file in files:
            digest.update(_file_digest(file))
    return digest.hexdigest()


@cache
def _file_digest(file: Path) -> bytes:
    """Return a digest of a file that decides results; empty for any other."""
    if file.suffix == ".py":
        return hashlib.sha256(ast.dump(_without_docstrings(ast.parse(file.read_bytes()))).encode()).digest()
    return hashlib.sha256(file.read_bytes()).digest() if file.suffix in (".html", ".css", ".js") else b""


@dataclass(frozen=True)
class Took:
    """How long a result took: what was done to what, and to how many images; without ``seconds``, as it was written."""

    verb: str
    what: str
    seconds: float | None = None
    images: int = 0


class Store:
    """Results on disk: ``ROOT/STAGE/KEY/``. ``warn`` is called with a line about a damaged one.

    What a killed run left half written is removed, unless another process holds the run: ``clear`` is False there.
    """

    def __init__(self, root: Path, warn: Callable[[str], None], clear: bool = True) -> None:
        self.root = root
        self.shared: SharedStore | None = None  # asked for what is not here, and given what is new
        self._warn = warn
        self._verified: set[Path] = set()
        self.scratch = root / "unfinished"  # of the run that holds a lock on its directory, and of its workers
        if clear:
            self.clear()
        self.scratch.mkdir(parents=True, exist_ok=True)

    def clear(self) -> None:
        """Remove what was left half written; nobody else may write."""
        shutil.rmtree(self.scratch, ignore_errors=True)
        self.scratch.mkdir(parents=True)

    def path(self, stage: str, key: str) -> Path:
        """Return the folder of a result, which may not exist yet."""
        return self.root / stage / key

    def has(self, stage: str, key: str) -> bool:
        """Whether a result exists, undamaged: a damaged one is removed. Each is verified once."""
        if self.path(stage, key) in self._verified or self._is_whole(stage, key):
            return True
        try:
            return self.fetch(stage, key)
        except NotWritten:  # our own disk is full
            raise
        except UserError as error:
            self._go_on_alone(error)
            return False

    def fetch(self, stage: str, key: str) -> bool:
        """Take a result from the shared store; return whether there was one."""
        shared = self.shared  # another thread may lose it
        if not shared or not shared.lists(stage, key):
            return False
        with self._draft(stage) as folder:
            if not shared.fetch(stage, key, folder):
                return False
            self._settle(folder, self.path(stage, key))
        return True

    def offer(self, stage: str, key: str) -> None:
        """Give a result to the shared store, if that lacks it."""
        shared = self.shared
        try:
            if shared and not shared.lists(stage, key) and self._is_whole(stage, key):
                shared.put(stage, key, self.path(stage, key), self.scratch)
        except NotWritten:
            raise
        except UserError as error:
            self._go_on_alone(error)

    @contextmanager
    def writing(self, stage: str, key: str, took: Took | None = None) -> Iterator[Path]:
        """Give a folder to fill; it becomes the result if the block succeeds and is removed if it fails.

        How long it took lies beside it, so that a plan can say how long the same will take.
        """
        begun = time.monotonic()
        place = self.path(stage, key)
        with self._draft(stage) as folder, disk_errors_at(place, folder):
            yield folder
            if took:
                seconds = time.monotonic() - begun if took.seconds is None else took.seconds
                write_json(folder / TOOK, asdict(replace(took, seconds=seconds)))
            if not (folder / SUMS).exists():  # a bundle brings its own
                write_sums(folder)
            self._settle(folder, place)
        self.offer(stage, key)

    @contextmanager
    def _draft(self, stage: str) -> Iterator[Path]:
        folder = Path(tempfile.mkdtemp(prefix=f"{stage}-", dir=self.scratch))
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _settle(self, folder: Path, place: Path) -> None:
        """Let a folder that is whole be a result."""
        place.parent.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o755)
        try:
            folder.rename(place)
        except OSError:
            if not place.is_dir():  # else another worker was first, with the same result
                raise
        self._verified.add(place)

    def _is_whole(self, stage: str, key: str) -> bool:
        folder = self.path(stage, key)
        if folder not in self._verified and folder.is_dir():
            try:
                verify(folder, "made again", most=UNLIMITED)
                self._verified.add(folder)
            except DamagedFile as error:
                self._warn(str(error))
                shutil.rmtree(folder)
        return folder in self._verified

    def _go_on_alone(self, error: UserError) -> None:
        """Say that the shared store fails, and ask it no more: what is made stays here, and is offered next time."""
        if self.shared:
            self.shared = None
            self._warn(f"{error}; this run goes on without it, the next one uploads what it lacks")


def write_json(path: Path, content: Mapping[str, object]) -> None:
    """Write JSON, whole or not at all: indented, but long lists with a line for each of their values."""
    lines = ",\n".join(f" {json.dumps(name)}: {_indented(value)}" for name, value in content.items())
    write_text(path, f"{{\n{lines}\n}}\n" if content else "{}\n")


def _indented(value: object) -> str:
    """Return the JSON of a value of the first level; indented, a cell takes ten times as long."""
    if isinstance(value, list | tuple) and len(value) > LONG:
        rows = ",\n  ".join(map(json.JSONEncoder(default=_plain).encode, value))
        return f"[\n  {rows}\n ]"
    return json.dumps(value, indent=1, default=_plain).replace("\n", "\n ")


def write_text(path: Path, text: str) -> None:
    """Write text, whole or not at all."""
    with replacing(path) as draft:
        draft.write_text(text)


def place(source: Path, into: Path) -> None:
    """Copy a stored file to where a user looks for it: nothing done to the copy reaches the store."""
    with replacing(into) as draft:
        shutil.copy2(source, draft)


def _plain(value: object) -> object:
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    if hasattr(value, "model_dump"):
        return value.model_dump()
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{type(value).__name__} cannot be part of a key")


@cache
def version_of(package: str) -> str:
    """Return the version of a package, ``absent`` where it is not installed."""
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

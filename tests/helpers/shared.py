"""Run directories that share a store, and a result of two files."""

from pathlib import Path

from harness import shared_store
from harness.shared_store import SharedStore
from harness.store import Store

HERE = {"CPU": "this one"}
FILES = {"numbers.npz": bytes(range(256)) * 400, "inside/words": b"as they were"}


class Runs:
    """Stores of run directories that share one; ``said`` are their warnings."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder, self.url = folder, url
        self.said: list[str] = []
        self._count = 0

    def new(self, machine: dict[str, str] = HERE) -> Store:
        self._count += 1
        made = Store(self.folder / f"run{self._count}", self.said.append)
        made.shared = SharedStore(shared_store.read(self.url), machine, self.said.append)
        made.shared.introduce()
        return made


def make(results: Store, files: dict[str, bytes] = FILES, key: str = "k") -> None:
    with results.writing("patch", key) as folder:
        for name, content in files.items():
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_bytes(content)


def holds(results: Store, key: str = "k") -> dict[str, bytes]:
    root = results.path("patch", key)
    found = {path.relative_to(root).as_posix(): path for path in root.rglob("*") if path.is_file()}
    return {name: path.read_bytes() for name, path in found.items() if name != "SHA256SUMS"}

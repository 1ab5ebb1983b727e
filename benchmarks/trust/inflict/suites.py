"""Hostile suites: code that ends the process, and words that would become a path, a requirement or an argument."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from campaign import SUITE, patchbench
from inflict.site import Fault, Observed, Site, both

OFFLINE = {"PIP_INDEX_URL": "http://127.0.0.1:9/", "PIP_RETRIES": "0", "PIP_NO_INPUT": "1"}
NEVER_ZERO = (1, 2, 3)
CACHE = "a/b/c/cache"
SHOWN = 40  # characters of a word in the table
MODULES = {
    "sys.exit(0) at import": "import sys\nsys.exit(0)\n",
    "sys.exit(0) when called": "import sys\ndef make_network():\n    sys.exit(0)\n",
    "sys.exit() in a layer": """
import sys
from torch import nn
class Leaves(nn.Flatten):
    def forward(self, x):
        sys.exit()
def make_network():
    return nn.Sequential(Leaves(), nn.Linear(3072, 10))
""",
    "exception at import": "raise RuntimeError('broken')\n",
    "exception when called": "def make_network():\n    raise ValueError('broken')\n",
    "endless recursion": "def make_network():\n    return make_network()\n",
    "no network": "def make_network():\n    return 'no network'\n",
}
LONG = "n" * 300
WORDS = {
    "version": [
        "/../../../harm", "../../../../harm", "1==2", "1; python_version > '3'", "1 @ http://127.0.0.1:9/x.whl",
        "-r harm", "$(touch harm)", "`touch harm`", "1\n2", "1 --index-url http://127.0.0.1:9", "", " ", "\u0000", LONG,
    ],
    "host": ["__init__", "../ssh", "local.py", "os", "", LONG],
    "runtime": ["__init__", "../dummy", "os", "", "a.b", LONG],
    "name": ["../harm", "/harm", "", ".", "a/b", "-rf", LONG, "\u0000"],
    "arch": ["../harm", "$(touch harm)", LONG],
    "image": ["../harm", "--privileged", "$(touch harm)"],
    "address": ["-oProxyCommand=touch harm", "$(touch harm)", ""],
}  # fmt: skip
HOSTS = {"image": 'host = "docker"\n', "address": 'host = "ssh"\n', "arch": 'host = "qemu"\n'}
HARMLESS = {("version", ""), ("version", " "), ("name", LONG)}  # none asked for; in no path


def users_module(site: Site, source: str) -> Iterator[Observed]:
    """A module of the user's ends the process, where an old run's results lie; they must not pass for new ones."""
    (site.folder / "hostile.py").write_text(source)
    suite = SUITE.read_text().replace('model = "resnet8"', 'model = "hostile:make_network"\ninput_size = [32, 32]')
    (site.folder / "suite.toml").write_text(suite)
    run_dir = site.run_before("train")
    (run_dir / "run.json").write_bytes((site.whole / "run.json").read_bytes())
    ended = patchbench("run", "suite.toml", "--out", run_dir, folder=site.folder)
    yield Observed("", ended, NEVER_ZERO, site.left(run_dir))


def words(site: Site, key: str) -> Iterator[Observed]:
    """A target's key has a hostile value."""
    for value in WORDS[key]:
        run_dir = site.run_before("replay", site.folder / "run")
        head, table, target = SUITE.read_text().rpartition("[[target]]")
        lines = [line for line in target.strip().split("\n") if not line.startswith(f"{key} =")]
        changed = "\n".join([table, f"{key} = {json.dumps(value)}", *lines])
        (site.folder / "suite.toml").write_text(f"{head}{changed}\n{HOSTS.get(key, '')}")
        known = set(site.folder.rglob("*"))
        environment = OFFLINE | {"PATCHBENCH_CACHE": str(site.folder / CACHE)}
        with watching(site.folder) as seen:
            ended = patchbench("run", "suite.toml", "--out", run_dir, folder=site.folder, environment=environment)
        objection = both(site.left(run_dir), *_escaped(site.folder, (seen | set(site.folder.rglob("*"))) - known))
        codes = (0, 1, 2) if (key, value) in HARMLESS else (1, 2)
        yield Observed(json.dumps(value)[:SHOWN], ended, codes, objection)


@contextmanager
def watching(folder: Path) -> Iterator[set[Path]]:
    """Collect what appears around the cache during the block, even if it is gone again at its end."""
    seen: set[Path] = set()
    is_over = threading.Event()
    around = [folder, *(folder.joinpath(*CACHE.split("/")[:depth]) for depth in range(1, 5))]

    def look() -> None:
        while not is_over.wait(0.02):
            seen.update(path for one in around for path in one.glob("*"))

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        yield seen
    finally:
        is_over.set()
        watcher.join()


def _escaped(folder: Path, new: set[Path]) -> list[str]:
    """Say what was made that is neither of the run nor in the cache."""
    names = sorted(path.relative_to(folder).as_posix() for path in new)
    ours = ("run/", f"{CACHE}/")
    return [
        f"outside: {name}" for name in names if not f"{CACHE}/".startswith(f"{name}/") and not name.startswith(ours)
    ][:1]


FAULTS: dict[str, Fault] = {
    **{f"user's module: {what}": partial(users_module, source=source) for what, source in MODULES.items()},
    **{f"suite with {key} =": partial(words, key=key) for key in WORDS},
}

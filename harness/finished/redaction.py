"""A run without what is private: images, paths, names of files, machines, users and addresses. Hashes stay.

What is private by its place is left out: commands, pictures, kernels, container images. Every other text is searched:
for the words that the suite and this machine give away, and for whatever looks like a path, a file or an address.
"""

from __future__ import annotations

import getpass
import re
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath

import pandas as pd

from harness.results.columns import CELL_COLUMNS
from harness.results.run_directory import RunFacts

LEFT_OUT = frozenset({"command", "examples", "files", "file", "kernel", "image", "emulator"})  # keys, wherever they are
PROSE = frozenset({"title", "note"})  # keys of a suite: their words are no names
KNOWN = frozenset({"root", "user", "home", "localhost"})  # words that tell nothing
PUBLIC = {"data": ("name",), "victim": ("model",), "target": ("runtime", "host"), "attack": ("name",)}
SHORTEST = 3  # letters of a name of a file that is searched for
SUFFIXES = (
    "onnx|tflite|pte?|pth|pb|engine|rknn|xml|bin|npz|npy|h5|pkl|safetensors|parquet|csv|json|ya?ml|toml|txt|log|py|so|"
    "png|jpe?g|bmp|tiff?|webp|gif|zip|tar|gz|html|svg"
)
# Each begins where a word does, so that a long word is looked at once.
PATTERNS = (
    (re.compile(r"(?<!\w)\w+://[^\s'\"<>]+"), "(address)"),
    (re.compile(r"(?<![\w.+-])[\w.+-]+@[\w.:-]+"), "(address)"),
    (re.compile(r"(?<![\w.])\d{1,3}(?:\.\d{1,3}){3}(?![\w.])"), "(address)"),
    (re.compile(r"(?i)(?<![\w:])(?:[0-9a-f]{0,4}:){3,}[0-9a-f:]+"), "(address)"),
    (re.compile(r"(?<![\w.~$/\\-])(?=[\w.~$/\\-]*[a-zA-Z~])[\w.~$-]*[/\\][\w.~$/\\-]+"), "(path)"),  # not 3/5
    (re.compile(rf"(?i)(?<![\w.-])[\w-][\w.-]*\.(?:{SUFFIXES})(?!\w)"), "(file)"),
)


class Redaction:
    """Takes what is private out of texts; a word becomes the same other word everywhere, so that cells stay apart."""

    def __init__(self, run: RunFacts) -> None:
        self._words = _private_words(run)
        ordered = sorted(self._words, key=len, reverse=True)
        anyone = "|".join(map(re.escape, ordered)) or r"(?!)"
        self._pattern = re.compile(rf"(?<![^\W_])(?:{anyone})(?![^\W_])", re.IGNORECASE)  # whole words

    def text(self, text: str) -> str:
        """Return a text without what is private."""
        text = self._pattern.sub(lambda found: self._words[found[0].lower()], text)
        for pattern, other in PATTERNS:
            text = pattern.sub(other, text)
        return text

    def run(self, run: RunFacts) -> RunFacts:
        """Return ``run.json`` without what is private."""
        return RunFacts.model_validate(self._json(run.plain()))

    def records(self, records: pd.DataFrame) -> pd.DataFrame:
        """Return records whose cells are named as those of the run; images keep their names, which no page shows."""
        texts = [name for name in (*CELL_COLUMNS, "status") if not pd.api.types.is_numeric_dtype(records[name])]
        redacted = {}
        for name in texts:
            others = {word: self.text(str(word)) for word in records[name].unique()}
            redacted[name] = records[name].astype(str).map(others).astype("category")
        return records.assign(**redacted)

    def _json(self, value: object) -> object:
        if isinstance(value, Mapping):
            return {self.text(key): self._json(inner) for key, inner in value.items() if key not in LEFT_OUT}
        if isinstance(value, list | tuple):
            return [self._json(inner) for inner in value]
        return self.text(value) if isinstance(value, str) else value


def _private_words(run: RunFacts) -> dict[str, str]:
    """Return the words that a run and this machine give away, in small letters, each with what stands in its place."""
    suite = run.suite.plain()
    public = {word.lower() for word in _public(suite)} | KNOWN
    words: dict[str, str] = {}
    for word in (*_files(suite), *_files(run.command.split()), *_modules(run)):
        if word.lower() not in public and len(word) >= SHORTEST:
            words.setdefault(word.lower(), f"file-{len(words) + 1}")
    for number, word in enumerate(_boards(suite), 1):
        if word.lower() not in public and len(word) >= SHORTEST:
            words.setdefault(word.lower(), f"board-{number}")
    for word in _machine_words():
        if word and word.lower() not in public:
            words.setdefault(word.lower(), "(machine)")
    return words


def _public(suite: Mapping[str, object]) -> Iterator[str]:
    """Yield a suite's name, and its words that are everybody's: built-in networks, data sets, runtimes."""
    yield str(suite.get("name", ""))
    for table, keys in PUBLIC.items():
        entries = suite.get(table)
        for entry in entries if isinstance(entries, list | tuple) else [entries]:
            if isinstance(entry, Mapping):
                yield from (str(entry[key]) for key in keys if key in entry and ":" not in str(entry[key]))


def _boards(suite: Mapping[str, object]) -> Iterator[str]:
    """Yield the addresses of a suite's targets: also a name from ssh's configuration, which looks like any word."""
    targets = suite.get("target")
    for target in targets if isinstance(targets, list | tuple) else ():
        address = target.get("address", "") if isinstance(target, Mapping) else ""
        yield from address if isinstance(address, list | tuple) else filter(None, [address])


def _files(value: object) -> Iterator[str]:
    """Yield what looks like a path or an address in nested values: whole, and its last name, also without suffix."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _files(inner) if key not in PROSE else ()
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _files(inner)
    elif isinstance(value, str) and any(pattern.search(value) for pattern, _ in PATTERNS):
        last = PurePosixPath(value.replace("\\", "/"))
        names = re.split(r"[@:]", last.name)
        yield from (value, last.name, last.stem, *names, *(name.partition(".")[0] for name in names))


def _modules(run: RunFacts) -> Iterator[str]:
    """Yield the modules that a network comes from, ``package.module:function``: they are files."""
    for victim in run.victims:
        module, colon, _ = victim.model.partition(":")
        if colon:
            yield from (victim.model, module, module.rpartition(".")[2])


def _machine_words() -> Iterator[str]:
    """Yield what this machine and its user are called."""
    host = socket.gethostname()
    yield from (host, host.partition(".")[0], str(Path.home()))
    try:
        yield getpass.getuser()
    except (KeyError, OSError):  # a user without a name, as in a container
        return

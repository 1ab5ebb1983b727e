"""A store that run directories share: each result is one object, on whatever fsspec reaches.

An object lies at ``URL/MACHINE/STAGE/KEY.zip``. What torch computes has other last bits on another CPU, and a key does
not name one: by MACHINE, a run finds only what it would compute itself, and its records stay as they were. Nothing is
locked. An object appears whole or not at all, and two runs that make the same result write the same one.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from backends.device.errors import NotWritten, UserError
from backends.device.names import shown
from backends.device.reading import DamagedFile, first_line
from harness.archives import FULL, MEND, MOST_BYTES, pack, unpack
from harness.extras import missing, require

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

URL = re.compile(r"([a-z][a-z0-9+.-]*)://[^\s*?#\[\]{}]+")
EXPECTED = "expected a URL such as s3://bucket/prefix, gs://bucket/prefix or file:///folder"
SECRET = re.compile(r"://.*:.*@|[?#]")
NO_SECRETS = (
    "--store: expected a URL without credentials; they come from where the protocol's library looks for them, such as "
    "AWS_PROFILE and ~/.aws for s3, `gcloud auth` for gs, and ~/.config/fsspec for any"
)
IN_MESSAGES = re.compile(r"(?<=://)[^/\s]*@|\?[^\s'\"]*")  # what may hold a secret in what a library says
PACKAGES = {"s3": "s3fs", "s3a": "s3fs"}  # that an extra of ours brings
OBJECT_STORES = {"s3", "s3a", "gs", "gcs", "az", "abfs", "abfss"}  # there an object appears whole
# Read from the data's own folder faster than from afar; a bundle is made of images and of other results.
NOT_SHARED = {"data", "bundle", "part"}
LISTED_SECONDS = 60.0  # that a list of a stage's objects is believed, for what other runs add meanwhile
LISTED_TIMES = 10  # as long as it took to get it, at least


class Place(NamedTuple):
    """Where a store lies: its URL, and what reaches it."""

    url: str
    files: AbstractFileSystem
    root: str

    @property
    def is_atomic(self) -> bool:
        """Whether what is put there appears whole."""
        return self.url.partition(":")[0] in OBJECT_STORES


def read(url: str) -> Place:
    """Read a word of ``--store``, and connect to nothing yet.

    Anything but a URL that fsspec knows is a `UserError`, and so is one with credentials, which it does not repeat.
    """
    if SECRET.search(url):
        raise UserError(NO_SECRETS)
    found = URL.fullmatch(url)
    if not found or "::" in url:
        raise UserError(f"--store {shown(url)}: {EXPECTED}")
    require("fsspec")
    from fsspec.core import url_to_fs

    package = PACKAGES.get(found[1])
    if package and not find_spec(package):
        raise UserError(f"--store {url}: {missing(package)}")
    try:
        files, root = url_to_fs(url)
    except Exception as error:  # of whichever library a protocol has
        raise UserError(f"--store {url}: {_said(error)}") from error
    library = type(files).__module__.partition(".")[0]
    logging.getLogger(library).addHandler(logging.NullHandler())  # what it would print, tracebacks too, we say
    return Place(url, files, root.rstrip("/"))


class _Listing(NamedTuple):
    """The objects of a stage, with their bytes, and when to ask anew."""

    sizes: dict[str, int]
    until: float


class SharedStore:
    """A store at a place, for one kind of machine; one that cannot be reached, read or written is a `UserError`.

    ``machine`` is what decides the last bits of results beside their keys. ``warn`` is called with a line about a
    damaged object, which counts as none.
    """

    def __init__(self, place: Place, machine: Mapping[str, str], warn: Callable[[str], None]) -> None:
        self._machine = json.dumps(dict(machine), indent=1, sort_keys=True) + "\n"
        self.url = place.url
        self._place, self._files, self._warn = place, place.files, warn
        self._root = f"{place.root}/{hashlib.sha256(self._machine.encode()).hexdigest()[:16]}"
        self._listed: dict[str, _Listing] = {}
        self._damaged: set[tuple[str, str]] = set()
        self._listing = threading.Lock()

    def introduce(self) -> None:
        """Say, once for all, what the machine is; thereby find out whether the store can be read, and written."""
        name = "machine.json"
        try:
            with self._asking("read"):
                self._files.info(f"{self._root}/{name}")
        except FileNotFoundError:
            with tempfile.TemporaryDirectory() as scratch:
                file = Path(scratch) / name
                file.write_text(self._machine)
                self._write(file, name)

    def lists(self, stage: str, key: str) -> bool:
        """Whether there is a result, as of a minute ago at most, that has not turned out to be damaged."""
        return stage not in NOT_SHARED and (stage, key) not in self._damaged and key in self._sizes(stage)

    def fetch(self, stage: str, key: str, into: Path) -> bool:
        """Write the files of a result that is listed into an empty folder; return False where there is no whole one."""
        name = f"{stage}/{key}.zip"
        with tempfile.TemporaryDirectory(dir=into.parent) as scratch:
            file = Path(scratch) / "result.zip"
            try:
                if (size := self._sizes(stage)[key]) > MOST_BYTES:
                    raise DamagedFile(f"expected at most {MOST_BYTES:,} bytes, got {size:,}; {MEND}")
                with self._asking("read", file):
                    self._files.get_file(f"{self._root}/{name}", str(file))
                unpack(file, into)
            except (FileNotFoundError, KeyError):  # removed meanwhile
                return False
            except DamagedFile as error:
                self._damaged.add((stage, key))
                said = str(error).replace(f"{file}: ", "").replace(f"{into}/", "")
                self._warn(f"{self._files.unstrip_protocol(f'{self._root}/{name}')}: {said}")
                return False
        return True

    def put(self, stage: str, key: str, folder: Path, scratch: Path) -> None:
        """Write the result in a folder, over any that is there; ``scratch`` is a folder for the archive."""
        if stage in NOT_SHARED:
            return
        with tempfile.TemporaryDirectory(dir=scratch) as inside:
            file = Path(inside) / "result.zip"
            pack(folder, file)
            self._write(file, f"{stage}/{key}.zip")
            if listed := self._listed.get(stage):
                listed.sizes[key] = file.stat().st_size
        self._damaged.discard((stage, key))

    def _sizes(self, stage: str) -> dict[str, int]:
        with self._listing:
            found = self._listed.get(stage)
            begun = time.monotonic()
            if not found or begun > found.until:
                sizes = self._ask_sizes(stage)
                took = time.monotonic() - begun
                found = _Listing(sizes, begun + max(LISTED_SECONDS, LISTED_TIMES * took))
                self._listed[stage] = found
            return found.sizes

    def _ask_sizes(self, stage: str) -> dict[str, int]:
        folder = f"{self._root}/{stage}"
        self._files.invalidate_cache(folder)
        try:
            with self._asking("read"):
                found = self._files.ls(folder, detail=True)
        except FileNotFoundError:
            return {}
        named = ((str(one["name"]).rpartition("/")[2], int(one.get("size") or 0)) for one in found)
        return {name.removesuffix(".zip"): size for name, size in named if name.endswith(".zip")}

    def _write(self, file: Path, name: str) -> None:
        target = f"{self._root}/{name}"
        with self._asking("written"):
            if self._place.is_atomic:
                self._files.put_file(str(file), target)
                return
            drafts = f"{self._root}/unfinished"
            for folder in (drafts, target.rpartition("/")[0]):
                self._files.makedirs(folder, exist_ok=True)
            draft = f"{drafts}/{uuid.uuid4().hex}"
            try:
                self._files.put_file(str(file), draft)
                self._files.mv(draft, target)
            except BaseException:
                with suppress(Exception):
                    self._files.rm_file(draft)
                raise

    @contextmanager
    def _asking(self, what: str, into: Path | None = None) -> Iterator[None]:
        """Turn whatever a protocol's library raises into a `UserError`, but for an object to read that is not there."""
        try:
            yield
        except Exception as error:
            if isinstance(error, FileNotFoundError) and what == "read":
                raise
            if into and isinstance(error, OSError) and error.errno in FULL:
                raise NotWritten(into.parent, _said(error)) from error
            raise UserError(f"--store {self.url}: cannot be {what} ({_said(error)})") from error


def _said(error: BaseException) -> str:
    """Return the first line of what an exception says, without what may be a secret."""
    told = (isinstance(error, OSError) and error.strerror) or first_line(error)
    if isinstance(error, FileNotFoundError) and not error.strerror:  # of some libraries, the bare address
        told = f"not found: {told}"
    return IN_MESSAGES.sub("", told.partition("\n")[0])

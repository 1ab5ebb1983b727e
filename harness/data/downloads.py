"""Downloads that are verified."""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from http.client import HTTPException
from pathlib import Path
from typing import IO, Any
from urllib.error import HTTPError
from urllib.parse import unquote, urlsplit
from urllib.request import Request, urlopen

from backends.device.artifact import sha256_file
from backends.device.errors import UserError
from harness.display import Progress

TIMEOUT_SECONDS = 20  # without a byte
PIECE = 1 << 18


def fetch(url: str, sha256: str, into: Path, progress: Progress | None = None) -> Path:
    """The file at an http(s) address, kept in the folder `into` and downloaded only where it is not there yet.

    ``sha256`` is 64 hex digits, or the first 8 or more where a publisher gives no more than those (torchvision's file
    names). What comes is written beside and renamed once its hash is right, so that a broken download leaves nothing
    behind and starts afresh. ``progress`` is told bytes done and in all (0 where the server does not say).
    No network, an answer other than 200, a connection that breaks off, a wrong hash, no space: each is a `UserError`.
    """
    digest = sha256.lower()
    if not re.fullmatch(r"[0-9a-f]{8,64}", digest):
        raise UserError(f"{url}: expected a sha256 in hex digits, got {sha256!r}")
    if urlsplit(url).scheme not in ("http", "https"):
        raise UserError(f"{url}: expected an http or https address")
    target = into / f"{digest[:16]}-{file_name(url)}"
    if target.is_file() and sha256_file(target).startswith(digest):
        return target
    try:
        into.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=target.name, suffix=".part", dir=into)
    except OSError as error:
        raise UserError(f"{into}: cannot be written to ({error.strerror})") from error
    part = Path(name)
    try:
        with os.fdopen(handle, "wb") as stream:
            came = _receive(url, stream, progress)
        if not came.startswith(digest):
            raise UserError(f"{url}: expected a file of sha256 {digest}, got {came}; nothing of it was kept")
        part.replace(target)
    except OSError as error:
        raise UserError(f"{target}: cannot be written ({error.strerror or error})") from error
    finally:
        part.unlink(missing_ok=True)
    return target


def file_name(url: str) -> str:
    """The last part of an address's path, fit to be a file's name."""
    return re.sub(r"[^A-Za-z0-9._-]", "_", unquote(urlsplit(url).path).rsplit("/", 1)[-1]) or "download"


def _receive(url: str, stream: IO[bytes], progress: Progress | None) -> str:
    """Writes what the server sends to the stream, and gives its sha256."""
    hashed, done = hashlib.sha256(), 0
    with _open(url) as answer:
        size = int(answer.headers.get("Content-Length") or 0)
        while piece := _read(answer, url):
            stream.write(piece)
            hashed.update(piece)
            done += len(piece)
            if progress:
                progress(done, size, f"downloading {file_name(url)}")
    if size and done != size:
        raise UserError(f"{url}: the connection broke off after {done} of {size} bytes; run it again")
    return hashed.hexdigest()


def _open(url: str) -> Any:
    try:
        return urlopen(Request(url, headers={"User-Agent": "patchbench"}), timeout=TIMEOUT_SECONDS)
    except HTTPError as error:
        raise UserError(f"{url}: the server answers {error.code} {error.reason}") from error
    except (OSError, HTTPException, ValueError) as error:
        raise UserError(f"{url}: cannot be reached ({getattr(error, 'reason', error)})") from error


def _read(answer: Any, url: str) -> bytes:
    """The next piece; apart from the writing, since both fail with an OSError."""
    try:
        piece: bytes = answer.read(PIECE)
        return piece
    except (OSError, HTTPException) as error:
        raise UserError(f"{url}: the connection broke off ({error}); run it again") from error

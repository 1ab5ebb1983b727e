"""Download files and verify their sha256."""

from __future__ import annotations

import re
import shutil
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.parse import unquote, urlsplit

from torch.hub import download_url_to_file

from backends.device.artifact import sha256_file
from backends.device.errors import UserError
from backends.device.names import plain_name
from backends.words import check_url
from harness.display import Progress

TIMEOUT_SECONDS = 20  # without a byte


def fetch(url: str, sha256: str, into: Path, progress: Progress | None = None) -> Path:
    """Return the file at an http(s) URL, downloaded into the folder `into` unless it is already there.

    ``sha256`` is 64 hex digits, or the first 8 or more where a publisher gives no more (torchvision's file names). A
    failed download leaves nothing behind; whether network, server, hash or disk failed, it is a `UserError`.
    """
    digest = sha256.lower()
    if not re.fullmatch(r"[0-9a-f]{8,64}", digest):
        raise UserError(f"{url}: expected a sha256 in hex digits, got {sha256!r}")
    check_url(url)
    target = into / f"{digest[:16]}-{file_name(url)}"
    if target.is_file() and sha256_file(target).startswith(digest):
        return target
    if progress:
        progress(0, 0, f"downloading {file_name(url)}")
    try:
        into.mkdir(parents=True, exist_ok=True)
        for left in into.glob(".download-*"):  # by a killed run; others are kept out by the run's lock
            shutil.rmtree(left, ignore_errors=True)
        # torch leaves its partial file behind on a full disk
        with tempfile.TemporaryDirectory(prefix=".download-", dir=into) as scratch:
            part = Path(scratch) / target.name
            _download(url, digest, part)
            part.replace(target)
    except OSError as error:
        raise UserError(f"{target}: cannot be written ({error.strerror or error})") from error
    return target


def file_name(url: str) -> str:
    """Return the last part of a URL's path with every character that is unusual in a file name replaced."""
    return plain_name(re.sub(r"[^A-Za-z0-9._-]", "_", unquote(urlsplit(url).path).rsplit("/", 1)[-1]) or "download")


def _download(url: str, digest: str, file: Path) -> None:
    try:
        with _socket_timeout():
            download_url_to_file(url, str(file), digest, progress=False)
    except HTTPError as error:
        raise UserError(f"{url}: the server answers {error.code} {error.reason}") from error
    except (URLError, TimeoutError, ConnectionError, HTTPException, ValueError) as error:
        raise UserError(f"{url}: cannot be reached ({getattr(error, 'reason', error)})") from error
    except RuntimeError as error:  # torch notices a short answer by its hash alone
        raise UserError(f"{url}: {error}; the connection broke off or the file has changed: run it again") from error


@contextmanager
def _socket_timeout() -> Iterator[None]:
    """Limit how long a connection may stall; torch's downloader takes no timeout of its own."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(TIMEOUT_SECONDS)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)

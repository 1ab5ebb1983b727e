"""The local page over all runs below a folder: a server of this machine's own browser, and of nobody else.

It listens on the loopback address. Every address that it answers begins with a token, and every request has to name
this host: a page of somebody else's, under a name that now leads here (DNS rebinding), gets nothing. A file is served
only if its run was found below the folder, its name is that of a page or a table, and no link leads to it.
"""

from __future__ import annotations

import os
import secrets
import sys
from collections.abc import Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Lock
from typing import Any
from urllib.parse import parse_qs, unquote_to_bytes, urlsplit

from backends.device.errors import UserError
from backends.device.reading import regular_file
from harness.finished import listing, local_pages
from harness.finished.listing import PAGES

ADDRESS = "127.0.0.1"
MOST_BYTES = 256 * 1024**2  # of a file
KINDS = {".html": "text/html; charset=utf-8", ".csv": "text/plain; charset=utf-8", ".svg": "image/svg+xml"}
# Pages of ours have no script. A report has its own; it may run it, but reach nothing, this server included.
OWN = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
REPORT = f"{OWN}; script-src 'unsafe-inline'; sandbox allow-scripts allow-downloads"
CLOSED = "; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class Server(ThreadingHTTPServer):
    """The server of one folder; ``url`` is the address of its first page."""

    def __init__(self, root: Path, port: int = 0) -> None:
        self.root = root
        self.token = secrets.token_urlsafe(24)
        self.drawing = Lock()  # matplotlib knows one thread
        try:
            super().__init__((ADDRESS, port), Handler)
        except OSError as error:
            raise UserError(f"--port {port}: cannot be listened on ({error.strerror})") from error

    @property
    def hosts(self) -> tuple[str, ...]:
        """What a request may name as its host."""
        return tuple(f"{name}:{self.server_port}" for name in (ADDRESS, "localhost"))

    @property
    def url(self) -> str:
        """The address of the first page."""
        return f"http://{self.hosts[0]}/{self.token}/"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say in one line what went wrong with a request; the server goes on."""
        error = sys.exc_info()[1]
        if not isinstance(error, ConnectionError | TimeoutError):
            print(f"error: {type(error).__name__}: {error}", file=sys.stderr, flush=True)


class Handler(BaseHTTPRequestHandler):
    """Answers a request: a page of all runs, a comparison, a history, or a run's own file."""

    server: Server
    server_version = "patchbench"
    sys_version = ""
    timeout = 30

    def do_GET(self) -> None:
        """Answer with a page or a file, or say why not."""
        url = urlsplit(self.path)
        token, _, address = url.path.removeprefix("/").partition("/")
        if self.headers.get("Host") not in self.server.hosts:
            self._refuse(HTTPStatus.MISDIRECTED_REQUEST, "another host was asked for")
        elif not secrets.compare_digest(token.encode(), self.server.token.encode()):
            self._refuse(HTTPStatus.FORBIDDEN, "open the address that patchbench view printed")
        else:
            self._answer(address, {name: values[0] for name, values in parse_qs(url.query).items()})

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing: an address holds the token."""

    def _answer(self, address: str, query: Mapping[str, str]) -> None:
        root = self.server.root
        try:
            if address.startswith("runs/"):
                self._send_file(*_file(root, address.removeprefix("runs/")))
                return
            with self.server.drawing:
                page = local_pages.page(root, address, query)
        except UserError as error:
            page = local_pages.failure(str(error))
            self._send(HTTPStatus.NOT_FOUND, page.encode(errors="replace"), KINDS[".html"], OWN)
            return
        self._send(HTTPStatus.OK, page.encode(errors="replace"), KINDS[".html"], OWN)

    def _send_file(self, file: Path, kind: str) -> None:
        self._send(HTTPStatus.OK, file.read_bytes(), kind, REPORT)

    def _refuse(self, status: HTTPStatus, why: str) -> None:
        self._send(status, f"{status.phrase}: {why}\n".encode(), "text/plain; charset=utf-8", OWN)

    def _send(self, status: HTTPStatus, body: bytes, kind: str, policy: str) -> None:
        self.send_response(status)
        for name, value in (HEADERS | {"Content-Type": kind, "Content-Security-Policy": policy + CLOSED}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def _file(root: Path, address: str) -> tuple[Path, str]:
    """Return the file of a run that an address names, and its media type; anything else is a `UserError`."""
    asked = os.fsdecode(unquote_to_bytes(address))
    for run_dir in listing.below(root):
        place = run_dir.relative_to(root).as_posix()
        if asked.startswith(f"{place}/") or place == ".":
            name = asked if place == "." else asked.removeprefix(f"{place}/")
            folder, _, base = name.rpartition("/")
            file = run_dir / name
            served = name in PAGES or (folder == "study" and base == Path(base).name and base[:1] != ".")
            if served and file.suffix in KINDS and _is_own(file, root):
                regular_file(file, MOST_BYTES)
                return file, KINDS[file.suffix]
    raise UserError("no such page: runs have a report.html, and some a study")


def _is_own(file: Path, root: Path) -> bool:
    """Return whether a file is there, and no link leads to it."""
    return file.is_file() and file.resolve() == root.resolve() / file.relative_to(root)

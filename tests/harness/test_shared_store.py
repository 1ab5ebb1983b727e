"""The store that run directories share: what is taken from it is what was put there, whatever else lies there."""

import io
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.flips import damaged
from helpers.required import absent
from helpers.shared import FILES, HERE, Runs, holds, make

from backends.device.errors import NotWritten, UserError
from harness import archives, shared_store
from harness.shared_store import SharedStore
from harness.store import Store


@pytest.fixture(autouse=True)
def _fsspec() -> None:
    if not shared_store.find_spec("fsspec"):
        absent("fsspec", "it is not installed: pip install 'patchbench[store]'")


@pytest.fixture
def runs(tmp_path: Path) -> Runs:
    return Runs(tmp_path, f"file://{tmp_path}/shared")


def objects(runs: Runs) -> list[Path]:
    return sorted((runs.folder / "shared").rglob("*.zip"))


def test_what_one_run_makes_the_next_one_has(runs: Runs) -> None:
    make(runs.new())
    second = runs.new()
    assert second.has("patch", "k")
    assert holds(second) == FILES
    assert not second.has("patch", "another")
    assert (runs.said, list(second.scratch.iterdir())) == ([], [])


def test_the_same_result_is_the_same_bytes_and_no_draft_is_left(runs: Runs) -> None:
    make(runs.new())
    (file,) = objects(runs)
    first = file.read_bytes()
    file.unlink()
    make(runs.new(), dict(reversed(FILES.items())))
    assert file.read_bytes() == first
    assert list(file.parents[1].joinpath("unfinished").iterdir()) == []


def test_images_and_bundles_and_parts_stay_here(runs: Runs) -> None:
    first = runs.new()
    for stage in ("data", "bundle", "part"):
        with first.writing(stage, "k") as folder:
            (folder / "x").write_text("x")
    assert objects(runs) == []
    assert not runs.new().has("data", "k")


def test_another_machine_finds_nothing(runs: Runs) -> None:
    make(runs.new())
    other = runs.new({"CPU": "another"})
    assert not other.has("patch", "k")
    make(other, {"numbers.npz": b"others"})
    assert len(objects(runs)) == 2
    third = runs.new()
    assert third.has("patch", "k")
    assert holds(third) == FILES


def test_what_is_already_here_is_offered_once(runs: Runs) -> None:
    alone = Store(runs.folder / "alone", runs.said.append)
    make(alone)
    alone.shared = SharedStore(shared_store.read(runs.url), HERE, runs.said.append)
    alone.offer("patch", "k")
    (file,) = objects(runs)
    before = file.stat().st_mtime_ns
    alone.offer("patch", "k")
    alone.offer("patch", "never made")
    assert [one.stat().st_mtime_ns for one in objects(runs)] == [before]


def zipped(*members: tuple[str, bytes], how: int = zipfile.ZIP_STORED) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", how) as archive:
        for name, content in members:
            archive.writestr(zipfile.ZipInfo(name), content, how)
    return stream.getvalue()


def with_sizes(whole: bytes, size: int) -> bytes:
    """The archive, whose list of contents claims this size of each member."""
    changed = bytearray(whole)
    at = whole.find(b"PK\x01\x02")
    while at >= 0:
        changed[at + 20 : at + 28] = size.to_bytes(4, "little") * 2
        at = whole.find(b"PK\x01\x02", at + 4)
    return bytes(changed)


HOSTILE: dict[str, Callable[[bytes], bytes]] = {
    "nothing": lambda whole: b"",
    "no archive": lambda whole: b"<html>sign in</html>",
    "cut": lambda whole: whole[: len(whole) // 2],
    "its end lost": lambda whole: whole[:-1],
    "no list": lambda whole: zipped(("numbers.npz", b"1")),
    "a list of other files": lambda whole: zipped(("SHA256SUMS", b"0" * 64 + b"  other\n"), ("numbers.npz", b"1")),
    "one too many": lambda whole: zipped(*members(whole), ("more", b"1")),
    "one missing": lambda whole: zipped(*members(whole)[:-1]),
    "twice the same": lambda whole: zipped(*members(whole), members(whole)[-1]),
    "up and out": lambda whole: zipped(*members(whole), ("../../../out", b"1")),
    "from the root": lambda whole: zipped(*members(whole), ("/tmp/patchbench-out", b"1")),
    "a file as a folder": lambda whole: zipped(("a", b"1"), ("a/b", b"1")),
    "a name too long": lambda whole: zipped(("x" * 300, b"1")),
    "a control character": lambda whole: zipped(("a\x1b[31m", b"1")),
    "compressed": lambda whole: zipped(("SHA256SUMS", bytes(10_000_000)), how=zipfile.ZIP_DEFLATED),
    "larger than itself": lambda whole: with_sizes(whole, 1 << 31),
}


def members(whole: bytes) -> list[tuple[str, bytes]]:
    with zipfile.ZipFile(io.BytesIO(whole)) as archive:
        return [(one.filename, archive.read(one)) for one in archive.infolist()]


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("how", [*HOSTILE, *range(24)])
def test_a_damaged_or_hostile_object_is_said_so_made_again_and_replaced(how: str | int, runs: Runs) -> None:
    make(runs.new())
    (file,) = objects(runs)
    whole = file.read_bytes()
    file.write_bytes(HOSTILE[how](whole) if isinstance(how, str) else damaged(whole, how, cut_each=4))
    before = set(runs.folder.rglob("*"))
    second = runs.new()
    if second.has("patch", "k"):  # a bit that means nothing, such as of the date of a file
        assert isinstance(how, int)
        assert holds(second) == FILES
        return
    assert len(runs.said) == 1
    assert runs.said[0].startswith(f"file://{file}: ")
    assert runs.said[0].endswith("made again")
    assert "\n" not in runs.said[0]
    assert "\x1b" not in runs.said[0]
    assert set(runs.folder.rglob("*")) - before == {second.root, second.scratch}
    assert not second.has("patch", "k")
    make(second)
    assert len(runs.said) == 1
    assert file.read_bytes() == whole


def test_an_object_larger_than_any_result_is_not_fetched(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    make(runs.new())
    monkeypatch.setattr(shared_store, "MOST_BYTES", 1000)
    assert not runs.new().has("patch", "k")
    assert "expected at most 1,000 bytes" in runs.said[0]


def test_a_full_disk_here_is_no_fault_of_the_store(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    make(runs.new())

    def copy(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shutil, "copyfileobj", copy)
    with pytest.raises(NotWritten, match="No space left"):
        runs.new().has("patch", "k")


SECRETS = (
    "s3://AKIDX:hushhush@bucket/prefix",
    "s3://AKIDX:hush/hush@bucket",
    "s3://bucket/prefix?secret=hushhush",
    "abfs://box@account/x?sig=hushhush",
    "sftp://me:hushhush@host/x",
    "s3://bucket/#hushhush",
)


@pytest.mark.parametrize("url", SECRETS)
def test_credentials_in_a_url_are_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(UserError, match=r"AWS_PROFILE and ~/.aws") as refused:
        shared_store.read(url)
    assert "hush" not in str(refused.value)


@pytest.mark.parametrize(
    "url", ["", "out/shared", "/shared", "s3:bucket", "s3://", "S3 ://x", "s3://a b", "simplecache::s3://b", "file://*"]
)
def test_what_is_no_url_is_refused(url: str) -> None:
    with pytest.raises(UserError, match="expected a URL such as s3://bucket/prefix"):
        shared_store.read(url)


def test_a_package_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="Protocol not known: nope"):
        shared_store.read("nope://bucket")
    monkeypatch.setattr(shared_store, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"--store s3://b: s3fs is not installed: pip install 'patchbench\[store\]'"):
        shared_store.read("s3://b")


def test_a_folder_that_cannot_be_is_an_error_at_once(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"--store file://.*: cannot be .*Not a directory"):
        Runs(tmp_path, f"file://{tmp_path}/file/shared").new()


def test_an_archive_holds_what_a_folder_lists_and_nothing_else(tmp_path: Path) -> None:
    results = Store(tmp_path / "run", print)
    make(results)
    archives.pack(results.path("patch", "k"), tmp_path / "a.zip")
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        assert sorted(archive.namelist()) == ["SHA256SUMS", *sorted(FILES)]
        assert {name: archive.read(name) for name in FILES} == FILES

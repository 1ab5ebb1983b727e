"""The store: a result is there whole or not at all, and its key covers what went into it."""

import json
import shutil
from contextlib import suppress
from pathlib import Path

import pytest
from helpers.flips import flipped

from harness import store
from harness.store import Store, code_digest, key, write_json


def test_a_result_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    results = Store(tmp_path / "store", print)
    with suppress(RuntimeError), results.writing("patch", "k") as folder:
        (folder / "half").write_text("")
        raise RuntimeError
    assert not results.has("patch", "k")
    assert list(results.scratch.iterdir()) == []
    with results.writing("patch", "k") as folder:
        (folder / "whole").write_text("x")
        assert not results.has("patch", "k")
    assert (results.path("patch", "k") / "whole").read_text() == "x"


def test_what_a_killed_run_left_unfinished_is_cleared(tmp_path: Path) -> None:
    (tmp_path / "store" / "unfinished" / "patch-abc").mkdir(parents=True)
    assert list(Store(tmp_path / "store", print).scratch.iterdir()) == []


def test_a_damaged_result_is_said_so_and_made_again_never_used(tmp_path: Path) -> None:
    def made(results: Store) -> Path:
        with results.writing("patch", "k") as folder:
            (folder / "inside").mkdir()
            (folder / "inside" / "numbers").write_bytes(bytes(100))
            (folder / "words").write_text("as they were")
        return results.path("patch", "k")

    files = [path for path in made(Store(tmp_path / "store", print)).rglob("*") if path.is_file()]
    assert sorted(path.name for path in files) == ["SHA256SUMS", "numbers", "words"]
    for seed, file in enumerate(files * 3):
        said: list[str] = []
        results = Store(tmp_path / "store", said.append)
        with flipped(file, seed):
            assert not results.has("patch", "k")
        assert len(said) == 1
        assert said[0].startswith(str(results.path("patch", "k")))
        assert said[0].endswith("made again")
        shutil.rmtree(results.path("patch", "k"))  # what `flipped` put back
        made(results)
        assert results.has("patch", "k")
        assert Store(tmp_path / "store", print).has("patch", "k")


def test_a_result_without_hashes_is_made_again(tmp_path: Path) -> None:
    said: list[str] = []
    results = Store(tmp_path / "store", said.append)
    results.path("patch", "k").mkdir(parents=True)
    assert not results.has("patch", "k")
    assert not results.path("patch", "k").exists()
    assert said == [f"{results.path('patch', 'k')}/SHA256SUMS: no list of hashes; made again"]


def test_a_key_changes_with_inputs_versions_and_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    same = key("patch", seed=0, px=8)
    assert key("patch", px=8, seed=0) == same
    assert key("patch", seed=1, px=8) != same
    assert key("replay", seed=0, px=8) != same
    monkeypatch.setattr(store, "version_of", lambda package: "another")
    assert key("patch", seed=0, px=8) != same


def test_code_is_compared_blind_to_comments_and_docstrings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "ROOT", tmp_path)
    versions = {
        "a": '"""Says this."""\n\n\ndef f(x):\n    """Adds."""\n    return x + 1  # one\n',
        "b": '"""Says that."""\n\n\ndef f(x):\n    """Increments."""\n    return x + 1\n',
        "c": '"""Says that."""\n\n\ndef f(x):\n    """Increments."""\n    return x + 2\n',
    }
    for name, text in versions.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "m.py").write_text(text)
    code_digest.cache_clear()
    assert code_digest("a") == code_digest("b")
    assert code_digest("a") != code_digest("c")


def test_every_stage_names_code_that_is_there() -> None:
    for paths in store.CODE.values():
        for path in paths:
            assert (store.ROOT / path).exists(), path


# Modules that no result depends on except by its inputs, which are in its key.
MAKE_NO_RESULT = (
    "harness/api",
    "harness/cli",
    "harness/console",
    "harness/extras",
    "harness/finished",
    "harness/gate",
    "harness/plan",
)
MAKE_NO_RESULT += ("harness/console", "harness/shipped")
# What these lay down is in the inputs too: a suite's words, names of columns, the store itself.
GROUND = ("harness/__init__", "harness/config", "harness/display", "harness/sealed", "harness/store", "harness/tables")
GROUND += ("harness/archives", "harness/shared_store", "harness/data_frames", "harness/torchvision_import")
GROUND += ("backends/device/__init__",)


def test_every_module_that_makes_a_result_is_in_some_stages_key() -> None:
    covered = {path for paths in store.CODE.values() for path in paths}
    rooms = ("harness", "exporters", "patches", "backends/device")
    modules = [file.relative_to(store.ROOT) for room in rooms for file in (store.ROOT / room).rglob("*.py")]
    assert len(modules) > 100
    known = tuple(f"{folder}/" for folder in (*covered, *MAKE_NO_RESULT, *GROUND))
    assert [str(m) for m in modules if not f"{m.with_suffix('')}/".startswith(known)] == []


@pytest.mark.parametrize("stage", store.CODE)
def test_a_module_added_to_a_folder_of_a_stage_changes_its_key(
    stage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder in store.CODE[stage]:
        (tmp_path / folder).mkdir(parents=True)
    monkeypatch.setattr(store, "ROOT", tmp_path)
    for folder in store.CODE[stage]:
        code_digest.cache_clear()
        before = key(stage, seed=0)
        (tmp_path / folder / "added.py").write_text("x = 1\n")
        code_digest.cache_clear()
        assert key(stage, seed=0) != before
    code_digest.cache_clear()


def test_what_has_no_place_in_a_key_is_refused() -> None:
    with pytest.raises(TypeError):
        key("patch", surrogate=object())


def test_json_is_indented_and_of_a_long_list_each_value_has_a_line(tmp_path: Path) -> None:
    file = tmp_path / "x.json"
    content = {"a": {"b": [1, "x\ny"], "c": {}}, "d": [], "e": None}
    for one in ({}, content):
        write_json(file, one)
        assert file.read_text() == json.dumps(one, indent=1) + "\n"
    rows = [{"cell": i, "rates": [0.5, None]} for i in range(5000)]
    write_json(file, content | {"rows": rows})
    assert json.loads(file.read_text()) == content | {"rows": rows}
    assert '  {"cell": 7, "rates": [0.5, null]},' in file.read_text().splitlines()

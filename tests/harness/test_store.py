"""The store: a result is there whole or not at all, and its key covers what went into it."""

from contextlib import suppress
from pathlib import Path

import pytest

from harness import store
from harness.store import Store, code_digest, key


def test_a_result_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    results = Store(tmp_path / "store")
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
    assert list(Store(tmp_path / "store").scratch.iterdir()) == []


def test_a_key_changes_with_inputs_versions_and_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    same = key("patch", seed=0, px=8)
    assert key("patch", px=8, seed=0) == same
    assert key("patch", seed=1, px=8) != same
    assert key("replay", seed=0, px=8) != same
    monkeypatch.setattr(store, "_version", lambda package: "another")
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


def test_what_has_no_place_in_a_key_is_refused() -> None:
    with pytest.raises(TypeError):
        key("patch", surrogate=object())

"""A suite by its name, wherever one is: the suites of a checkout, and those that a wheel packs."""

from pathlib import Path

import pytest
from helpers import ROOT

from backends.device.errors import UserError
from harness.shipped import suite_file


def test_a_bare_word_is_a_suite_that_ships_whatever_lies_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("demo").touch()
    assert suite_file("demo") == ROOT / "benchmarks" / "suites" / "demo.toml"


@pytest.mark.parametrize("word", ["demo.toml", "./demo", "suites/demo", "/nowhere/demo", "demo/"])
def test_a_word_with_an_ending_or_a_separator_is_a_path(word: str) -> None:
    assert suite_file(word) == Path(word)


def test_an_unknown_name_is_told_with_the_nearest_and_with_the_file_of_that_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="no suite named 'dmo'; did you mean 'demo'"):
        suite_file("dmo")
    Path("mine.toml").touch()
    with pytest.raises(UserError, match=r"no suite named 'mine\.toml\.'; did you mean 'mine\.toml'"):
        suite_file("mine.toml.")
    Path("dmo").touch()
    with pytest.raises(UserError, match="the file in this folder is"):
        suite_file("dmo")

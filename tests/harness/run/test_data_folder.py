"""Where the paths of a suite start from."""

import tomllib
from pathlib import Path

import pytest
from helpers.suites import QUICK

from backends.device.errors import UserError
from harness.config import Suite
from harness.run.run import data_folder


def suite(files: str) -> Suite:
    return Suite.model_validate(tomllib.loads(f"files = '{files}'\n{QUICK}"))


def test_a_suites_own_folder_comes_before_data(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "data").mkdir()
    file = tmp_path / "suite.toml"
    assert data_folder(suite("mine"), file, tmp_path / "data") == tmp_path / "mine"
    assert data_folder(suite("mine"), file, None) == tmp_path / "mine"


def test_beside_a_copy_it_is_data_that_has_to_be_there(tmp_path: Path) -> None:
    file = tmp_path / "copy.toml"
    assert data_folder(suite("mine"), file, tmp_path) == tmp_path
    assert data_folder(suite("mine"), file, None) is None
    with pytest.raises(UserError, match="no such folder"):
        data_folder(suite("mine"), file, tmp_path / "nowhere")


def test_a_suite_reaches_no_folder_but_those_beside_it() -> None:
    with pytest.raises(ValueError, match="inside the folder"):
        suite("../elsewhere")

"""A board that all these tests share, and a bundle for it."""

import pytest
from helpers import board as boards
from helpers import tiny
from helpers.faraway import use


@pytest.fixture(scope="module")
def board(tmp_path_factory):
    with boards.running(tmp_path_factory.mktemp("board")) as board:
        yield board


@pytest.fixture(autouse=True)
def my_ssh(board, monkeypatch):
    use(board, monkeypatch)


@pytest.fixture
def bundle(tmp_path):
    return tiny.bundle(tmp_path / "my bundle", tiny.tflite_file(tmp_path / "tiny.tflite"), n=200)

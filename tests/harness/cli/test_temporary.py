"""A command's own folder for temporary files, in real processes."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from helpers.command import environ

from harness.cli import temporary

OWNER = (
    "import tempfile; from harness.cli.temporary import own_folder; own_folder(); print(tempfile.mkdtemp()); input()"
)


def owner(tmp_path: Path) -> tuple[subprocess.Popen[str], Path]:
    """A process that holds its folder until it hears a line, and that folder."""
    environment = environ(TMPDIR=str(tmp_path))
    pipe = subprocess.PIPE
    process = subprocess.Popen([sys.executable, "-c", OWNER], env=environment, stdin=pipe, stdout=pipe, text=True)
    return process, Path(process.stdout.readline().strip()).parent


def test_what_a_killed_command_left_is_removed_and_what_is_held_is_not(tmp_path):
    first, first_folder = owner(tmp_path)
    second, second_folder = owner(tmp_path)
    assert sorted(tmp_path.iterdir()) == sorted([first_folder, second_folder])
    first.kill()
    first.communicate()
    third, third_folder = owner(tmp_path)
    assert sorted(tmp_path.iterdir()) == sorted([second_folder, third_folder])
    second.communicate("\n")
    third.communicate("\n")


def test_a_folder_of_the_users_with_such_a_name_stays(tmp_path):
    (tmp_path / "patchbench-mine").mkdir()
    (tmp_path / "patchbench-mine/thesis.tex").touch()
    held, _ = owner(tmp_path)
    held.communicate("\n")
    assert (tmp_path / "patchbench-mine/thesis.tex").is_file()


def test_without_a_place_there_is_none(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nowhere"))
    monkeypatch.setenv("TMPDIR", "unchanged")
    assert temporary.own_folder() is None
    assert os.environ["TMPDIR"] == "unchanged"

"""From an exception to one line and an exit code."""

import errno
import os
import tempfile

import pytest

from backends.device.errors import NotWritten, UserError
from harness.cli import endings

RESUME = "finished work is kept: run the same command to resume"


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (UserError("suite.toml: no"), "suite.toml: no"),
        (NotWritten("out/x.npy", "No space"), f"out/x.npy: cannot be written (No space); {RESUME}"),
        (OSError(errno.ENOSPC, "No space left on device"), f"No space left on device; {RESUME}"),
        (PermissionError(errno.EACCES, "Denied", "x.png"), "'x.png': Permission denied"),
        (FileNotFoundError(errno.ENOENT, "No usable temporary directory"), "no folder for temporary files; set TMPDIR"),
        (MemoryError("Unable to allocate 2 TiB"), f"not enough memory (Unable to allocate 2 TiB); {RESUME}"),
        (ImportError("libx.so: failed to map segment from shared object"), f"not enough memory; {RESUME}"),
        (RuntimeError("std::bad_alloc"), f"not enough memory; {RESUME}"),
    ],
)
def test_what_a_user_can_mend_is_one_line(error, says, capsys):
    assert endings.explain(error) == 2
    assert capsys.readouterr().err.startswith(f"error: {says}")


def test_what_nobody_foresaw_asks_for_a_report_with_the_traceback(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "ours"))
    monkeypatch.setattr("sys.argv", ["patchbench", "run", "my suite.toml"])
    with pytest.raises(TypeError) as raised:
        os.fspath(3)
    assert endings.explain(raised.value) == 3
    says, _, file = capsys.readouterr().err.strip().rpartition(", with ")
    assert says.startswith("error: a fault of patchbench: TypeError: expected str")
    assert says.endswith("please report it")
    assert file == str(tmp_path / "ours.txt")
    assert (tmp_path / "ours.txt").read_text().startswith("patchbench run 'my suite.toml'\nTraceback")


def test_without_a_place_for_the_traceback_the_line_still_comes(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "no" / "folder"))
    assert endings.explain(KeyError("x")) == 3
    assert capsys.readouterr().err == "error: a fault of patchbench: KeyError: 'x'; please report it\n"

"""From an exception to one line and an exit code."""

from harness.cli import endings


def test_a_full_disk_is_one_message(capsys):
    assert endings.explain(OSError(28, "No space left on device")) == 2
    assert "No space left on device. Finished work is kept" in capsys.readouterr().err

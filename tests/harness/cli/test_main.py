"""What the command line says beside what its verbs do."""

import sys

import pytest

from harness.cli import main as cli


def test_ctrl_c_says_that_what_was_finished_is_kept(monkeypatch, capsys):
    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr("harness.run.run.carry_out", interrupted)
    monkeypatch.setattr(sys, "argv", ["patchbench", "run", "suite.toml"])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code == 130
    assert "the same command goes on from here" in capsys.readouterr().err

"""The connection to a board, where what it starts misbehaves; `ssh/` has the tests with a real server."""

import pytest

from backends import ssh_connection
from backends.device.errors import UserError


@pytest.mark.timeout(30)
def test_what_ssh_started_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """A program behind ssh may have its pipes, and lives on when ssh alone is killed."""
    monkeypatch.setattr(ssh_connection, "SILENCE_SECONDS", 0.5)
    monkeypatch.setattr(ssh_connection, "command", lambda *_: ["sh", "-c", "sleep 60; true"])
    with pytest.raises(UserError, match=r"board: no answer for 0\.5 s"), ssh_connection.asking("board", "numpy"):
        pass

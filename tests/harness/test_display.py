"""What long work says of itself: where nobody can see a bar, a line from time to time."""

import io

import pytest
from rich.console import Console

from harness import display


def shown(terminal: bool) -> str:
    out = io.StringIO()
    with display.Display(Console(file=out, width=120, force_terminal=terminal)).doing("train", "vgg") as tick:
        for epoch in range(1, 4):
            tick(epoch, 3, f"loss {1 / epoch:.2f}")
    return out.getvalue()


def test_without_a_terminal_long_work_says_how_far_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(display, "EVERY", 0.0)
    told = shown(terminal=False).splitlines()
    assert [line.split(", about")[0] for line in told[:-1]] == ["… train vgg: 1 of 3", "… train vgg: 2 of 3"]
    assert told[0].endswith("min left · loss 1.00")
    assert told[-1].startswith("✓ train vgg")


def test_lines_are_a_minute_apart() -> None:
    assert [line.split(" ")[0] for line in shown(terminal=False).splitlines()] == ["✓"]


def test_a_terminal_has_a_bar_instead(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(display, "EVERY", 0.0)
    assert "min left" not in shown(terminal=True)

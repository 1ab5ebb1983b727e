"""What long work says of itself: where nobody can see a bar, a line from time to time."""

import io
import time

import pytest
from rich.console import Console

from harness import display

DEADLINE = 60.0


def console(terminal: bool = False) -> Console:
    return Console(file=io.StringIO(), width=120, force_terminal=terminal)


def text(out: Console) -> str:
    assert isinstance(out.file, io.StringIO)
    return out.file.getvalue()


def wait_for(word: str, out: Console) -> None:
    end = time.monotonic() + DEADLINE
    while word not in text(out) and time.monotonic() < end:
        time.sleep(0.01)


def test_without_a_terminal_long_work_says_how_far_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(display, "EVERY", 0.01)
    out = console()
    with display.Display(out).doing("train", "vgg") as tick:
        tick(1, 3, "loss 1.00")
        wait_for("1 of 3", out)
    told = text(out).splitlines()
    assert any(line.startswith("… train vgg: 1 of 3, about ") and line.endswith(" left · loss 1.00") for line in told)
    assert told[-1].startswith("✓ train vgg")


def test_so_does_work_that_never_says_how_far_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(display, "EVERY", 0.01)
    out = console()
    with display.Display(out).doing("export", "net"):
        wait_for("so far", out)
    assert text(out).startswith("… export net: 1 s so far")


def test_what_is_watched_leaves_no_line_of_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(display, "EVERY", 0.01)
    out = console()
    with display.Display(out).watching("compare", "net") as tick:
        tick(1, 3, "")
        wait_for("1 of 3", out)
    assert all(line.startswith("… compare net: 1 of 3") for line in text(out).splitlines())


def test_lines_are_a_minute_apart() -> None:
    out = console()
    with display.Display(out).doing("train", "vgg") as tick:
        tick(1, 3, "")
    assert [line.split(" ")[0] for line in text(out).splitlines()] == ["✓"]


def test_a_terminal_has_a_bar_instead(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(display, "EVERY", 0.01)
    out = console(terminal=True)
    with display.Display(out).doing("train", "vgg") as tick:
        tick(1, 3, "loss 1.00")
        wait_for("1/3", out)
    assert "… train" not in text(out)
    assert "1/3" in text(out)


def test_a_quiet_display_warns_and_says_nothing_else() -> None:
    for terminal in (False, True):
        out = console(terminal)
        shown = display.Display(out, quiet=True)
        with shown.doing("train", "vgg") as tick:
            tick(1, 3, "")
        shown.say("counting")
        shown.warn("a damaged file")
        assert "a damaged file" in text(out)
        assert "vgg" not in text(out)
        assert "counting" not in text(out)


def test_a_step_of_the_whole_run_says_which_and_what_is_left() -> None:
    out = console()
    shown = display.Display(out)
    shown.expect({"export": 2, "replay": 1}, {})
    for verb in ("export", "bundle", "export", "replay"):
        with shown.doing(verb, "net"):
            pass
    ends = [line.partition(" s")[2] for line in text(out).splitlines()]
    assert [end.split(",")[0] for end in ends] == [" · 1 of 3", "", " · 2 of 3", " · 3 of 3"]
    assert ", over" in ends[0]
    assert ends[3] == " · 3 of 3"


def test_what_is_left_takes_as_long_as_what_was_done() -> None:
    whole = display.Whole({"export": 3, "replay": 2})
    assert whole.remaining() == ""
    assert whole.finish("export", 60)
    assert whole.remaining() == "over 2 min left"
    assert whole.finish("replay", 300)
    assert whole.remaining() == "about 7 min left"
    assert not whole.finish("bundle", 1)
    assert (whole.done, whole.of) == (2, 5)


def test_what_earlier_runs_took_stands_in_until_this_one_knows_better() -> None:
    whole = display.Whole({"export": 2, "craft": 1}, {"export": 30, "craft": 600})
    assert whole.remaining() == "about 11 min left"
    whole.finish("export", 300)
    assert whole.remaining() == "about 15 min left"
    assert display.Whole({"export": 2, "craft": 1}, {"export": 30}).remaining() == "over 60 s left"

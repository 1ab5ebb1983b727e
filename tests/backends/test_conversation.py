"""What is kept of a process's standard error."""

import os
import signal
import subprocess
import sys

from backends.conversation import TAIL_BYTES, TAIL_LINES, Tail


def tail_of(script: str) -> list[str]:
    with subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.PIPE) as process:
        tail = Tail(process.stderr)
        process.wait(timeout=60)
        return tail.lines()


def test_the_last_lines_are_kept_and_no_more():
    lines = tail_of("import sys\nfor i in range(100_000): print(i, file=sys.stderr)")
    assert lines == [str(i) for i in range(100_000 - TAIL_LINES, 100_000)]


def test_a_line_without_an_end_is_cut():
    lines = tail_of("import sys\nsys.stderr.write('x' * 20_000_000)")
    assert sum(map(len, lines)) <= TAIL_LINES * TAIL_BYTES


def test_control_characters_reach_no_terminal():
    assert "\x1b" not in "".join(tail_of(r"import sys; sys.stderr.write('\x1b[2J')"))


def test_a_process_left_behind_with_the_pipe_holds_nobody_up():
    sleeps = "import time; time.sleep(300)"
    script = f"import subprocess, sys\nprint(subprocess.Popen([sys.executable, '-c', {sleeps!r}]).pid, file=sys.stderr)"
    with subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.PIPE) as process:
        tail = Tail(process.stderr)
        process.wait(timeout=60)
        lines = tail.lines()
        left_behind = int(lines[0])
        os.kill(left_behind, signal.SIGKILL)  # a `ProcessLookupError` if it was waited for
    assert len(lines) == 1

"""The entry point: run the command in a process of its own, which Ctrl-C and SIGTERM end at once.

There an interruption is never an exception: code that catches one would go on with half a result, a module would stay
half imported, and native code would see it late. What is written is whole or absent, so that a kill costs no more.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import shutil
import signal
import sys
from collections.abc import Set
from contextlib import suppress
from typing import NoReturn

from harness.cli import endings, output, temporary

STOPS = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated", signal.SIGHUP: "terminal closed"}
NOT_SAID = 255  # no exit code of a command
SHOW_CURSOR = "\x1b[?25h\n"
PR_SET_PDEATHSIG = 1


def main() -> NoReturn:
    """Run the command line and exit with its code, or with 128 and the number of the signal that ended it."""
    _open_standard_streams()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    heard = {number for number in (*STOPS, signal.SIGTSTP) if signal.getsignal(number) != signal.SIG_IGN}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, heard | {signal.SIGCHLD})
    said = mmap.mmap(-1, 1)  # shared: the command's exit code, once it has come to its end
    said[0] = NOT_SAID
    folder = temporary.own_folder()
    us = os.getpid()
    command = os.fork()
    if not command:
        _become_command(us, heard, before)
        endings.log_crashes()
        code = _run()
        said[0] = code
        sys.exit(code)
    with suppress(OSError):  # whichever of both is first
        os.setpgid(command, command)
    code = _wait(command, heard)
    code = _unfinished(code) if said[0] == NOT_SAID or -code in STOPS else said[0]
    if folder:
        shutil.rmtree(folder, ignore_errors=True)
    sys.exit(code)


def _open_standard_streams() -> None:
    """Let closed standard streams lead nowhere, so that no file is opened in their place."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    sys.stderr = sys.stderr or os.fdopen(2, "w", closefd=False)


def _become_command(parent: int, heard: Set[signal.Signals], mask: Set[int]) -> None:
    """Lead a process group, die with the parent, and leave signals to the system."""
    os.setpgid(0, 0)
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(endings.USER_ERROR)
    for number in heard:
        signal.signal(number, signal.SIG_DFL)
    for number in (signal.SIGTTIN, signal.SIGTTOU):  # a terminal is for the parent's group, but may be written to
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _run() -> int:
    """Run the command line in this process, and return its exit code."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    # Threads that spin while they wait slow torch down seven times when another process wants the cores.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        output.check()
        from harness.cli.app import app

        try:
            app(prog_name="patchbench")
        except SystemExit as end:
            code = end.code
        sys.stdout.flush()
    except Exception as error:
        return endings.explain(error)
    return code if isinstance(code, int) else endings.FAULT


def _wait(command: int, heard: Set[signal.Signals]) -> int:
    """Wait for the command and return its exit code: minus the number of the signal that ended it, or was for us.

    What it started ends with it.
    """
    number = 0
    while number not in STOPS and not os.waitid(os.P_PID, command, os.WEXITED | os.WNOHANG | os.WNOWAIT):
        number = signal.sigwait(heard | {signal.SIGCHLD})
        if number == signal.SIGTSTP:
            os.killpg(command, signal.SIGSTOP)
            os.kill(os.getpid(), signal.SIGSTOP)
            os.killpg(command, signal.SIGCONT)
    os.killpg(command, signal.SIGKILL)
    _, status = os.waitpid(command, 0)
    return -number if number in STOPS else os.waitstatus_to_exitcode(status)


def _unfinished(code: int) -> int:
    """Say why a command did not come to its end, and return the exit code for that."""
    if sys.stdout is not None and sys.stdout.isatty():
        sys.stdout.write(SHOW_CURSOR)
    if code >= 0:
        endings.fail(f"a module or library that was loaded ended the process with exit code {code}, before its end")
        return endings.USER_ERROR
    number = signal.Signals(-code)
    if number in STOPS:
        endings.say(f"{STOPS[number]}; {endings.RESUME}")
    elif number == signal.SIGKILL:
        endings.fail(f"killed, most often because memory ran out; {endings.RESUME}")
    elif number != signal.SIGPIPE:  # its reader left: nobody waits for a word
        return endings.crashed(number.name)
    return 128 + number

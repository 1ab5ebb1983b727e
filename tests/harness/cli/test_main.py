"""Real processes that are stopped, crash, or end by themselves."""

import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from helpers.command import INTERRUPTIBLE, environ, patchbench
from helpers.rogue import rogue_attack
from helpers.suites import write

pytestmark = pytest.mark.slow
STUBBORN = """
import os, pathlib, signal, subprocess, tempfile, time
pathlib.Path(tempfile.mkdtemp(), "mine").touch()
other = subprocess.Popen(["sleep", "300"])
pathlib.Path("started").write_text(f"{os.getpid()} {other.pid}")
while True:
    try:
        time.sleep(300)
    except BaseException:
        pass
"""


@contextmanager
def start(folder: Path, code: str) -> Iterator[subprocess.Popen[str]]:
    """Run a suite with a rogue attack; at the end it is killed, also where a failed assertion left it suspended."""
    suite, environment = rogue_attack(folder, code)
    environment["TMPDIR"] = str(folder / "tmp")
    (folder / "tmp").mkdir(exist_ok=True)
    process = subprocess.Popen(
        [*INTERRUPTIBLE, sys.executable, "-m", "harness.cli", "run", suite], cwd=folder, env=environment,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    try:
        yield process
    finally:
        process.kill()
        with process:
            pass


def started(process: subprocess.Popen[str], folder: Path) -> list[int]:
    """Wait for the attack, and return the processes of the command and of what that started."""
    file = folder / "started"
    while not (file.is_file() and len(file.read_text().split()) == 2):
        assert process.poll() is None
        os.sched_yield()
    return [int(pid) for pid in file.read_text().split()]


def is_running(pid: int) -> bool:
    status = Path(f"/proc/{pid}/stat")
    return status.is_file() and status.read_text().rpartition(")")[2].split()[0] != "Z"


@pytest.mark.parametrize(
    ("number", "to", "code", "says"),
    [
        (signal.SIGINT, "parent", 130, "interrupted; finished work is kept: run the same command to resume\n"),
        (signal.SIGINT, "group", 130, "interrupted; finished work is kept: run the same command to resume\n"),
        (signal.SIGINT, "child", 130, "interrupted; finished work is kept: run the same command to resume\n"),
        (signal.SIGTERM, "parent", 143, "terminated; finished work is kept: run the same command to resume\n"),
        (signal.SIGKILL, "child", 137, "error: killed, most often because memory ran out; finished work is kept"),
    ],
)
def test_a_signal_ends_a_command_and_all_that_it_started(tmp_path, number, to, code, says):
    with start(tmp_path, STUBBORN) as process:
        child, grandchild = started(process, tmp_path)
        if to == "group":
            os.killpg(process.pid, number)
        else:
            os.kill({"parent": process.pid, "child": child}[to], number)
        said = process.communicate(timeout=60)
    assert process.returncode == code
    assert said[0] == ""
    assert said[1].startswith(says)
    assert said[1].count("\n") <= 1
    assert not is_running(child)
    assert not is_running(grandchild)
    assert list((tmp_path / "tmp").iterdir()) == []


def test_a_crash_leaves_a_traceback(tmp_path):
    with start(tmp_path, STUBBORN) as process:
        child, grandchild = started(process, tmp_path)
        os.kill(child, signal.SIGSEGV)
        said = process.communicate(timeout=60)[1]
    assert process.returncode == 3
    (file,) = (tmp_path / "tmp").iterdir()
    assert said == f"error: a fault of patchbench: native code crashed with SIGSEGV; please report it, with {file}\n"
    assert "rogue.py" in file.read_text()
    assert not is_running(grandchild)


def test_a_command_dies_with_its_parent(tmp_path):
    with start(tmp_path, STUBBORN) as process:
        child, grandchild = started(process, tmp_path)
        process.kill()
        process.wait()
        while is_running(child):
            os.sched_yield()
        os.kill(grandchild, signal.SIGKILL)


def test_the_parent_imports_nothing_that_starts_threads():
    """It forks; and it is what every command waits for first."""
    code = "import sys; before = set(sys.modules); import harness.cli.main; print(*set(sys.modules) - before)"
    done = subprocess.run([sys.executable, "-c", code], env=environ(), capture_output=True, text=True, check=True)
    imported = {name.partition(".")[0] for name in done.stdout.split()}
    assert imported <= {"harness", "backends", *sys.stdlib_module_names}


def test_a_second_interruption_changes_nothing(tmp_path):
    with start(tmp_path, STUBBORN) as process:
        started(process, tmp_path)
        for _ in range(20):
            os.killpg(process.pid, signal.SIGINT)
        assert process.communicate(timeout=60)[1].count("interrupted") == 1
    assert process.returncode == 130


@pytest.mark.parametrize("stream", ["&-", "/dev/full"])
@pytest.mark.parametrize("arguments", ["--help", "targets suite.toml"])
def test_a_standard_output_that_takes_nothing_is_one_line(tmp_path, arguments, stream):
    write(tmp_path)
    command = f"{shlex.quote(sys.executable)} -m harness.cli {arguments} >{stream}"
    done = subprocess.run(["bash", "-c", command], cwd=tmp_path, env=environ(), capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith("error: standard output: cannot be written")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("kilobytes", [30_000, 60_000, 300_000])
def test_a_limit_on_memory_is_one_line(tmp_path, kilobytes):
    command = f"ulimit -v {kilobytes}; exec {shlex.quote(sys.executable)} -m harness.cli run {write(tmp_path)}"
    done = subprocess.run(["bash", "-c", command], cwd=tmp_path, env=environ(), capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith("error: not enough memory")
    assert done.stderr.count("\n") == 1


def test_a_reader_that_leaves_ends_the_command_without_a_word(tmp_path):
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "harness.cli", "suites", "demo"]
    with os.fdopen(writing, "wb") as pipe:
        done = subprocess.run(
            command, cwd=tmp_path, env=environ(), stdout=pipe, stderr=subprocess.PIPE, text=True, timeout=120
        )
    assert (done.returncode, done.stderr) == (128 + signal.SIGPIPE, "")


@pytest.mark.parametrize(("typed", "near"), [("rn", "run"), ("run.", "run"), ("insepct", "inspect")])
def test_a_command_that_there_is_not_is_one_line_with_the_nearest(tmp_path, typed, near):
    done = patchbench(typed, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (2, f"error: no command {typed!r}; did you mean {near!r}?\n")


def test_closed_streams_are_replaced_by_no_file(tmp_path):
    command = f"exec {shlex.quote(sys.executable)} -m harness.cli targets {write(tmp_path)} >out 2>&- <&-"
    assert subprocess.run(["bash", "-c", command], cwd=tmp_path, env=environ()).returncode == 0
    assert "onnxruntime" in (tmp_path / "out").read_text()


def test_a_suspended_command_goes_on(tmp_path):
    with start(tmp_path, STUBBORN) as process:
        child, _ = started(process, tmp_path)
        os.kill(process.pid, signal.SIGTSTP)
        _, status = os.waitpid(process.pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status)
        while Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[0] != "T":
            os.sched_yield()  # a thread of it may take a moment to stop
        os.kill(process.pid, signal.SIGCONT)
        os.kill(process.pid, signal.SIGINT)
        process.communicate(timeout=60)
    assert process.returncode == 130
    assert not is_running(child)


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("import sys\nsys.exit(0)", "site/rogue.py, line 2, called sys.exit(0): a module must return or raise"),
        ("exit()", "site/rogue.py, line 1, called sys.exit(None)"),
        ("import os\nos._exit(0)", "a module or library that was loaded ended the process with exit code 0"),
    ],
)
def test_a_module_that_ends_the_program_is_an_error(tmp_path, code, says):
    with start(tmp_path, code) as process:
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 2
    assert says in errors
    assert errors.count("\n") == 1

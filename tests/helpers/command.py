"""The command line, in a process of its own."""

import os
import subprocess
import sys
from pathlib import Path

from helpers import ROOT

# Begins a command that is to be interrupted: what a shell runs in the background inherits that Ctrl-C is ignored.
INTERRUPTIBLE = ("env", "--default-signal=INT")


def patchbench(*arguments: object, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "harness.cli", *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, env=environ(**environment), capture_output=True, text=True, timeout=600)


def environ(**extra: str) -> dict[str, str]:
    path = os.pathsep.join(filter(None, [str(ROOT), extra.pop("PYTHONPATH", "")]))
    return os.environ | {"PYTHONPATH": path} | extra

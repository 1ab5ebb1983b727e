"""What reading a file takes, in a process of its own."""

import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
# Not getrusage: its peak begins with that of the process that started this one.
SCRIPT = """
import sys
from pathlib import Path
from backends.device.errors import UserError
{imports}

def peak():
    return int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]) // 1024

before = peak()
said = ""
try:
    {call}
except UserError as error:
    said = str(error)
print(peak() - before, said)
"""


class Reading(NamedTuple):
    """The growth of a process' peak memory in MiB, and the message of its `UserError`, if any."""

    mebibytes: int
    said: str


def reading(imports: str, call: str, *arguments: object) -> Reading:
    """Run one call after some imports, with ``sys.argv[1:]`` as given."""
    script = SCRIPT.format(imports=imports, call=call)
    command = [sys.executable, "-c", script, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stderr == ""
    grown, _, said = done.stdout.rstrip("\n").partition(" ")
    return Reading(int(grown), said)

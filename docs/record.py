"""Run the commands of Get started for real, and keep what they print in ``docs/output/``.

``python docs/record.py FOLDER`` works in an empty folder; after a change of wording, run it again and commit.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

DOCS = Path(__file__).parent
PATCHBENCH = [sys.executable, "-m", "harness.cli"]
FILE = "out/own/artifacts/own-tflite-s8s8-minmax.tflite"


def main(folder: Path) -> None:
    """Run the demo and the example network below a folder."""
    own = folder / "own"
    shutil.copytree(DOCS / "examples" / "own_network", own)
    keep("demo", run(folder, *PATCHBENCH, "run", str(DOCS.parent / "benchmarks/suites/demo.toml")), last_table)
    keep("prepare", run(own, sys.executable, "prepare.py"))
    keep("own", run(own, *PATCHBENCH, "run", "suite.toml", "--data", "."), last_table)
    keep("inspect", run(own, *PATCHBENCH, "inspect", FILE))
    keep("twin", run(own, *PATCHBENCH, "twin", FILE, "--images", "100"))


def run(folder: Path, *command: str) -> str:
    """Return what a command prints, in a terminal too wide to break lines."""
    path = os.pathsep.join([str(DOCS.parent), str(folder)])
    return subprocess.run(
        command, cwd=folder, check=True, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": path}
    ).stdout


def last_table(text: str) -> str:
    """Return the table at the end of a run, without the progress before it and three of its columns."""
    lines = text[text.index("┏") :].splitlines()
    return "\n".join(without(line, ("victim", "patches", "min – max"), lines[1]) for line in lines)


def without(line: str, columns: tuple[str, ...], head: str) -> str:
    """Cut columns, named in the table's head, out of a line of it."""
    edges = [match.start() for match in re.finditer("┃", head)]
    if len(line) <= edges[-1]:
        return line.strip()
    kept = [line[a:b] for a, b in pairwise(edges) if head[a + 1 : b].strip() not in columns]
    return "".join([line[0], *[cell[1:] + line[edges[1]] for cell in kept]])[:-1] + line[-1]


def keep(name: str, text: str, part: Callable[[str], str] = str.strip) -> None:
    """Write the output of a command as a snippet."""
    lines = [line.rstrip() for line in part(text).splitlines()]
    (DOCS / "output" / f"{name}.txt").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))

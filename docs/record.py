"""Keep what the pages quote true: whole files, and the output of commands.

In a page, ``<!-- file: PATH -->`` or ``<!-- output: NAME -->`` stands before a code block that this script fills:
``python docs/record.py`` copies the files. ``python docs/record.py FOLDER`` also runs the commands in that folder,
empty or left by an earlier time, which takes a few minutes; those on a vendor's file only where PATCHBENCH_DATA names
the folder that has it. A test checks that every quoted file is up to date.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs" / "pages").rglob("*.md"))]
NOTEBOOK = ROOT / "docs" / "pages" / "how-to" / "notebook.md"
QUOTED = re.compile(r"<!-- (file|output): (\S+) -->\n```([^\n]*)\n(.*?)```\n", re.DOTALL)
PATCHBENCH = (sys.executable, "-m", "harness.cli")
DEMO = "demo"
FILE = "out/own/artifacts/own-tflite-s8s8-minmax.tflite"
DEMO_FILE = "out/demo/artifacts/cnn-tflite-s8s8-minmax.tflite"


def main(folder: Path | None) -> None:
    """Fill every page's quoted blocks; those of commands only with a folder to run them in."""
    outputs = record(folder) if folder else {}
    for page in PAGES:
        text = page.read_text()
        page.write_text(QUOTED.sub(lambda found: filled(found, outputs), text))


def filled(found: re.Match[str], outputs: dict[str, str]) -> str:
    """Return a quoted block with the file or output that belongs into it."""
    kind, name, fence, old = found.groups()
    new = (ROOT / name).read_text() if kind == "file" else outputs.get(name, old)
    return f"<!-- {kind}: {name} -->\n```{fence}\n{new}```\n"


def record(folder: Path) -> dict[str, str]:
    """Run the demo and the example network, and return what to show of each command."""
    own = folder / "own"
    shutil.copytree(ROOT / "docs" / "examples" / "own_network", own, dirs_exist_ok=True)
    demo = last_table(run(folder, *PATCHBENCH, "run", DEMO))
    outputs = {
        "demo": demo,
        "prepare": run(own, sys.executable, "prepare.py"),
        "own": last_table(run(own, *PATCHBENCH, "run", "suite.toml", "--data", ".")),
        "inspect": inspected(run(own, *PATCHBENCH, "inspect", FILE)),
        "twin": run(own, *PATCHBENCH, "twin", FILE, "--images", "100"),
    }
    outputs |= json.loads(run(own, sys.executable, str(ROOT / "docs" / "cells.py"), str(NOTEBOOK)))
    if data := os.environ.get("PATCHBENCH_DATA"):
        vendor = folder / "vendor"
        vendor.mkdir(exist_ok=True)
        outputs |= json.loads(run(vendor, sys.executable, "-m", "helpers.libraries_page", data).splitlines()[-1])
    outputs["readme-run"] = shown(f"run {DEMO}", shortened(demo, 5))
    inspect = inspected(run(folder, *PATCHBENCH, "inspect", DEMO_FILE))
    outputs["readme-inspect"] = shown(f"inspect {DEMO_FILE}", shortened(inspect, 5))
    twin = run(folder, *PATCHBENCH, "twin", DEMO_FILE, "--kernels", "xnnpack")
    outputs["readme-twin"] = shown(f"twin {DEMO_FILE} --kernels xnnpack", twin)
    baseline = run(folder, *PATCHBENCH, "baseline", "out/demo", "-o", "baselines/demo.json")
    gate = run(folder, *PATCHBENCH, "gate", "baselines/demo.json", "out/demo")
    frozen = shown("baseline out/demo -o baselines/demo.json", baseline)
    outputs["readme-gate"] = frozen + shown("gate baselines/demo.json out/demo", gate)
    return outputs


def run(folder: Path, *command: str) -> str:
    """Return what a command prints where no terminal breaks its lines."""
    path = os.pathsep.join(map(str, (ROOT, ROOT / "harness" / "api", ROOT / "tests", folder)))
    environment = os.environ | {"PYTHONPATH": path}
    done = subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True, env=environment)
    return "".join(f"{line.rstrip()}\n" for line in done.stdout.splitlines())


def shown(command: str, output: str) -> str:
    """Return a command and its output as a terminal shows them."""
    return f"$ .venv/bin/patchbench {command}\n{output}"


def shortened(text: str, most: int) -> str:
    """Cut the middle out of a long table: its head, a few rows, and everything after it."""
    lines = text.splitlines()
    end = next(i for i, line in enumerate(lines) if line.startswith("└"))
    return "\n".join([*lines[:most], "…", *lines[end + 1 :]]) + "\n"


def last_table(text: str) -> str:
    """Return the table that a run ends with, without the progress before it and four of its columns."""
    lines = text[text.index("┏") :].splitlines()
    columns = ("victim", "attack", "patches", "min – max")
    return "".join(f"{without(line, columns, lines[1])}\n" for line in lines)


def inspected(text: str) -> str:
    """Return the table of `inspect` without its widest columns."""
    lines = text.splitlines()
    found = [without(line, ("output", "weights, bias"), lines[2]) for line in lines]
    return "".join(f"{line}\n" for line in found if line.strip("│ "))


def without(line: str, columns: tuple[str, ...], head: str) -> str:
    """Cut columns, named in the table's head, out of a line of the table."""
    edges = [found.start() for found in re.finditer("┃", head)]
    if len(line) <= edges[-1] or line[0] not in "┏┃┡│└":
        return line
    kept = [line[start:end] for start, end in pairwise(edges) if head[start + 1 : end].strip() not in columns]
    first, *others = kept
    joint = {"┏": "┳", "┡": "╇", "└": "┴"}.get(line[0], line[0])
    return line[0] + first[1:] + "".join(joint + cell[1:] for cell in others) + line[edges[-1]]


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else None)

"""Run the Python blocks of a page as a notebook's cells: in order, in one namespace, in the current folder.

``python docs/cells.py PAGE`` prints, as JSON, what each cell said whose output the page shows, by the output's name. A
test runs the pages too. Blocks with a title are files, and no cells.
"""

import contextlib
import io
import json
import re
import sys
from pathlib import Path

CELL = re.compile(r"```python\n(.*?)```\n(?:\n<!-- output: (\S+) -->)?", re.DOTALL)


def run(page: Path) -> dict[str, str]:
    """Return what the cells printed whose output the page shows."""
    said = {}
    namespace: dict[str, object] = {}
    for code, name in CELL.findall(page.read_text()):
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            exec(compile(code, str(page), "exec"), namespace)
        if name:
            said[name] = out.getvalue()
    return said


if __name__ == "__main__":
    print(json.dumps(run(Path(sys.argv[1]))))

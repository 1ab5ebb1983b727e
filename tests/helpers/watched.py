"""Watch one case as the campaigns do, in a process of its own, because a watch never stops listening.

``python watched.py CASE`` runs in the folder that the case may write to, and prints its outcome.
"""

import sys
from pathlib import Path

from watch import Watch

from backends.device.errors import UserError


def refuse() -> None:
    raise UserError("x")


def fail() -> None:
    raise KeyError("x")


def grow() -> None:
    bytearray(600 << 20)


def leave() -> None:
    list(Path("/opt").iterdir())


def write_outside() -> None:
    Path("../canary.txt").write_text("x")


def write_inside() -> None:
    Path("x").write_text("x")


if __name__ == "__main__":
    case = globals()[sys.argv[1]]
    watch = Watch([Path.cwd()], trusted=False)
    watch.learn(lambda: None)
    print(watch.run(case).outcome)

"""A board that answers wrongly: its Python runs the real exchange of files, whose messages pass through a lie.

Run as a program it takes the place of ``python -c``; the variable ``BOARD_LIE`` chooses. The device side is that of
`helpers.lying_device`.
"""

import os
import sys
import time
from pathlib import Path

from helpers import lying_device

SELF = str(Path(__file__).resolve())


def flood(say, what):
    while True:
        os.write(1, b"x" * (1 << 16))


def greet(say, what):
    while True:
        os.write(1, b"welcome\n" * 1000)


def sleep(say, what):
    time.sleep(1000)


def line(text):
    """This instead of the description."""

    def lie(say, what):
        os.write(1, text)
        sys.exit()

    return lie


def changed(**changes):
    """A message that has one of these keys, changed."""
    return lambda say, what: say({**what, **{key: value for key, value in changes.items() if key in what}})


LIES = {
    "a relative home": changed(home="cache"),
    "a home that goes up": changed(home="/home/../etc\n"),
    "no machine": changed(machine={}),
    "a python of no version": lambda say, what: say(
        what | ({"machine": what["machine"] | {"python": "three"}} if "machine" in what else {})
    ),
    "nested": line(b'{"board": {"home": ' + b"[" * 100_000 + b"}}\n"),
    "half a line": line(b'{"board": {"home"'),
    "no newline": flood,
    "greetings": greet,
    "silence": sleep,
    "a file not offered": changed(missing=["ab" * 32]),
    "a path for a hash": changed(missing=["../../etc/passwd"]),
    "the same file twice": lambda say, what: say({"missing": what["missing"] * 2} if "missing" in what else what),
    "not ready": changed(ready=False),
    "a result too long": changed(bytes=1 << 50),
    "a negative result": changed(bytes=-1),
    "an error in colours": lambda say, what: say({"error": "\x1b[2Jgone"}),
}


def python(folder):
    """A board's environment, whose Python lies."""
    path = lying_device.python(folder)
    first, rest = path.read_text().split("\n", 1)
    tests = Path(SELF).parents[1]
    ours = f'[ "$1" = "-c" ] && PYTHONPATH={tests} exec {sys.executable} {SELF} "$2"'
    path.write_text(f"{first}\n{ours}\n{rest}")
    return folder


def main(script):
    *before, last = script.split("\n")
    scope = {"__name__": "exchange"}
    exec("\n".join(before), scope)
    say, lie = scope["_say"], LIES.get(os.environ.get("BOARD_LIE", ""), lambda say, what: say(what))
    scope["_say"] = lambda what: lie(say, what)
    exec(last, scope)


if __name__ == "__main__":
    main(sys.argv[1])

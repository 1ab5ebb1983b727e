"""A device that answers wrongly: the real one, whose events for one case, or whose scores, pass through a lie.

Run as a program it takes the place of ``python -m backends.device.replay``; the variable ``LIE`` chooses.
"""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

LIED_ABOUT = os.environ.get("LIED_ABOUT", "each")
ZEROS = "0" * 64
SELF = str(Path(__file__).resolve())


def dumped(event):
    return json.dumps(event).encode() + b"\n"


def changed(**changes):
    return lambda event, out: [dumped(event | changes)]


def without(key):
    return lambda event, out: [dumped({name: value for name, value in event.items() if name != key})]


def instead(*lines):
    return lambda event, out: [line if isinstance(line, bytes) else dumped(line) for line in lines]


def before(*lines):
    """These lines, and then the truth."""
    return lambda event, out: [*(line if isinstance(line, bytes) else dumped(line) for line in lines), dumped(event)]


def forever(data):
    def lie(event, out):
        while True:
            yield data

    return lie


def ever_more(event, out):
    done = 0
    while True:
        done += 1
        yield dumped({"event": "progress", "case": LIED_ABOUT, "done": done, "of": 6})


def on_standard_error(event, out):
    while True:
        os.write(2, b"x" * (1 << 16))


def scores(change):
    """Scores whose array is changed, still well packed."""

    def lie(event, out):
        import numpy as np

        from backends.device.protocol import PackedArray
        from backends.device.query_server import packed, unpacked

        packed_array = packed(np.asarray(change(unpacked(PackedArray(**event["logits"]), np.float32).copy())))
        return [dumped(event | {"logits": vars(packed_array)})]

    return lie


def result(change):
    """A result file that is changed, with its true hash."""

    def lie(event, out):
        path = out / event["file"]
        change(path)
        sha256 = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else event["file_sha256"]
        return [dumped(event | {"file_sha256": sha256})]

    return lie


def other_arrays(change):
    def write(path):
        import numpy as np

        with np.load(path, allow_pickle=False) as arrays:
            changed_arrays = {name: change(np, array) for name, array in arrays.items()}
        np.savez(path, **changed_arrays)

    return result(write)


def linked(path):
    path.rename(path.with_name("elsewhere"))
    path.symlink_to("elsewhere")


def pipe(path):
    path.unlink()
    os.mkfifo(path)


def far_too_long(path):
    with path.open("r+b") as stream:
        stream.truncate(1 << 40)


CASE = {
    "another case": changed(case="moon"),
    "no such kind": changed(event="rumour"),
    "no kind": changed(event=None),
    "a key missing": without("pixels_sha256"),
    "a key too many": changed(colour="red"),
    "text for a number": changed(seconds="1"),
    "a negative number": changed(seconds=-1),
    "nan": changed(seconds=float("nan")),
    "a long number": instead(b'{"event": "progress", "case": "each", "done": 1' + b"0" * 10_000 + b"}\n"),
    "nested": instead(b'{"event": "case", "case": ' + b"[" * 100_000 + b"]" * 100_000 + b"}\n"),
    "no utf-8": instead(b'{"event": "case", "case": "\xff"}\n'),
    "half a line": instead(b'{"event": "case", "case": "each"\n'),
    "early end": instead({"event": "end"}),
    "an error without words": instead({"event": "error", "message": ""}),
    "colours": instead({"event": "error", "message": "\x1b[2Jgone"}),
    "answered before": changed(case="none", file="none.npz"),
    "loaded again": instead({"event": "loaded", "info": {}, "machine": {}}),
    "scores": instead(
        {
            "event": "scores",
            "query": 1,
            "logits": {"dtype": "float32", "shape": [0], "data": ""},
            "pixels_sha256": ZEROS,
        }
    ),
    "other pixels": changed(pixels_sha256=ZEROS),
    "a defence": changed(defended_sha256=ZEROS),
    "another file": changed(file="none.npz"),
    "a way out": changed(file="../each.npz"),
    "another hash": changed(file_sha256=ZEROS),
    "no file": result(Path.unlink),
    "a pipe": result(pipe),
    "a link": result(linked),
    "a sparse file": lambda event, out: [far_too_long(out / event["file"]) or dumped(event)],
    "no archive": result(lambda path: path.write_bytes(b"PK")),
    "fewer outputs": other_arrays(lambda np, array: array[:, :2]),
    "fewer images": other_arrays(lambda np, array: array[:2]),
    "other numbers": other_arrays(lambda np, array: array.astype(np.float64)),
    "objects": other_arrays(lambda np, array: array.astype(object)),
    "more than all": instead({"event": "progress", "case": "each", "done": 7, "of": 6}),
    "ever more": ever_more,
    "no progress": forever(dumped({"event": "progress", "case": "each", "done": 3, "of": 6})),
    "no newline": forever(b"x" * (1 << 16)),
    "chatter": forever(b"all is well\n" * 1000),
    "chatter on standard error": on_standard_error,
    "after the end": before({"event": "end"}, {"event": "case", "case": "each"}, b"x" * (1 << 20)),
}
PLAUSIBLE = {"other logits": other_arrays(lambda np, array: array + 1)}  # what no check of one answer can find
SCORES = {
    "fewer images": scores(lambda array: array[:2]),
    "fewer outputs": scores(lambda array: array[:, :2]),
    "double": scores(lambda array: array.astype("float64")),
    "nan": scores(lambda array: array * float("nan")),
    "infinite": scores(lambda array: array + float("inf")),
    "half of the data": lambda event, out: [
        dumped(event | {"logits": event["logits"] | {"data": event["logits"]["data"][:8]}})
    ],
    "no base64": lambda event, out: [dumped(event | {"logits": event["logits"] | {"data": "é"}})],
    "another query": changed(query=7),
    "other pixels": changed(pixels_sha256=ZEROS),
    "a key missing": without("logits"),
    "nested": CASE["nested"],
    "a case": instead({"event": "case_error", "case": "", "message": ""}),
    "early end": CASE["early end"],
    "no newline": CASE["no newline"],
    "no progress": forever(dumped({"event": "progress", "case": "", "done": 3})),
}
LATENCY = {
    "fewer runs": changed(n=1),
    "other runs": changed(n=1000),
    "another file": changed(file="none.npz"),
    "no newline": CASE["no newline"],
    "early end": CASE["early end"],
}
OTHERS = {"scores": SCORES, "latency": LATENCY}


def python(folder, real=sys.executable):
    """A Python that runs this in place of the device side, and all else as the real one does."""
    path = folder / "bin/python"
    path.parent.mkdir(parents=True)
    path.write_text(
        f'#!/bin/sh\n[ "$1 $2" = "-m backends.device.replay" ] || exec {real} "$@"\nshift 2; exec {real} {SELF} "$@"\n'
    )
    path.chmod(0o755)
    return path


def main(bundle, out):
    command = [sys.executable, "-m", "backends.device.replay", bundle, out]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as device:
        for line in device.stdout:
            event = json.loads(line)
            lines = [line]
            if event["event"] == "case" and event["case"] == LIED_ABOUT:
                lines = (CASE | PLAUSIBLE)[os.environ["LIE"]](event, Path(out))
            elif lie := OTHERS.get(event["event"], {}).get(os.environ.get("LIE")):
                lines = lie(event, Path(out))
            for each in lines:
                sys.stdout.buffer.write(each)
                sys.stdout.buffer.flush()


if __name__ == "__main__":
    sys.path.insert(0, str(Path.cwd()))  # on a board
    main(*sys.argv[1:])

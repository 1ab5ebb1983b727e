"""Build a network with Rockchip's toolkit and look at its layers: a program for the toolkit's own Python.

``python -m exporters.rknn_build`` reads and writes files of its folder: the float network ``network.onnx``,
``asked.json`` (`Asked`) and ``images.npy``, float32 ``(n, 3, h, w)``; the compiled ``network.rknn``, ``answer.json``,
and ``golden.npy``, the toolkit's own logits in float.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypedDict

import numpy as np

from backends.device.rknn import Build, Layer
from backends.device.runtimes import rknn as runtime

GIVEN, ASKED, FILE, ANSWER, GOLDEN = runtime.NETWORK, "asked.json", "network.rknn", "answer.json", "golden.npy"
ROW = re.compile(
    r"^\[(\w+)\] (\S+)( +[\d.]+ \|.*)?", re.MULTILINE
)  # of its table of layers; a fused one has no figures
LEVELS = 255
DERIVED = ("_int8", "_mm")  # ends the names of what the toolkit adds: integers of an end, products without their bias


class Asked(TypedDict):
    """What to build: by a calibration of the toolkit's, or with ranges by ONNX's names; and how many images to hold.

    A layer that only the toolkit makes gets the range that its calibration ``normal`` finds.
    """

    calibration: str
    ranges: dict[str, tuple[float, float]]
    held: int


@dataclass(frozen=True)
class Seen:
    """A layer over the held images: the cosine to float, and how its values lie on the steps of its range.

    `off` is the furthest that one lies from a whole step, `low` and `high` are the least and the largest integer, and
    `stride` the largest common divisor of the steps between values. One that is not `rounded` has more values than 8
    bits tell apart: it lies inside of what the chip computes at once.
    """

    layer: str
    cosine: float
    rounded: bool
    off: float
    low: int
    high: int
    stride: int


def main() -> None:
    """Build, and write what there is to see."""
    asked = json.loads(Path(ASKED).read_text())
    images = np.load("images.npy", allow_pickle=False)
    names = [f"{i}.npy" for i in range(len(images))]
    for name, image in zip(names, images, strict=True):
        np.save(name, image[None])
    own = asked["calibration"]
    found = runtime.first_step(own or "normal", names)
    ranges = found if own else {name: _range(name, asked["ranges"]) or span for name, span in found.items()}
    kit = runtime.second_step(ranges)
    runtime.check(kit.export_rknn(FILE))
    held = names[: asked["held"]]
    for name in held:
        runtime.check(kit.accuracy_analysis(inputs=[name], output_dir=f"seen-{name}"))
    table = ROW.findall(Path(f"seen-{held[0]}", "error_analysis.txt").read_text())
    pairs = {layer: [_values(f"seen-{name}", layer) for name in held] for _, layer, _ in table}
    seen = {
        layer: _seen(layer, pairs[layer], ranges[layer]) for _, layer, figures in table if figures and layer in ranges
    }
    layers = [
        Layer(operator, layer, pairs[layer][0][0].shape, layer in seen and seen[layer].rounded)
        for operator, layer, _ in table
    ]
    Path(ANSWER).write_text(
        json.dumps({"build": asdict(Build(ranges, layers)), "seen": list(map(asdict, seen.values()))})
    )
    np.save(GOLDEN, np.concatenate([golden for golden, _ in pairs[table[-1][1]]]))


def _range(name: str, known: Mapping[str, tuple[float, float]]) -> tuple[float, float] | None:
    """Return our range of an activation, around 0; None for what only the toolkit has, such as a part of a pool."""
    for one in (name, *(name.removesuffix(end) for end in DERIVED)):
        if one in known:
            low, high = known[one]
            return min(low, 0.0), max(high, 0.0)
    return None


def _values(folder: str, layer: str) -> tuple[np.ndarray, np.ndarray]:
    """Return what a layer gives in float, and in the simulation."""
    files = dict(line.split() for line in Path(folder, "map_name_to_file.txt").read_text().splitlines()[2:])
    name = f"npy/{Path(files[layer]).stem}.npy"
    golden, simulated = (np.load(Path(folder, kind, name), allow_pickle=False) for kind in ("golden", "simulator"))
    return golden, simulated


def _seen(layer: str, pairs: list[tuple[np.ndarray, np.ndarray]], span: tuple[float, float]) -> Seen:
    x, y = (np.concatenate([pair[i].ravel() for pair in pairs]).astype(np.float64) for i in (0, 1))
    cosine = float(x @ y) / max(float(np.sqrt((x @ x) * (y @ y))), 1e-30)
    scale = (span[1] - span[0]) / LEVELS
    zero_point = round(-128 - span[0] / scale)
    steps = y / scale
    whole = np.unique(np.rint(steps).astype(np.int64))
    return Seen(
        layer,
        cosine,
        rounded=len(np.unique(y)) <= LEVELS + 1,
        off=float(np.abs(steps - np.rint(steps)).max()),
        low=int(whole[0]) + zero_point,
        high=int(whole[-1]) + zero_point,
        stride=int(np.gcd.reduce(np.diff(whole))),
    )


if __name__ == "__main__":
    main()

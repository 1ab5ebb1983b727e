"""Read a ``.rknn`` that was exported here: the network and the ranges of which Rockchip's toolkit builds a simulation.

The toolkit simulates what it builds, not what it wrote, so both lie as an archive behind what it wrote: the float
network (ONNX), and as JSON the range of each activation that is an integer.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from backends.device import appended
from backends.device.json_types import typed
from backends.device.reading import ARRAY_BYTES, MEBIBYTE, DamagedFile, parse_json
from backends.device.runtimes import Tensor

NETWORK, BUILD = "network.onnx", "build.json"  # in the archive
MOST = {NETWORK: ARRAY_BYTES, BUILD: 64 * MEBIBYTE}
CHIP = "rk3588"


@dataclass(frozen=True)
class Layer:
    """A layer as the toolkit built it: its operator, the name and shape of its output, and whether that is rounded.

    What is not lies inside of what the chip computes at once, or is one of the ends, in float.
    """

    operator: str
    output: str
    shape: tuple[int, ...]
    rounded: bool


@dataclass(frozen=True)
class Build:
    """What is built: the range ``(low, high)`` of each activation that is an integer, and the layers in order."""

    ranges: dict[str, tuple[float, float]]
    layers: list[Layer]


def append(path: Path, network: bytes, build: Build) -> None:
    """Write a float network and what is built of it behind a compiled file."""
    appended.append(path, {NETWORK: network, BUILD: json.dumps(asdict(build)).encode()})


def read(path: Path) -> tuple[bytes, Build]:
    """Read what lies behind a compiled file; one without it, or a damaged one, is a `DamagedFile`."""
    members = appended.read(path, MOST, "Rockchip's simulator")
    build: Build = typed(Build, parse_json(members[BUILD], f"{path}: {BUILD}"), f"{path}: {BUILD}")
    for name, (low, high) in build.ranges.items():
        if not (low <= 0 <= high and 0 < high - low < math.inf):
            raise DamagedFile(f"{path}: {BUILD}: {name}: expected a range around 0, got {low:g} to {high:g}")
    return members[NETWORK], build


def ends(path: Path, build: Build) -> tuple[Tensor, Tensor]:
    """Return the input and the output of a network: one float32 image in, one float32 vector out."""
    shapes = [layer.shape for layer in build.layers]
    if not shapes or len(shapes[0]) != 4 or shapes[0][0] != 1 or len(shapes[-1]) != 2:
        raise DamagedFile(f"{path}: expected one image in, one vector out")
    return Tensor(shapes[0], np.dtype(np.float32)), Tensor(shapes[-1], np.dtype(np.float32))

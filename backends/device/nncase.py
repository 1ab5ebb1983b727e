"""Read what lies behind a ``.kmodel`` that was exported here: the layers as nncase lowered them for Kendryte's K230.

The file itself holds the chip's instructions, which its simulator runs, and nothing that names a layer or a scale.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Optional

from backends.device import appended
from backends.device.json_types import typed
from backends.device.reading import MEBIBYTE, DamagedFile, parse_json

BUILD = "build.json"  # in the archive
MOST = {BUILD: 64 * MEBIBYTE}


@dataclass(frozen=True)
class Value:
    """A value between layers; ``scale`` is None where it is real."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    scale: Optional[float] = None
    zero_point: int = 0


@dataclass(frozen=True)
class Layer:
    """A layer: its operator by nncase's name, what it takes and what it gives."""

    operator: str
    inputs: list[Value]
    output: Value


@dataclass(frozen=True)
class Build:
    """What was compiled: the layers in order."""

    layers: list[Layer]


def append(path: Path, build: Build) -> None:
    """Write the description of a network behind its compiled file."""
    appended.append(path, {BUILD: json.dumps(asdict(build)).encode()})


def read(path: Path) -> Build:
    """Read what lies behind a compiled file; one without it, or a damaged one, is a `DamagedFile`."""
    members = appended.read(path, MOST, "K230's description")
    build: Build = typed(Build, parse_json(members[BUILD], f"{path}: {BUILD}"), f"{path}: {BUILD}")
    if not build.layers or not all(layer.inputs for layer in build.layers):
        raise DamagedFile(f"{path}: {BUILD}: expected layers that each take something")
    return build

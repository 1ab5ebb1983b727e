"""Read a ``.bmodel`` or ``.cvimodel`` that was exported here: the network that tpu-mlir compiled, behind the file.

A ``.bmodel`` ends where its header says, so that an archive may lie behind it: the quantized network as tpu-mlir's
interpreter takes it (MLIR as text), and its constants. The chip reads what lies before.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

import numpy as np

from backends.device import appended
from backends.device.errors import UserError
from backends.device.reading import ARRAY_BYTES, MEBIBYTE, DamagedFile, first_line
from backends.device.runtimes import Tensor

NETWORK, WEIGHTS = "network.mlir", "weights.npz"  # in the archive
MOST = {NETWORK: 64 * MEBIBYTE, WEIGHTS: ARRAY_BYTES}
WEIGHT_FILE = re.compile(r'(module\.weight_file = )"[^"\n]*"')
CHIP = re.compile(r'module\.chip = "(\w+)"')
MAIN = re.compile(r"func\.func @main\((.*)\) -> (.*) \{$", re.MULTILINE)
TENSOR = re.compile(r"tensor<((?:\d+x)*)(\w+)>")


class Program(NamedTuple):
    """What the interpreter runs: a network as text, the content of its constants' file, the chip that it is for."""

    text: str
    weights: bytes
    chip: str


def append(path: Path, text: str, weights: bytes) -> None:
    """Write a network and its constants behind a compiled file."""
    named = WEIGHT_FILE.sub(rf'\g<1>"{WEIGHTS}"', text)
    appended.append(path, {NETWORK: named.encode(), WEIGHTS: weights})


def read(path: Path) -> Program:
    """Read what lies behind a compiled file; one without it, or a damaged one, is a `DamagedFile`."""
    members = appended.read(path, MOST, "tpu-mlir's interpreter")
    try:
        text = members[NETWORK].decode()
    except UnicodeDecodeError as error:
        raise DamagedFile(f"{path}: its network is not a text ({first_line(error)})") from error
    chip = CHIP.search(text)
    if not chip or not WEIGHT_FILE.search(text):
        raise DamagedFile(f"{path}: its network is not as tpu-mlir writes it")
    return Program(text, members[WEIGHTS], chip.group(1))


def placed(program: Program, folder: Path) -> Path:
    """Write a program's two files into a folder; return that of the network, which names the other by its path."""
    constants, network = folder / WEIGHTS, folder / NETWORK
    constants.write_bytes(program.weights)
    network.write_text(WEIGHT_FILE.sub(lambda found: f'{found.group(1)}"{constants}"', program.text))
    return network


def ends(path: Path, program: Program) -> tuple[Tensor, Tensor]:
    """Return the input and the output of a network: one each, float32, for one image."""
    main = MAIN.search(program.text)
    found = [TENSOR.findall(part) for part in main.groups()] if main else []
    if [len(one) for one in found] != [1, 1] or {dtype for ((_, dtype),) in found} != {"f32"}:
        raise UserError(f"{path}: expected one float32 image in, one float32 vector out")
    given, wanted = (tuple(map(int, axes[:-1].split("x"))) for ((axes, _),) in found)
    if len(given) != 4 or given[0] != 1:
        raise UserError(f"{path}: takes inputs {list(given)}, expected one image at a time")
    return Tensor(given, np.dtype(np.float32)), Tensor(wanted, np.dtype(np.float32))

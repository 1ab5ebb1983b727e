"""Find weights, read them without unpickling, and fit them to a network."""

from __future__ import annotations

import copy
import io
import re
from collections.abc import Mapping
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.modules.utils import consume_prefix_in_state_dict_if_present

from backends.device.artifact import sha256_file
from backends.device.errors import UserError
from backends.device.files import replacing
from backends.device.reading import DamagedFile
from harness import config
from harness.data.downloads import fetch, file_name
from harness.display import Progress
from harness.networks.architectures import is_torchvision
from harness.networks.checkpoints import read_checkpoint
from harness.torchvision_import import import_torchvision

State = dict[str, Tensor]
SHIPPED = Path(__file__).parent / "shipped"  # MODEL-NAME.pt
PREFIX = "module."  # of torch.nn.DataParallel
WRAPPERS = ("state_dict", "model_state_dict", "model")  # where training scripts keep the state dict in what they save


def find_weights(
    table: config.VictimTable, data_dir: Path | None, cache: Path, progress: Progress | None = None
) -> Path:
    """Return the file of a victim's weights: shipped, under ``--data``, or downloaded by its URL or torchvision's name.

    No such file, or one with another sha256, is a `UserError`.
    """
    shipped = SHIPPED / f"{table.model}-{table.weights}.pt"
    if shipped in SHIPPED.iterdir():
        _verify(shipped, table.weights_sha256)
        return shipped
    url = table.weights or ""
    sha256 = table.weights_sha256
    if published := _torchvision_url(table):
        url = published
        sha256 = sha256 or _published_hash(published)
    file = file_name(url) if "://" in url else url
    if data_dir and (data_dir / file).is_file():
        _verify(data_dir / file, sha256)
        return data_dir / file
    where = f"not under --data {data_dir}" if data_dir else "--data (or PATCHBENCH_DATA) is not given"
    missing = f"weights of victim {table.name!r}: {file}: {where}"
    fix = "put the file under --data (or PATCHBENCH_DATA)"
    if "://" not in url:
        raise UserError(f"{missing}; {fix}, or give weights = a URL with its weights_sha256")
    if not sha256:
        raise UserError(f"{missing}; {fix}, or give weights_sha256 beside the URL, so that it can be downloaded")
    try:
        return fetch(url, sha256, cache, progress)
    except UserError as error:
        raise UserError(f"{missing}, and it cannot be downloaded: {error}; {fix}, or go online") from error


def write_tensors(content: Mapping[str, object], file: Path) -> None:
    """Write tensors, whole or not at all; the bytes do not depend on where.

    torch's own writer says no more of a full disk than that a position was unexpected.
    """
    buffer = io.BytesIO()
    torch.save(content, buffer)
    with replacing(file) as draft:
        draft.write_bytes(buffer.getbuffer())


def read_weights(file: Path) -> State:
    """Read a state dict, also one wrapped by a training script; anything else is a `DamagedFile`."""
    content = read_checkpoint(file)
    for wrapper in WRAPPERS:
        if isinstance(content.get(wrapper), dict):
            content = content[wrapper]
    state = cast(State, content)
    if not state or not all(isinstance(name, str) and isinstance(t, Tensor) for name, t in state.items()):
        raise DamagedFile(f"{file}: expected a state dict: tensors by name")
    if all(name.startswith(PREFIX) for name in state):
        consume_prefix_in_state_dict_if_present(state, PREFIX)
    return state


def load_weights(network: nn.Module, state: State, file: Path) -> None:
    """Load a state dict into a network, which keeps its dtypes; weights that do not fit are a `UserError`.

    Counters of batch normalisation (``num_batches_tracked``), which old files lack, have no effect and become 0.
    """
    complete = copy.copy(state)  # keeps the versions of the modules, which torch has in an attribute of the dict
    for name, tensor in network.state_dict().items():
        if name.endswith("num_batches_tracked"):
            complete.setdefault(name, torch.zeros_like(tensor))
    try:
        network.load_state_dict(complete)
    except Exception as error:  # a module's own loading can raise anything
        raise UserError(f"{file}: these weights do not fit the network: {_misfit(network, complete, error)}") from error


def _misfit(network: nn.Module, state: State, error: Exception) -> str:
    """Name the first three tensors that do not fit; without any, what torch or the network says."""
    expected = network.state_dict()
    faults = [f"{name} is missing" for name in expected if name not in state]
    faults += [f"{name} is unexpected" for name in state if name not in expected]
    faults += [
        f"{name} is {tuple(state[name].shape)} instead of {tuple(tensor.shape)}"
        for name, tensor in expected.items()
        if name in state and state[name].shape != tensor.shape
    ]
    if not faults:
        return f"{type(error).__name__}: {error}"
    more = f" and {len(faults) - 3} more" if len(faults) > 3 else ""
    return "; ".join(faults[:3]) + more


def _torchvision_url(table: config.VictimTable) -> str | None:
    """Return the URL behind a name such as IMAGENET1K_V1; None for any other name."""
    if not re.fullmatch(r"[A-Z0-9_]+", table.weights or "") or not is_torchvision(table.model):
        return None
    published = import_torchvision().models.get_model_weights(table.model)
    if table.weights not in published.__members__:
        names = ", ".join(published.__members__) or "none"
        raise UserError(
            f"victim {table.name!r}: torchvision has no weights {table.weights} for {table.model}; it has {names}"
        )
    url: str = published[table.weights].url
    return url


def _published_hash(url: str) -> str | None:
    """Return the first digits of the sha256, which torchvision puts into its file names."""
    found = re.search(r"-([0-9a-f]{8,})\.", url)
    return found.group(1) if found else None


def _verify(file: Path, sha256: str | None) -> None:
    if sha256 and not (found := sha256_file(file)).startswith(sha256.lower()):
        raise UserError(f"{file}: expected sha256 {sha256}, got {found}")

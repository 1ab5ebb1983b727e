"""The file that defines a user's own network, for the key of what is made with it."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

from backends.device.artifact import sha256_file


def code_sha256(model: str) -> str:
    """Return the hash of the file of a network ``package.module:function``; empty for a built-in one."""
    module, colon, _ = model.partition(":")
    if not colon:
        return ""
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        spec = importlib.util.find_spec(module)
    except Exception:  # a user's package can raise anything; building the network tells it
        spec = None
    return sha256_file(Path(spec.origin)) if spec and spec.origin and Path(spec.origin).is_file() else ""

"""The artifact itself: its very integers forward, straight-through gradients backward."""

from __future__ import annotations

from pathlib import Path

from backends.device.artifact import Artifact
from patches.twins import Twin, twin


def surrogate(description: Path, kernels: str = "") -> Twin:
    """The twin of an artifact, given the path of its description; by default of the first `patches.twins.KERNELS`."""
    artifact = Artifact.read(description)
    return twin(description.parent / artifact.file, kernels or None, artifact.preproc, artifact.class_offset)

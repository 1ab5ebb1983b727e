"""The Python API: everything here is public, and nothing else is. Importing it imports no torch."""

import patchbench_packages.ours  # noqa: F401 — an error where one of the packages below is another's

from backends.device.artifact import Artifact, Preproc, QuantSpec
from backends.device.errors import UserError
from exporters.files.description import Description
from harness.api.crafting import craft, paste
from harness.api.exporting import export
from harness.api.files import inspect
from harness.api.replaying import Replay, replay
from harness.api.runs import Run, load_run, run
from harness.api.twinning import twin
from patches.patch import Patch

__all__ = [
    "Artifact",
    "Description",
    "Patch",
    "Preproc",
    "QuantSpec",
    "Replay",
    "Run",
    "UserError",
    "craft",
    "export",
    "inspect",
    "load_run",
    "paste",
    "replay",
    "run",
    "twin",
]

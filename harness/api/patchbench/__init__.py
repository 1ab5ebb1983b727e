"""The Python API: everything here is public, and nothing else is. Importing it imports no torch."""

import patchbench_packages.ours  # noqa: F401 — an error where one of the packages below is another's

from backends.device.errors import UserError

__all__ = ["UserError"]

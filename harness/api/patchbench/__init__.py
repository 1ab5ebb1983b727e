"""The Python API: everything here is public, and nothing else is. Importing it imports no torch."""

from backends.device.errors import UserError

__all__ = ["UserError"]

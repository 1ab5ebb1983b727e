"""Say why a library's exporter or converter failed, and at which of the user's files."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

from backends.device.errors import UserError


def reason(error: BaseException) -> str:
    """Return an exception's innermost cause in one line, with the operator at which it was raised, if it was one.

    Exporters wrap the exception that matters in others; some messages, like that of ``KeyError('')``, say nothing.
    """
    while error.__cause__ is not None:
        error = error.__cause__
    message = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    operator = _operator(error.__traceback__)
    place = f"operator {operator} is not supported: " if operator else ""
    return f"{place}{type(error).__name__}: {message}"


@contextmanager
def naming(file: Path, temporary: Path) -> Iterator[None]:
    """Let a `UserError` name the user's file, where it would name a temporary one."""
    try:
        yield
    except UserError as error:
        raise UserError(str(error).replace(str(temporary), str(file))) from error


def _operator(traceback: TracebackType | None) -> str:
    """Return the type of the ONNX node that the innermost frame with a ``node`` was working on."""
    found = ""
    while traceback is not None:
        op_type = getattr(traceback.tb_frame.f_locals.get("node"), "op_type", "")
        found = op_type if isinstance(op_type, str) and op_type else found
        traceback = traceback.tb_next
    return found

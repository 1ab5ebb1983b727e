"""Silence libraries that print."""

from __future__ import annotations

import os
import sys
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout


@contextmanager
def quiet() -> Iterator[None]:
    """Discard warnings and everything written to standard output and error, from C++ too.

    torch.onnx, torchao, litert-torch and its converter print progress, CUDA load failures and log lines, and share no
    switch. Do not use it beside other threads that print.
    """
    with tempfile.TemporaryFile() as sink, open(os.devnull, "w") as void:  # noqa: PTH123
        sys.stdout.flush()
        sys.stderr.flush()
        kept = {fd: os.dup(fd) for fd in (1, 2)}
        try:
            for fd in kept:
                os.dup2(sink.fileno(), fd)
            with warnings.catch_warnings(), redirect_stdout(void), redirect_stderr(void):
                warnings.simplefilter("ignore")
                yield
        finally:
            for fd, copy in kept.items():
                os.dup2(copy, fd)
                os.close(copy)

"""The page of the attacks, written from the signatures and docstrings of their functions."""

import json
from inspect import Parameter, cleandoc, signature

from harness.cli import app  # noqa: F401  # sets nothing, but fails early where the package is missing
from patches import attacks

HEAD = """# Attacks and their options

`[[attack]] name = "…"` takes one of these; `options = { … }` takes the options below. This page is generated from
`patches/attacks/`; [Choose an attack](../how-to/attacks.md) says when to use which.
"""

"""Surrogate: what a patch is crafted on, in the words that suites and results use."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from backends.device.json_types import typed
from backends.device.reading import parse_json

PRECISION = re.compile(r"w([2-8]|32)a([2-8]|32)")  # bits of weights and activations; 32 rounds nothing
OF_ARTIFACTS = ("twin", "device")  # kinds made of a file; the others are made of a network
SIMULATED = ("fake_quant", "qat")  # a network at a precision, rounded or trained to it
EXACT = ("twin", *SIMULATED)  # their integer levels would blur in bfloat16
ENSEMBLE = "ensemble"
EXPECTS = re.compile(r" (?:with defence|through) ")  # runs before December 2026 say "through"


@dataclass(frozen=True)
class Surrogate:
    """What a patch is crafted on.

    ``of`` names the network or the artifact; empty for the attacked victim itself. ``precision`` is that of a simulated
    kind, such as ``w4a4``; without one, ``of`` is an artifact. ``variant`` is the kernels of a twin or the target of a
    device. ``defence`` is what the attacker expects before the surrogate. Only an ensemble has ``members``.
    """

    kind: str
    of: str = ""
    precision: str = ""
    variant: str = ""
    defence: str = ""
    members: tuple[Surrogate, ...] = ()

    @classmethod
    def parse(cls, words: str | Sequence[str]) -> Surrogate:
        """Read the words of a suite, a list for an ensemble, or a cell of the results' ``surrogate`` column."""
        if not isinstance(words, str):
            return cls(ENSEMBLE, members=tuple(cls.parse(word) for word in words))
        words, *expected = EXPECTS.split(words, maxsplit=1)
        defence = expected[0] if expected else ""
        if words.startswith("["):
            return replace(cls.parse(typed(list[str], parse_json(words, words), words)), defence=defence)
        kind, _, rest = words.partition(":")
        first, _, second = rest.partition(":")
        if kind in OF_ARTIFACTS:
            return cls(kind, of=first, variant=second, defence=defence)
        if kind in SIMULATED and PRECISION.fullmatch(first):
            return cls(kind, of=second, precision=first, defence=defence)
        return cls(kind, of=rest, defence=defence)

    def __str__(self) -> str:
        """Return the words of the results' ``surrogate`` column, which `parse` reads back."""
        if self.members:
            words = json.dumps([str(member) for member in self.members])
        else:
            words = ":".join(filter(None, (self.kind, self.precision, self.of, self.variant)))
        return f"{words} with defence {self.defence}" if self.defence else words

    @property
    def is_of_artifact(self) -> bool:
        """Whether ``of`` names an artifact rather than a network."""
        return self.kind in OF_ARTIFACTS or (self.kind in SIMULATED and not self.precision)

    def without(self, victim: str) -> Surrogate:
        """Leave out the name of a victim, as results do where it is the attacked one."""
        members = tuple(member.without(victim) for member in self.members)
        of = "" if self.of == victim and not self.is_of_artifact else self.of
        return replace(self, of=of, members=members)

"""What the operators drawn at random share: numbers from hypothesis, and scales at which roundings differ."""

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import numpy as np
from hypothesis import strategies as st

scales = st.one_of(st.floats(1 / 512, 1 / 4, width=32), st.integers(1, 100).map(lambda n: float(np.float32(n / 400))))
ratios = st.one_of(st.floats(1 / 4, 3, width=32), st.sampled_from([0.5, 1.0, 2.0]), st.floats(1 / 64, 16, width=32))


class Draws:
    """Draws choices and numbers."""

    draw: Callable[[Any], Any]

    def one(self, *choices: Any) -> Any:
        return self.draw(st.sampled_from(choices))

    def up_to(self, most: int, least: int = 1) -> int:
        return int(self.draw(st.integers(least, most)))

    def rounded(self, scale: float) -> float:
        """A scale as it is, or to one digit: rules of rounding differ at ties, which other scales hardly meet."""
        return float(f"{scale:.1g}") if self.draw(st.booleans()) else scale

    def other_shape(self, shape: Sequence[int]) -> tuple[int, ...]:
        """A shape of as many elements: axes exchanged, two joined, or all."""
        wanted = self.draw(st.permutations([*shape, 1]))
        joined = (*wanted[:-2], wanted[-2] * wanted[-1])
        return tuple(self.one(wanted, joined, (prod(shape),)))

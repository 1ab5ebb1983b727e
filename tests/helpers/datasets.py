"""Tables and images of small data sets."""

import numpy as np

from harness import config

RNG = np.random.default_rng(0)


def spec(name="npz", **keys):
    return (
        config.DataTable(name=name, **{"path": "some.npz"} | keys)
        if name == "npz"
        else config.DataTable(name=name, **keys)
    )


def some_images(n, side=6):
    return RNG.integers(0, 256, (n, side, side, 3)).astype(np.uint8)

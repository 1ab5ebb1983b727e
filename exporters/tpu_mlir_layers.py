"""How near a quantized network is to its float network, layer by layer: a program for tpu-mlir's own Python.

``python tpu_mlir_layers.py FLOAT.mlir QUANTIZED.mlir IMAGES.npy`` prints the cosine of each layer's outputs over the
images, float32 ``(n, 3, h, w)``, as a line of JSON: a list of names and cosines, in order.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np


def loaded(file: str) -> Any:
    """Return a network that its interpreter runs."""
    import pymlir

    network = pymlir.module()
    network.load(file)
    network.set_progress_silent(True)
    return network


def main(arguments: Sequence[str]) -> None:
    """Print how near the layers are."""
    import pymlir

    pymlir.set_mem_mode("value_mem")  # without it, it answers zeros
    networks = [loaded(file) for file in arguments[:2]]
    there = set(networks[1].all_tensor_names)
    names = [name for name in networks[0].all_tensor_names if name in there]
    sums = {name: np.zeros(3) for name in names}
    for image in np.load(arguments[2], allow_pickle=False):
        for network in networks:
            network.set_tensor(network.input_names[0], image[None], image[None].shape)
            network.invoke(True)
        for name in names:
            x, y = (np.array(network.get_tensor(name), np.float64).ravel() for network in networks)
            sums[name] += x @ y, x @ x, y @ y
    print(json.dumps([(name, xy / max(np.sqrt(xx * yy), 1e-30)) for name, (xy, xx, yy) in sums.items()]))


if __name__ == "__main__":
    main(sys.argv[1:])

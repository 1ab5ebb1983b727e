"""The page on attack libraries. ``python -m helpers.libraries_page DATA`` prints, as JSON, what its cells say."""

import json
import runpy
import shutil
import sys
from pathlib import Path

import numpy as np

from harness.torchvision_import import import_torchvision
from helpers import ROOT
from helpers.peers import peers

PAGE = ROOT / "docs" / "pages" / "how-to" / "libraries.md"
N = 100


def prepare(data: Path) -> None:
    """Bring what the page begins with into the current folder, where its reader has no PATCHBENCH_DATA."""
    import_torchvision()  # ART imports it
    shutil.copy(data / "vendor" / "mlperf_tiny_resnet8_int8.tflite", "vendor.tflite")
    with np.load(data / "cifar10" / "cifar10.npz", allow_pickle=False) as cifar:
        np.save("images.npy", cifar["x_test"][:N])
        np.save("labels.npy", cifar["y_test"][:N].astype(np.int64))


if __name__ == "__main__":
    prepare(Path(sys.argv[1]))
    sys.path.insert(0, str(peers()))
    print(json.dumps(runpy.run_path(str(ROOT / "docs" / "cells.py"))["run"](PAGE)))

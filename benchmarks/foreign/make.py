"""Write files as others make them, with this project's packages: ``python benchmarks/foreign/make.py FOLDER``.

The images are scikit-learn's digits, real ones, at 32 by 32 pixels.
"""

import sys
from pathlib import Path

import numpy as np
import typer

sys.path.append(str(Path(__file__).parents[2] / "tests"))
from helpers import foreign_onnx, foreign_tflite

from harness import config
from harness.data import datasets

SIZE = 32
SHOWN = 100


def main(folder: Path) -> None:
    """Write ``images.npz`` and a file of each kind."""
    folder.mkdir(parents=True, exist_ok=True)
    pools = datasets.load(config.DataTable(name="digits"), (SIZE, SIZE), None, folder)
    train, test = pools["train"], pools["test"]
    np.savez(
        folder / "images.npz", train=train.pixels, train_labels=train.labels, test=test.pixels[:SHOWN],
        test_labels=test.labels[:SHOWN],
    )  # fmt: skip
    reals = train.pixels[:64].transpose(0, 3, 1, 2).astype(np.float32) / np.float32(255)
    for name in foreign_onnx.KINDS:
        foreign_onnx.write(name, folder / f"onnxruntime, {name}.onnx", reals)
    for name in foreign_tflite.KINDS:
        foreign_tflite.write(name, folder / f"TFLite, {name}.tflite")


if __name__ == "__main__":
    typer.run(main)

"""Write TFLite files as TensorFlow's converter does: ``python benchmarks/foreign/make_with_tensorflow.py FOLDER``.

Needs an environment of its own with ``tensorflow-cpu``, and the images that ``make.py`` wrote to FOLDER.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

CALIBRATION = 128
EPOCHS = 3
INTEGERS = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
WIDE = [tf.lite.OpsSet.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8]
KINDS: dict[str, dict[str, Any]] = {
    "float in and out": {},
    "int8 in and out": {"inference_input_type": tf.int8, "inference_output_type": tf.int8},
    "uint8 in and out": {"inference_input_type": tf.uint8, "inference_output_type": tf.uint8},
    "per tensor": {"_experimental_disable_per_channel": True},
    "older quantizer": {"experimental_new_quantizer": False},
    "int16x8": {"ops": WIDE},
    "dynamic range": {"ops": None},
}


def main(folder: Path) -> None:
    """Train a network, and write a file of each kind."""
    tf.keras.utils.set_random_seed(0)
    with np.load(folder / "images.npz") as made:
        images, labels = made["train"].astype(np.float32) / np.float32(255), made["train_labels"]
    network = built(images.shape[1])
    network.compile("adam", tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    network.fit(images, labels, batch_size=64, epochs=EPOCHS, verbose=0)
    for name, settings in KINDS.items():
        (folder / f"TensorFlow, {name}.tflite").write_bytes(converted(network, images[:CALIBRATION], **settings))


def built(size: int) -> tf.keras.Model:
    """Build a residual block, one of its convolutions depthwise, between two kinds of pooling."""
    layers = tf.keras.layers
    entry = layers.Input((size, size, 3), batch_size=1)
    x = layers.BatchNormalization()(layers.Conv2D(16, 3, strides=2, padding="same")(entry))
    stem = layers.MaxPooling2D()(layers.ReLU()(x))
    deep = layers.ReLU(6)(layers.BatchNormalization()(layers.DepthwiseConv2D(3, padding="same")(stem)))
    both = layers.ReLU()(layers.Add()([layers.Conv2D(16, 3, padding="same")(deep), stem]))
    joined = layers.Concatenate()([both, layers.AveragePooling2D(3, 1, padding="same")(deep)])
    last = layers.Dense(10)(layers.GlobalAveragePooling2D()(joined))
    flexible = layers.Input((size, size, 3))
    network = tf.keras.Model(entry, last)
    return tf.keras.Model(flexible, network(flexible))


def converted(network: tf.keras.Model, images: np.ndarray, ops: Any = INTEGERS, **settings: Any) -> bytes:
    """Convert a network, in integers unless `ops` is None, whose weights alone are quantized."""
    made = tf.lite.TFLiteConverter.from_keras_model(network)
    made.optimizations = [tf.lite.Optimize.DEFAULT]
    if ops is not None:
        made.target_spec.supported_ops = ops
        made.representative_dataset = lambda: _one_by_one(images)
    for name, value in settings.items():
        setattr(made, name, value)
    file: bytes = made.convert()
    return file


def _one_by_one(images: np.ndarray) -> Iterator[list[np.ndarray]]:
    for image in images:
        yield [image[None]]


if __name__ == "__main__":
    main(Path(sys.argv[1]))

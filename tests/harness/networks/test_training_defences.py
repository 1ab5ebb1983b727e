"""Trainings with a defence: the same whether interrupted or not, and what they are for."""

from dataclasses import replace

import numpy as np
import pytest
from helpers import small_networks as small
from helpers.small_networks import PIXELS, SPEC

from backends.device.errors import UserError
from harness import config
from harness.data.datasets import Images
from harness.networks import architectures, training, victims
from harness.networks import quantization_aware_training as qat
from patches.training_defences import names

pytestmark = pytest.mark.usefixtures("one_thread")
RNG = np.random.default_rng(0)
LABELS = np.arange(24) % 3
COLOURED = RNG.integers(0, 64, (24, 16, 16, 3)).astype(np.uint8)
COLOURED[np.arange(24), :, :, LABELS] += 150  # a class is a colour
IMAGES = Images(COLOURED, LABELS, tuple(map(str, range(24))))


class Killed(Exception):
    pass


def killed_at(step):
    def progress(done, of, text):
        if done == step:
            raise Killed

    return progress


def float_digest(folder, name, table, progress=None):
    network = architectures.build("resnet8", 3, seed=1)
    return victims.weights_digest(training.train(network, IMAGES, table, folder / name, progress).state_dict())


@pytest.mark.parametrize("name", names())
def test_an_interrupted_training_ends_bit_identical(tmp_path, name):
    table = config.TrainTable(epochs=2, batch=8, defence=f"{name}:4")
    whole = float_digest(tmp_path, "whole", table)
    with pytest.raises(Killed):
        float_digest(tmp_path, "killed", table, killed_at(5))
    assert float_digest(tmp_path, "killed", table) == whole
    assert float_digest(tmp_path, "other", config.TrainTable(epochs=2, batch=8)) != whole


@pytest.mark.parametrize("name", names())
def test_quantization_aware_training_takes_a_defence(tmp_path, name):
    images = Images(PIXELS, np.zeros(len(PIXELS), np.int64), tuple(map(str, range(len(PIXELS)))))
    quant = replace(SPEC, weight_bits=4, activation_bits=4)
    found = []
    for defence in ("", f"{name}:4", f"{name}:4"):
        table = config.QatTable(epochs=1, batch=16, defence=defence)
        checkpoint = tmp_path / f"{len(found)}.pt"
        found.append(qat.digest(qat.train(small.resnet(), quant, images, PIXELS, table, checkpoint)))
    assert found[0] != found[1] == found[2]


def test_a_patch_larger_than_the_images_is_refused(tmp_path):
    table = config.TrainTable(epochs=1, batch=8, defence="pat:17")
    with pytest.raises(UserError, match="does not fit into 16x16 images"):
        float_digest(tmp_path, "c", table)

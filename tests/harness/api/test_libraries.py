"""Attack libraries, as they are: on a file's twin, and on its runtime as a black box."""

import numpy as np
import patchbench
import pytest
import torch
from helpers import ROOT
from helpers.peers import peers
from torch import nn

from harness.data.readers import read_digits
from harness.torchvision_import import import_torchvision

FILE = ROOT / "benchmarks" / "baselines" / "demo" / "resnet8.tflite"
IMAGES = read_digits((32, 32))["test"]
PIXELS, LABELS = IMAGES.pixels[:40], IMAGES.labels[:40]
X = (PIXELS.transpose(0, 3, 1, 2) / 255).astype(np.float32)
SIZE = X.shape[1:]
EPSILON = 24 / 255

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_thread")]


@pytest.fixture(autouse=True)
def seeded():
    np.random.seed(0)  # noqa: NPY002 — what ART draws from
    torch.manual_seed(0)


@pytest.fixture(scope="module")
def twin():
    return patchbench.twin(FILE)


@pytest.fixture
def beside(monkeypatch):
    monkeypatch.syspath_prepend(str(peers()))


@pytest.fixture(scope="module")
def art():
    import_torchvision()  # the toolbox imports it
    from art import estimators

    return estimators.classification


def rounded(x):
    return (np.asarray(x) * 255).round().astype(np.uint8).transpose(0, 2, 3, 1)


def on_runtime(x):
    """Logits of pixels in [0, 1] on LiteRT, rounded to what a device is shown."""
    return patchbench.replay(FILE, rounded(x), "litert", timed_runs=0).logits


def misled(twin, x):
    """The share of wrong answers on the runtime, which are those of the twin one by one."""
    x = np.asarray(x)
    with torch.no_grad():
        said = twin(torch.from_numpy(x)).argmax(1).numpy()
    answers = on_runtime(x).argmax(1)
    assert (answers == said).all()
    return (answers != LABELS).mean()


def farthest(x):
    return np.abs(rounded(x).astype(int) - PIXELS).max()


def test_pgd_of_art(twin, art):
    from art.attacks.evasion import ProjectedGradientDescent

    network = art.PyTorchClassifier(twin, nn.CrossEntropyLoss(), SIZE, 10, clip_values=(0, 1), device_type="cpu")
    attack = ProjectedGradientDescent(network, eps=EPSILON, eps_step=EPSILON / 4, max_iter=8, verbose=False)
    found = attack.generate(X, LABELS)
    assert farthest(found) == 24
    assert misled(twin, found) > 0.8 > 0.1 > misled(twin, X)


def test_a_patch_of_art(twin, art):
    from art.attacks.evasion import AdversarialPatchPyTorch

    network = art.PyTorchClassifier(twin, nn.CrossEntropyLoss(), SIZE, 10, clip_values=(0, 1), device_type="cpu")
    attack = AdversarialPatchPyTorch(
        network, rotation_max=0.0, scale_min=0.4, scale_max=0.41, learning_rate=0.2, max_iter=10, batch_size=40,
        patch_shape=SIZE, patch_type="square", optimizer="Adam", targeted=False, verbose=False,
    )  # fmt: skip
    attack.generate(X, LABELS)
    assert misled(twin, attack.apply_patch(X, scale=0.4)) > 0.3


def test_pgd_of_foolbox(twin, beside):
    import foolbox

    network = foolbox.PyTorchModel(twin, bounds=(0, 1))
    attack = foolbox.attacks.LinfPGD(steps=8, rel_stepsize=0.25)
    _, found, succeeded = attack(network, torch.from_numpy(X), torch.from_numpy(LABELS), epsilons=EPSILON)
    assert farthest(found) == 24
    assert misled(twin, found) == succeeded.float().mean() > 0.8


def test_pgd_of_torchattacks(twin, beside):
    import torchattacks

    attack = torchattacks.PGD(twin, eps=EPSILON, alpha=EPSILON / 4, steps=8)
    found = attack(torch.from_numpy(X), torch.from_numpy(LABELS))
    assert farthest(found) == 24
    assert misled(twin, found) > 0.8


def test_a_runtime_is_a_black_box_for_art(twin, art):
    from art.attacks.evasion import SquareAttack

    box = art.BlackBoxClassifierNeuralNetwork(on_runtime, SIZE, 10, clip_values=(0, 1), channels_first=True)
    found = SquareAttack(box, eps=96 / 255, max_iter=2, batch_size=40, verbose=False).generate(X, LABELS)
    assert 24 < farthest(found) <= 96
    assert misled(twin, found) > misled(twin, X)

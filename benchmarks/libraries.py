"""Attack vendors' INT8 files with other libraries, on their twins, and count on LiteRT.

    python benchmarks/libraries.py --data DIR [--images 100]        # writes results/libraries.md; half an hour

Each attack is a library's own, unmodified, on the module that `patchbench.twin` gives; the last one queries LiteRT.
Their images are rounded to uint8 and replayed. Wrong answers are counted over all images.
"""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, NamedTuple

import numpy as np
import patchbench
import torch
import typer
from torch import nn

from harness import config
from harness.data import datasets
from harness.torchvision_import import import_torchvision

ROOT = Path(__file__).parents[1]
CIFAR10 = config.DataTable(name="cifar10", calibration=1, craft=1, evaluate=1000)
IMAGENET = config.DataTable(name="imagenet", crop=0.875)
FILES = {"mlperf_tiny_resnet8_int8": CIFAR10, "mobilenet_v1_0.25_128_quant": IMAGENET,
         "tf2_mobilenet_v2_1.0_224_ptq": IMAGENET}  # fmt: skip
EPSILON, STEPS = 1 / 255, 10
WIDER = 8 / 255  # for an attack without gradients
HEAD = """\
INT8 files attacked by other libraries through `patchbench.twin`, by `benchmarks/libraries.py`: wrong answers on
the twin and, after rounding to uint8, on LiteRT {version}. PGD moves each value by one level of 255 at most, in {steps}
steps. The answer is the same where the runtime's highest output is the twin's class: probabilities in 256 levels tie at
times, and then the lowest class counts as its answer.

| file | attack | wrong on the twin | wrong on LiteRT | same answers |
|---|---|---:|---:|---:|
"""


class Task(NamedTuple):
    """A file with its twin, images float32 ``(n, 3, h, w)`` in [0, 1], and their classes as the file counts them."""

    file: Path
    twin: nn.Module
    x: np.ndarray
    labels: np.ndarray
    outputs: int

    def on_runtime(self, x: np.ndarray) -> np.ndarray:
        """Return LiteRT's outputs for pixels rounded to uint8."""
        pixels = (np.asarray(x) * 255).round().astype(np.uint8).transpose(0, 2, 3, 1)
        return patchbench.replay(self.file, pixels, "litert", timed_runs=0).logits


def task(file: Path, data: config.DataTable, folder: Path, n: int) -> Task:
    """Return a file and the first images that its classes are about, evenly over them."""
    twin = patchbench.twin(file)
    loaded = datasets.load(data, twin.size, folder, Path("out"))
    images = loaded["all"] if "all" in loaded else loaded["test"]
    chosen = np.linspace(0, len(images.pixels) - 1, n).astype(int)
    x = (images.pixels[chosen].transpose(0, 3, 1, 2) / 255).astype(np.float32)
    with torch.no_grad():
        outputs = twin(torch.from_numpy(x[:1])).shape[1]
    background = outputs - 1 - images.labels.max()  # an output before the first class
    return Task(file, twin, x, images.labels[chosen] + background, outputs)


def attacks(task: Task) -> dict[str, Callable[[], np.ndarray]]:
    """Return what each library makes of the images."""
    import_torchvision()
    import foolbox
    import torchattacks
    from art.attacks.evasion import AdversarialPatchPyTorch, ProjectedGradientDescent, SquareAttack
    from art.estimators.classification import BlackBoxClassifierNeuralNetwork, PyTorchClassifier

    x, labels, size = task.x, task.labels, task.x.shape[1:]
    tensors = torch.from_numpy(x), torch.from_numpy(labels)
    network = PyTorchClassifier(
        task.twin, nn.CrossEntropyLoss(), size, task.outputs, clip_values=(0, 1), device_type="cpu"
    )
    box = BlackBoxClassifierNeuralNetwork(task.on_runtime, size, task.outputs, clip_values=(0, 1))
    pgd = ProjectedGradientDescent(
        network, eps=EPSILON, eps_step=EPSILON / 4, max_iter=STEPS, batch_size=25, verbose=False
    )
    patch = AdversarialPatchPyTorch(
        network, rotation_max=0, scale_min=0.25, scale_max=0.26, patch_shape=size, patch_type="square",
        optimizer="Adam", learning_rate=0.1, max_iter=STEPS, batch_size=25, targeted=False, verbose=False,
    )  # fmt: skip
    square = SquareAttack(box, eps=WIDER, max_iter=STEPS, batch_size=len(x), verbose=False)
    linf = foolbox.attacks.LinfPGD(steps=STEPS, rel_stepsize=0.25)

    def patched() -> np.ndarray:
        patch.generate(x, labels)
        return patch.apply_patch(x, scale=0.25)

    return {
        "none": lambda: x,
        "ART, `ProjectedGradientDescent`": lambda: pgd.generate(x, labels),
        "ART, `AdversarialPatchPyTorch`, a quarter of the width": patched,
        "foolbox, `LinfPGD`": lambda: linf(foolbox.PyTorchModel(task.twin, (0, 1)), *tensors, epsilons=EPSILON)[1],
        "torchattacks, `PGD`": lambda: torchattacks.PGD(task.twin, EPSILON, EPSILON / 4, STEPS)(*tensors),
        "ART, `SquareAttack` on LiteRT, 8 levels": lambda: square.generate(x, labels),
    }


def row(task: Task, name: str, attack: Callable[[], np.ndarray]) -> str:
    """Attack, and return a line of the table."""
    found = np.asarray(attack())
    with torch.no_grad():
        ours = torch.cat([task.twin(part).argmax(1) for part in torch.from_numpy(found).split(25)]).numpy()
    outputs = task.on_runtime(found)
    same = outputs[np.arange(len(ours)), ours] == outputs.max(1)
    shares = (ours != task.labels).mean(), (outputs.argmax(1) != task.labels).mean(), same.mean()
    return f"| {task.file.name} | {name} | {' | '.join(f'{share:.0%}' for share in shares)} |"


def main(data: Annotated[Path, typer.Option()], images: int = 100) -> None:
    """Attack every file with every library."""
    sys.path.append(str(ROOT / "tests"))
    from helpers.peers import peers

    sys.path.insert(0, str(peers()))
    lines = []
    for name, table in FILES.items():
        one = task(data / "vendor" / f"{name}.tflite", table, data, images)
        for attack, make in attacks(one).items():
            lines.append(row(one, attack, make))
            print(lines[-1], flush=True)
    version = patchbench.replay(
        one.file, np.zeros((1, *one.twin.size, 3), np.uint8), "litert", timed_runs=0
    ).environment["version"]
    text = HEAD.format(version=version, steps=STEPS) + "\n".join(lines) + "\n"
    (ROOT / "benchmarks" / "results" / "libraries.md").write_text(text)


if __name__ == "__main__":
    typer.run(main)

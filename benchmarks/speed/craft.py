"""What crafting costs: beside the bare pass of the network, and beside the Adversarial Robustness Toolbox.

    python benchmarks/speed/craft.py --data DIR           # ResNet-20 of CIFAR-10, an 8x8 patch, under a minute
    python benchmarks/speed/craft.py --data DIR --more    # bfloat16, compiled, surrogates of integers: some minutes

Every row has the same network with frozen weights, the same batch and number of steps, the same transformation (a
random place, no rotation, no change of size) and the same Adam. The rows take turns; of each the median counts. A bare
pass is forward and backward to the pixels of a batch and nothing else: of the network as it was loaded, and of the
surrogate that we make of it. Threads wait as torch has them by default, spinning, which is every row's best on an idle
machine; OMP_WAIT_POLICY=PASSIVE, as the command line has it, costs the toolbox's many small operators most. Success is
counted in float on images that no patch was made on. Without ``--data`` the network has random weights and no success.
"""

import argparse
import copy
import functools
import json
import os
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import nn
from torch.nn.functional import cross_entropy

import harness.data.datasets
from backends.device.artifact import QuantSpec
from exporters.export import export
from exporters.victim import Victim
from harness import config
from harness.networks import quantization_aware_training as qat
from harness.networks import victims
from harness.torchvision_import import import_torchvision
from patches.craft import craft
from patches.fake_quant import Source
from patches.surrogates import build

SUITE = Path(__file__).parents[1] / "suites" / "cifar10.toml"
PX, TARGET_CLASS, LEARNING_RATE = 8, 3, 0.05
US, THEM = "patchbench", "the toolbox"
LEAST = {THEM: 3.0, "bare pass of the network as loaded": 1.1, "bare pass of our surrogate": 0.9}
LEAST_TO_SUCCESS = 3.0
Made = tuple[float, np.ndarray | None]  # seconds, and the patch (p, p, 3) where one is made


class Images(NamedTuple):
    """Pixels uint8 ``(n, h, w, 3)`` and labels."""

    pixels: np.ndarray
    labels: np.ndarray


class Case(NamedTuple):
    """A network in eval mode, frozen; images to craft on and, where its weights mean something, others to judge by."""

    network: nn.Module
    craft: Images
    judge: Images | None


def real_case(data: Path) -> Case:
    """The pre-trained ResNet-20 of the CIFAR-10 suite and its images."""
    suite = config.read_suite(SUITE)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        splits = harness.data.datasets.split(harness.data.datasets.load(suite.data, (32, 32), data, folder), suite.data)
        victim = victims.prepare(
            suite.victim[0], data_dir=data, images=None, classes=10, size=(32, 32), folder=folder / "victim",
            cache=folder, checkpoint=folder / "none",
        )  # fmt: skip
        network = victims.load(victim)
    crafted, judged = (Images(*splits[name][:2]) for name in ("craft", "evaluate"))
    return Case(network.requires_grad_(False), crafted, judged)


def random_case() -> Case:
    """ResNet-20 with random weights and random images: enough for speed."""
    from harness.networks.architectures import build

    rng = np.random.default_rng(0)
    pixels, labels = rng.integers(0, 256, (1000, 32, 32, 3), np.uint8), rng.integers(0, 10, 1000)
    return Case(build("resnet20", 10).eval().requires_grad_(False), Images(pixels, labels), None)


def bare(network: nn.Module, case: Case, steps: int, batch: int) -> Made:
    """So many forward and backward passes, and nothing else; the pixels are laid out as the weights are."""
    x = torch.from_numpy(case.craft.pixels[:batch]).permute(0, 3, 1, 2).float().div(255)
    weights = next(p for p in network.parameters() if p.ndim == 4)
    last = weights.is_contiguous(memory_format=torch.channels_last) and not weights.is_contiguous()
    x = x.contiguous(memory_format=torch.channels_last if last else torch.contiguous_format).requires_grad_()
    wanted = torch.full((batch,), TARGET_CLASS)
    begun = time.perf_counter()
    for _ in range(steps):
        torch.autograd.grad(cross_entropy(network(x), wanted), x)
    return time.perf_counter() - begun, None


def ours(surrogate: nn.Module, case: Case, steps: int, batch: int, **options: bool) -> tuple[float, np.ndarray]:
    """Seconds of an attack, and its patch ``(p, p, 3)``."""
    from patches.problem import Problem

    problem = Problem(surrogate, *case.craft, TARGET_CLASS, PX)
    given = {"steps": steps, "batch": batch, "learning_rate": LEARNING_RATE, **options}
    begun = time.perf_counter()
    made = craft("gap", problem, given)
    return time.perf_counter() - begun, made.pixels


def art(case: Case, steps: int, batch: int) -> tuple[float, np.ndarray]:
    """The same with the toolbox, which takes a scale for a size and resizes the patch for it."""
    import_torchvision()
    from art.attacks.evasion import AdversarialPatchPyTorch
    from art.estimators.classification import PyTorchClassifier

    size, scale = case.craft.pixels.shape[1], PX / case.craft.pixels.shape[1]
    keep = np.flatnonzero(case.craft.labels != TARGET_CLASS)
    chosen = np.random.default_rng(0).choice(keep, steps * batch)
    x = case.craft.pixels[chosen].transpose(0, 3, 1, 2).astype(np.float32) / 255
    estimator = PyTorchClassifier(
        case.network, nn.CrossEntropyLoss(), (3, size, size), 10, clip_values=(0, 1), device_type="cpu"
    )
    attack = AdversarialPatchPyTorch(
        estimator, rotation_max=0.0, scale_min=scale, scale_max=scale + 1e-6, learning_rate=LEARNING_RATE, max_iter=1,
        batch_size=batch, patch_shape=(3, PX, PX), patch_type="square", verbose=False,
    )  # fmt: skip
    begun = time.perf_counter()
    patch, _ = attack.generate(x, np.full(len(x), TARGET_CLASS))
    return time.perf_counter() - begun, np.rint(patch.transpose(1, 2, 0) * 255).astype(np.uint8)


def success(case: Case, patch: np.ndarray) -> float:
    """Targeted success in float, of the images classified right without the patch and of other classes."""
    from backends.device.bundle import paste
    from harness.networks.victims import logits
    from patches import placement

    assert case.judge is not None
    pixels, labels = case.judge
    corners = placement.corners("random", [str(i) for i in range(len(pixels))], PX, pixels.shape[1:3])
    asked = (logits(case.network, pixels).argmax(1) == labels) & (labels != TARGET_CLASS)
    pasted = paste(pixels, patch[None], np.ones((1, PX, PX), bool), corners)
    return float((logits(case.network, pasted).argmax(1) == TARGET_CLASS)[asked].mean())


def seconds_to(wanted: float, surrogate: nn.Module, case: Case, steps: int, batch: int) -> float:
    """Seconds of the shortest of our attacks whose patch succeeds as often; infinite where none does."""
    for few in sorted({max(1, steps * part // 12) for part in (1, 2, 3, 4, 6, 9, 12)}):
        taken, patch = ours(surrogate, case, few, batch)
        if success(case, patch) >= wanted:
            return taken
    return float("inf")


def integers(case: Case) -> dict[str, nn.Module]:
    """Surrogates that compute what integers do: fake-quantized, and the twin of an INT8 file of each format."""
    found = {"fake_quant:w8a8": build("fake_quant", Source(case.network, QuantSpec(), case.craft.pixels))}
    size = (int(case.craft.pixels.shape[1]), int(case.craft.pixels.shape[2]))
    victim = Victim("network", "resnet20", Path("none"), "", 10, size)
    with tempfile.TemporaryDirectory() as scratch:
        for kind in ("tflite", "onnx"):
            export(
                case.network, name=kind, victim=victim, format=kind, quant=QuantSpec(),
                calibration_pixels=case.craft.pixels, folder=Path(scratch),
            )  # fmt: skip
            found[f"twin:{kind}"] = build("twin", Path(scratch) / f"{kind}.json")
    return found


def training(case: Case, steps: int, batch: int) -> Made:
    """Quantization-aware training to 4 bits, its steps alone: forward and backward of a network, forward of another."""
    chosen = np.resize(np.arange(len(case.craft.pixels)), steps * batch)
    pixels, labels = (array[chosen] for array in case.craft)
    images = harness.data.datasets.Images(pixels, labels, tuple(map(str, range(len(chosen)))))
    network, at = copy.deepcopy(case.network).requires_grad_(), []
    with tempfile.TemporaryDirectory() as scratch:
        qat.train(
            network, QuantSpec(4, 4), images, case.craft.pixels, config.QatTable(epochs=1, batch=batch),
            Path(scratch) / "none", lambda *_: at.append(time.perf_counter()),
        )  # fmt: skip
    return (at[-1] - at[0]) * steps / (steps - 1), None


def rows(
    case: Case, surrogate: nn.Module, steps: int, batch: int, others: Mapping[str, nn.Module]
) -> dict[str, Callable[[], Made]]:
    """What is timed, by name: `US` and `THEM`, the bare passes and, where there are others, the options and those."""
    found: dict[str, Callable[[], Made]] = {
        THEM: lambda: art(case, steps, batch),
        "bare pass of the network as loaded": lambda: bare(case.network, case, steps, batch),
        "bare pass of our surrogate": lambda: bare(surrogate, case, steps, batch),
        US: lambda: ours(surrogate, case, steps, batch),
    }
    if others:
        found["bfloat16"] = lambda: ours(surrogate, case, steps, batch, bfloat16=True)
        found["torch.compile"] = lambda: ours(surrogate, case, steps, batch, compile=True)
        for name, other in others.items():
            found[name] = functools.partial(ours, other, case, steps, batch)
        found["quantization-aware training"] = lambda: training(case, steps, batch)
    return found


def measure(case: Case, given: argparse.Namespace) -> dict[str, float]:
    """Runs the rows in turns, prints the table, and gives the ratios by name."""
    steps, batch = given.steps, given.batch
    surrogate = build("float", case.network)
    others = integers(case) if given.more else {}
    for run in rows(case, surrogate, 2, batch, others).values():  # what is done once, compiling above all
        run()
    taken: dict[str, list[float]] = defaultdict(list)
    patched: dict[str, np.ndarray] = {}
    for _ in range(given.repeats):
        for name, run in rows(case, surrogate, steps, batch, others).items():
            seconds, patch = run()
            taken[name].append(seconds)
            if patch is not None:
                patched[name] = patch
    seconds = {name: float(np.median(readings)) for name, readings in taken.items()}
    successes = {name: success(case, patch) for name, patch in patched.items()} if case.judge else {}
    ratios = {f"{US} by {name}": seconds[name] / seconds[US] for name in seconds if name != US}
    table = Table("row", "images/s", f"{US} is", "wanted", "success of its patch")
    for name, taking in seconds.items():
        ratio, wanted, share = seconds[name] / seconds[US], LEAST.get(name), successes.get(name)
        marks = f"{wanted:g} x" if wanted else "", f"{share:.1%}" if share is not None else ""
        table.add_row(name, f"{steps * batch / taking:.0f}", f"{ratio:.2f} x", *marks)
    if case.judge:
        what = f"time to the success of {THEM}"
        ratios[what] = seconds[THEM] / seconds_to(successes[THEM], surrogate, case, steps, batch)
        table.add_row(what, "", f"{ratios[what]:.2f} x", f"{LEAST_TO_SUCCESS:g} x", "")
    console = Console(width=130)
    console.print(table)
    waiting = os.environ.get("OMP_WAIT_POLICY", "as by default")
    console.print(
        f"{steps} steps of {batch} images, {given.threads} threads, waiting {waiting}, {given.repeats} repeats"
    )
    return ratios


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    folder = os.environ.get("PATCHBENCH_DATA")
    parser.add_argument("--data", type=Path, default=folder and Path(folder), help="the folder that has cifar10/")
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--more", action="store_true", help="options and surrogates that cost time of their own")
    parser.add_argument("--json", type=Path, metavar="FILE", help="writes the ratios by name")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    case = real_case(given.data) if given.data else random_case()
    ratios = measure(case, given)
    if given.json:
        given.json.write_text(json.dumps({"schema": 1, "ratios": ratios}, indent=1) + "\n")


if __name__ == "__main__":
    main()

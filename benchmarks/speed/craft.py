"""Measure the speed of crafting, against a bare pass of the network and the Adversarial Robustness Toolbox.

    python benchmarks/speed/craft.py --data DIR           # ResNet-20 of CIFAR-10, an 8x8 patch, under a minute
    python benchmarks/speed/craft.py --data DIR --more    # bfloat16, compiled, surrogates of integers: some minutes

Every row has the same network with frozen weights, the same batch and number of steps, the same transformation (a
random place, no rotation, no scaling) and the same Adam. The rows take turns, and the median of each counts. A bare
pass is forward and backward to the pixels of a batch and nothing else, on the network as loaded and on the surrogate
made from it. Threads spin while they wait, torch's default, which is every row's best on an idle machine;
OMP_WAIT_POLICY=PASSIVE, as the command line sets it, costs the toolbox's many small operators most. Success is counted
in float on images that no patch was made on. Without ``--data`` the network has random weights and no success.
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
from rich.table import Table
from torch import nn
from torch.nn.functional import cross_entropy

import harness.data.datasets
from backends.device.artifact import QuantSpec
from exporters.export import export
from exporters.victim import Victim
from harness import config
from harness.console import console
from harness.networks import architectures, victims
from harness.networks import quantization_aware_training as qat
from harness.torchvision_import import import_torchvision
from patches.craft import craft
from patches.fake_quant import Source
from patches.surrogates import build

SUITE = Path(__file__).parents[1] / "suites" / "cifar10.toml"
PX = 8
TARGET_CLASS = 3
LEARNING_RATE = 0.05
US = "patchbench"
THEM = "the toolbox"
LEAST = {THEM: 3.0, "bare pass of the network as loaded": 1.1, "bare pass of our surrogate": 0.9}
LEAST_TO_SUCCESS = 3.0


class Timed(NamedTuple):
    """Seconds, and the patch uint8 ``(p, p, 3)`` where one was made."""

    seconds: float
    patch: np.ndarray | None = None


class Images(NamedTuple):
    """Pixels uint8 ``(n, h, w, 3)`` and labels."""

    pixels: np.ndarray
    labels: np.ndarray


class Task(NamedTuple):
    """A frozen network in eval mode, images to craft on and, unless its weights are random, others to judge by."""

    network: nn.Module
    craft: Images
    judge: Images | None


def real_task(data: Path) -> Task:
    """Return the pre-trained ResNet-20 of the CIFAR-10 suite and its images."""
    suite = config.read_suite(SUITE)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        splits = harness.data.datasets.split(harness.data.datasets.load(suite.data, (32, 32), data, folder), suite.data)
        victim = victims.prepare(
            suite.victim[0],
            data_dir=data,
            images=None,
            classes=10,
            size=(32, 32),
            folder=folder / "victim",
            cache=folder,
            checkpoint=folder / "none",
        )
        network = victims.load(victim)
    crafted, judged = (Images(*splits[name][:2]) for name in ("craft", "evaluate"))
    return Task(network.requires_grad_(False), crafted, judged)


def random_task() -> Task:
    """Return ResNet-20 with random weights and random images, enough to measure speed."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (1000, 32, 32, 3), np.uint8)
    labels = rng.integers(0, 10, 1000)
    return Task(architectures.build("resnet20", 10).eval().requires_grad_(False), Images(pixels, labels), None)


def bare(network: nn.Module, task: Task, steps: int, batch: int) -> Timed:
    """Time forward and backward passes, and nothing else, with the pixels in the memory format of the weights."""
    x = torch.from_numpy(task.craft.pixels[:batch]).permute(0, 3, 1, 2).float().div(255)
    weights = next(p for p in network.parameters() if p.ndim == 4)
    last = weights.is_contiguous(memory_format=torch.channels_last) and not weights.is_contiguous()
    x = x.contiguous(memory_format=torch.channels_last if last else torch.contiguous_format).requires_grad_()
    wanted = torch.full((batch,), TARGET_CLASS)
    begun = time.perf_counter()
    for _ in range(steps):
        torch.autograd.grad(cross_entropy(network(x), wanted), x)
    return Timed(time.perf_counter() - begun)


def ours(surrogate: nn.Module, task: Task, steps: int, batch: int, **options: bool) -> Timed:
    """Time one of our attacks."""
    from patches.problem import Problem

    problem = Problem(surrogate, *task.craft, TARGET_CLASS, PX)
    given = {"steps": steps, "batch": batch, "learning_rate": LEARNING_RATE, **options}
    begun = time.perf_counter()
    patch = craft("gap", problem, given)
    return Timed(time.perf_counter() - begun, patch.pixels)


def art(task: Task, steps: int, batch: int) -> Timed:
    """Time the same attack of the toolbox, which takes a scale for a size and resizes the patch to it."""
    import_torchvision()
    from art.attacks.evasion import AdversarialPatchPyTorch
    from art.estimators.classification import PyTorchClassifier

    size = task.craft.pixels.shape[1]
    scale = PX / size
    keep = np.flatnonzero(task.craft.labels != TARGET_CLASS)
    chosen = np.random.default_rng(0).choice(keep, steps * batch)
    x = task.craft.pixels[chosen].transpose(0, 3, 1, 2).astype(np.float32) / 255
    estimator = PyTorchClassifier(
        task.network, nn.CrossEntropyLoss(), (3, size, size), 10, clip_values=(0, 1), device_type="cpu"
    )
    attack = AdversarialPatchPyTorch(
        estimator,
        rotation_max=0.0,
        scale_min=scale,
        scale_max=scale + 1e-6,
        learning_rate=LEARNING_RATE,
        max_iter=1,
        batch_size=batch,
        patch_shape=(3, PX, PX),
        patch_type="square",
        verbose=False,
    )
    begun = time.perf_counter()
    patch, _ = attack.generate(x, np.full(len(x), TARGET_CLASS))
    seconds = time.perf_counter() - begun
    return Timed(seconds, np.rint(patch.transpose(1, 2, 0) * 255).astype(np.uint8))


def success(task: Task, patch: np.ndarray) -> float:
    """Return targeted success in float, over images of other classes that are classified right without the patch."""
    from backends.device.bundle import paste
    from harness.networks.victims import logits
    from patches import placement

    assert task.judge is not None
    pixels, labels = task.judge
    corners = placement.corners("random", [str(i) for i in range(len(pixels))], PX, pixels.shape[1:3])
    among = (logits(task.network, pixels).argmax(1) == labels) & (labels != TARGET_CLASS)
    pasted = paste(pixels, patch[None], np.ones((1, PX, PX), bool), corners)
    return float((logits(task.network, pasted).argmax(1) == TARGET_CLASS)[among].mean())


def seconds_to(wanted: float, surrogate: nn.Module, task: Task, steps: int, batch: int) -> float:
    """Return the seconds of our shortest attack whose patch succeeds as often; infinite where none does."""
    for few in sorted({max(1, steps * part // 12) for part in (1, 2, 3, 4, 6, 9, 12)}):
        timed = ours(surrogate, task, few, batch)
        assert timed.patch is not None
        if success(task, timed.patch) >= wanted:
            return timed.seconds
    return float("inf")


def quantized(task: Task) -> dict[str, nn.Module]:
    """Return the quantized surrogates: fake-quantized, and the twin of an INT8 file of each format."""
    found = {"fake_quant:w8a8": build("fake_quant", Source(task.network, QuantSpec(), task.craft.pixels))}
    size = (int(task.craft.pixels.shape[1]), int(task.craft.pixels.shape[2]))
    victim = Victim("network", "resnet20", Path("none"), "", 10, size)
    with tempfile.TemporaryDirectory() as scratch:
        for kind in ("tflite", "onnx"):
            export(
                task.network,
                name=kind,
                victim=victim,
                format=kind,
                quant=QuantSpec(),
                calibration_pixels=task.craft.pixels,
                folder=Path(scratch),
            )
            found[f"twin:{kind}"] = build("twin", Path(scratch) / f"{kind}.json")
    return found


def training(task: Task, steps: int, batch: int) -> Timed:
    """Time the steps of quantization-aware training to 4 bits: forward and backward, and the teacher's forward."""
    chosen = np.resize(np.arange(len(task.craft.pixels)), steps * batch)
    pixels, labels = (array[chosen] for array in task.craft)
    images = harness.data.datasets.Images(pixels, labels, tuple(map(str, range(len(chosen)))))
    network = copy.deepcopy(task.network).requires_grad_()
    at: list[float] = []
    with tempfile.TemporaryDirectory() as scratch:
        qat.train(
            network,
            QuantSpec(4, 4),
            images,
            task.craft.pixels,
            config.QatTable(epochs=1, batch=batch),
            Path(scratch) / "none",
            lambda *_: at.append(time.perf_counter()),
        )
    return Timed((at[-1] - at[0]) * steps / (steps - 1))


def rows(
    task: Task, surrogate: nn.Module, steps: int, batch: int, others: Mapping[str, nn.Module]
) -> dict[str, Callable[[], Timed]]:
    """Return what is timed, by name: `US` and `THEM`, the bare passes and, with other surrogates, options and those."""
    found: dict[str, Callable[[], Timed]] = {
        THEM: lambda: art(task, steps, batch),
        "bare pass of the network as loaded": lambda: bare(task.network, task, steps, batch),
        "bare pass of our surrogate": lambda: bare(surrogate, task, steps, batch),
        US: lambda: ours(surrogate, task, steps, batch),
    }
    if others:
        found["bfloat16"] = lambda: ours(surrogate, task, steps, batch, bfloat16=True)
        found["torch.compile"] = lambda: ours(surrogate, task, steps, batch, compile=True)
        for name, other in others.items():
            found[name] = functools.partial(ours, other, task, steps, batch)
        found["quantization-aware training"] = lambda: training(task, steps, batch)
    return found


def measure(task: Task, given: argparse.Namespace) -> dict[str, float]:
    """Run the rows in turns, print the table, and return the ratios by name."""
    surrogate = build("float", task.network)
    others = quantized(task) if given.more else {}
    for run in rows(task, surrogate, 2, given.batch, others).values():  # what is done once, compiling above all
        run()
    timings: dict[str, list[Timed]] = defaultdict(list)
    for _ in range(given.repeats):
        for name, run in rows(task, surrogate, given.steps, given.batch, others).items():
            timings[name].append(run())
    seconds = {name: float(np.median([timed.seconds for timed in found])) for name, found in timings.items()}
    successes = {}
    for name, found in timings.items():
        if task.judge and (patch := found[-1].patch) is not None:
            successes[name] = success(task, patch)
    ratios = {f"{US} by {name}": seconds[name] / seconds[US] for name in seconds if name != US}
    table = Table("row", "images/s", f"{US} is", "wanted", "success of its patch")
    for name, median in seconds.items():
        wanted = f"{LEAST[name]:g} x" if name in LEAST else ""
        share = f"{successes[name]:.1%}" if name in successes else ""
        table.add_row(name, f"{given.steps * given.batch / median:.0f}", f"{median / seconds[US]:.2f} x", wanted, share)
    if task.judge:
        what = f"time to the success of {THEM}"
        ratios[what] = seconds[THEM] / seconds_to(successes[THEM], surrogate, task, given.steps, given.batch)
        table.add_row(what, "", f"{ratios[what]:.2f} x", f"{LEAST_TO_SUCCESS:g} x", "")
    out = console(130)
    out.print(table)
    policy = os.environ.get("OMP_WAIT_POLICY", "by default")
    out.print(
        f"{given.steps} steps of {given.batch} images, {given.threads} threads, waiting {policy}, "
        f"{given.repeats} repeats"
    )
    return ratios


def main() -> None:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    folder = os.environ.get("PATCHBENCH_DATA")
    parser.add_argument("--data", type=Path, default=folder and Path(folder), help="the folder that has cifar10/")
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--more", action="store_true", help="also the options and surrogates that take minutes")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the ratios by name")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    ratios = measure(real_task(given.data) if given.data else random_task(), given)
    if given.json:
        given.json.write_text(json.dumps({"schema": 1, "ratios": ratios}, indent=1) + "\n")


if __name__ == "__main__":
    main()

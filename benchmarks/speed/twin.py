"""Measure a twin's forward and backward pass beside that of its float network: seconds, and memory.

    python benchmarks/speed/twin.py                                      # MobileNetV2 at 224, some minutes
    python benchmarks/speed/twin.py --model resnet18 --size 64 --batch 16

The network has random weights, batch normalisations fitted to random images, and is exported to both formats. A pass
goes forward and back to the pixels of a batch. The passes take turns, and the fastest quarter of each counts. Seconds
are those of the CPU, which what else a machine does disturbs least. Memory is the most that the tensors of a pass take
at a time, the weights aside.
"""

import argparse
import json
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from rich.table import Table
from torch import nn
from torch.nn.functional import cross_entropy
from torch.profiler import ProfilerActivity, profile

from backends.device.artifact import QuantSpec
from exporters.export import export
from exporters.quiet import quiet
from exporters.victim import Victim
from harness.console import console
from harness.networks import architectures
from patches.surrogates import build
from patches.twins import KERNELS, twin

CLASSES = 1000
FLOAT = "float, as loaded"
MOST = {"seconds": 1.6, "memory": 2.0}  # times the network as loaded


class Cost(NamedTuple):
    """What a forward and a backward pass take."""

    seconds: float
    memory: int  # bytes


def run(network: nn.Module, pixels: np.ndarray) -> float:
    """Run a forward and a backward pass; return its seconds."""
    x = torch.from_numpy(pixels).permute(0, 3, 1, 2).float().div(255)
    x = x.contiguous(memory_format=torch.channels_last).requires_grad_()
    wanted = torch.zeros(len(x), dtype=torch.int64)
    begun = time.process_time()
    torch.autograd.grad(cross_entropy(network(x), wanted), x)
    return time.process_time() - begun


def peak(network: nn.Module, pixels: np.ndarray) -> int:
    """Return the most bytes that the tensors of a pass take at a time, beside those from before it."""
    with quiet(), profile(activities=[ProfilerActivity.CPU], profile_memory=True) as found:
        run(network, pixels)
    events = found.profiler.kineto_results.events()  # type: ignore[union-attr]
    return int(np.cumsum([event.nbytes() for event in events if event.name() == "[memory]"]).max())


def costs(networks: dict[str, nn.Module], pixels: np.ndarray, repeats: int) -> dict[str, Cost]:
    """Return what a pass of each network takes; the first turn warms up."""
    timings: dict[str, list[float]] = defaultdict(list)
    for _ in range(repeats + 1):
        for name, network in networks.items():
            timings[name].append(run(network, pixels))
    seconds = {name: float(np.quantile(found[1:], 0.25)) for name, found in timings.items()}
    return {name: Cost(seconds[name], peak(network, pixels)) for name, network in networks.items()}


def fit(network: nn.Module, pixels: np.ndarray) -> nn.Module:
    """Give batch normalisations the statistics of these images; return the network in eval mode."""
    layers = [layer for layer in network.eval().modules() if isinstance(layer, nn.BatchNorm2d)]
    before = [layer.momentum for layer in layers]
    for layer in layers:
        layer.reset_running_stats()
        layer.train().momentum = None  # the mean over all batches
    with torch.no_grad():
        for batch in np.array_split(pixels, -(-len(pixels) // 32)):
            network(torch.from_numpy(batch).permute(0, 3, 1, 2).float().div(255))
    for layer, momentum in zip(layers, before, strict=True):
        layer.momentum = momentum
    return network.eval()


def twins(network: nn.Module, name: str, pixels: np.ndarray, folder: Path) -> dict[str, nn.Module]:
    """Export a network to both formats and return the twins by kernels."""
    victim = Victim(name, name, Path("none"), "", CLASSES, (pixels.shape[1], pixels.shape[2]))
    quant = QuantSpec(calibration_images=len(pixels))
    found: dict[str, nn.Module] = {}
    for kind in ("tflite", "onnx"):
        export(network, name=name, victim=victim, format=kind, quant=quant, calibration_pixels=pixels, folder=folder)
        file = folder / f"{name}.{kind}"
        found |= {f"twin, {kernels}": twin(file, kernels) for kernels in KERNELS[file.suffix]}
    return found


def measure(given: argparse.Namespace) -> dict[str, float]:
    """Print the table and return the ratios to the network as loaded, by name."""
    pixels = np.random.default_rng(0).integers(0, 256, (32, given.size, given.size, 3), np.uint8)
    network = fit(architectures.build(given.model, CLASSES), pixels).requires_grad_(False)
    with tempfile.TemporaryDirectory() as folder:
        made = twins(network, given.model, pixels, Path(folder))
        faster = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        networks = {FLOAT: faster, "float, folded": build("float", network)} | made
        found = costs(networks, pixels[: given.batch], given.repeats)
    table = Table("network", "ms", f"of {FLOAT}", "wanted", "MiB", f"of {FLOAT}", "wanted")
    ratios: dict[str, float] = {}
    for name, cost in found.items():
        shares = {what: getattr(cost, what) / getattr(found[FLOAT], what) for what in MOST}
        ratios |= {f"{what} of {name}": share for what, share in shares.items()}
        wanted = {what: f"{most:g} x" if name.startswith("twin") else "" for what, most in MOST.items()}
        table.add_row(
            name,
            f"{1000 * cost.seconds:.0f}", f"{shares['seconds']:.2f} x", wanted["seconds"],
            f"{cost.memory / 2**20:.0f}", f"{shares['memory']:.2f} x", wanted["memory"],
        )  # fmt: skip
    out = console(130)
    out.print(table)
    out.print(f"{given.model}, {given.batch} images of {given.size}x{given.size}, {given.threads} threads")
    return ratios


def main() -> None:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="mobilenet_v2")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=8)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the ratios by name")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    ratios = measure(given)
    if given.json:
        given.json.write_text(json.dumps({"schema": 1, "ratios": ratios}, indent=1) + "\n")


if __name__ == "__main__":
    main()

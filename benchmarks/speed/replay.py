"""Measure what a replay costs beside the bare loop of the same runtime: throughput, latency, memory.

    python benchmarks/speed/replay.py --data DIR                    # ResNet-20 of CIFAR-10, on this machine
    python benchmarks/speed/replay.py --target litert,host=qemu,arch=aarch64,cpu=max --images 20

The bare loop is written out in `bare.py`, with none of our code in it: a process that holds the file's own inputs in
memory and gives each image to the runtime. It and the replay take turns, and the fastest quarter of each counts, since
whatever else a machine does only adds time. Start-up and loading are in neither. On a busy machine the CPU seconds tell
what wall-clock seconds do not. On another host there is no bare loop: a replay there is compared with its own latency
loop. Without ``--data`` the network is that of the demo suite.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
from bare import BARE, CASES
from rich.table import Table

from backends.conformance.__main__ import parse
from backends.device.artifact import Artifact
from backends.device.bundle import Bundle, Stamps, write_bundle
from backends.device.quantize import quantize
from backends.device.runtimes import engine
from backends.environments import needed
from backends.events import Answered, CaseFailed, Event
from backends.hosts import Target, availability, is_emulated, prepare, replay
from backends.hosts.local import interpreter
from harness.console import console

SUITES = Path(__file__).parents[1] / "suites"
LOOPS = Path(__file__).with_name("bare.py")
TARGETS = ["onnxruntime", "litert", "litert,kernels=builtin", "tflite_micro", "openvino", "executorch"]
LEAST = 0.95  # throughput, as a share of the loop's
LEAST_EMULATED = 0.90
MOST_OFF = 0.03  # the median latency, as a share
FEW = 100  # images
MANY = 10_000
MOST_MIB = 64  # more memory for many images than for few
LIMITS = {"warmup": 10, "seconds": 0.0}


@dataclass
class Readings:
    """Readings by name (seconds per image, or milliseconds) of the replay and of the loop that it is compared with."""

    ours: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    theirs: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))

    def take(self, target: Target, bundle: Bundle, inputs: Path | None, out: Path, runs: int) -> None:
        """Take one turn of each: the replay and, where there is one, the bare loop."""
        events: list[Event | CaseFailed] = []
        outcome = replay(target, bundle.root, out, latency=LIMITS | {"runs": runs}, on_event=events.append)
        if outcome.errors or outcome.latency is None:
            raise SystemExit(f"{target.name}: {outcome.errors or outcome.latency_error}")
        for event in events:
            if isinstance(event, Answered):
                self.ours["clock"].append(event.seconds / bundle.n)
                self.ours["cpu"].append(event.cpu_seconds / bundle.n)
        if inputs is None:
            self.theirs["clock"].append(1 / outcome.latency.throughput_per_second)
            return
        self.ours["p50"].append(outcome.latency.p50_ms)
        kernels = str(target.options.get("kernels", "xnnpack"))
        python, _ = interpreter(needed(engine(target.runtime).package, target.version))
        command = [python, str(LOOPS), target.runtime, str(bundle.file), str(inputs), kernels, str(runs)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        found = json.loads(done.stdout.splitlines()[-1])
        for clock, cpu in found["rounds"]:
            self.theirs["clock"].append(clock / bundle.n)
            self.theirs["cpu"].append(cpu / bundle.n)
        self.theirs["p50"].append(found["p50_ms"])

    def fastest(self, what: str) -> tuple[float, float]:
        """Return the lower quartiles."""
        return float(np.percentile(self.ours[what], 25)), float(np.percentile(self.theirs[what], 25))


def own_inputs(artifact: Artifact, file: Path, pixels: np.ndarray) -> np.ndarray:
    """Return the file's input, computed by the formulas and not by the code that is timed."""
    x = pixels.astype(np.float32) / np.float32(artifact.preproc.divisor)
    if artifact.preproc.layout == "nchw":
        x = np.ascontiguousarray(x.transpose(0, 3, 1, 2))
    readers = {"onnx": "onnxruntime", "tflite": "litert", "pte": "executorch"}  # which this Python has
    loaded = engine(readers[artifact.format])()
    loaded.load(file, {}, 1)
    tensor = loaded.input
    return x if tensor.dtype == np.float32 else quantize(x, tensor.scale, tensor.zero_point, tensor.dtype)


def make_bundle(root: Path, artifact: Artifact, file: Path, n: int, cases: int) -> Bundle:
    """Write a bundle of cases of random images with an 8x8 stamp each; their content does not change the speed."""
    rng = np.random.default_rng(0)
    height, width = artifact.input_size
    pixels = rng.integers(0, 256, (n, height, width, 3), np.uint8)
    stamps: dict[str, Stamps | None] = {}
    for case in range(cases):
        corners = np.stack([rng.integers(0, side - 8, n) for side in (height, width)], 1).astype(np.int32)
        stamp = rng.integers(0, 256, (1, 8, 8, 3), np.uint8)
        stamps[f"case{case}"] = Stamps(stamp, np.ones((1, 8, 8), bool), corners)
    return write_bundle(root, artifact, file, pixels, stamps)


def export(folder: Path, data: Path | None) -> list[Path]:
    """Export one network to INT8 by the command line; return the descriptions. The demo's is not for ExecuTorch."""
    suite = SUITES / ("targets.toml" if data else "demo.toml")
    victim = "resnet20" if data else "cnn"
    command = [sys.executable, "-m", "harness.cli", "export", str(suite), "--into", str(folder)]
    for kind in ("onnx", "tflite", "pte") if data else ("onnx", "tflite"):
        command += ["--only", f"{victim}-{kind}-s8s8-minmax"]
    if data:
        command += ["--data", str(data)]
    subprocess.run(command, check=True, stdout=sys.stderr)
    return sorted(folder.glob("*.json"))


def memory(target: Target, artifact: Artifact, file: Path, folder: Path, n: int) -> float:
    """Return the anonymous memory of the device after ``n`` images, in MiB."""
    bundle = make_bundle(folder / f"bundle{n}", artifact, file, n, 1)
    events: list[Event | CaseFailed] = []
    replay(target, bundle.root, folder / f"out{n}", on_event=events.append)
    (size,) = (event.anonymous_bytes for event in events if isinstance(event, Answered))
    return float(size) / 2**20


class Row(NamedTuple):
    """One comparison: what it is of, both sides as text, their ratio, the ratio wanted, and whether it holds."""

    what: str
    ours: str
    theirs: str
    ratio: float
    wanted: str
    holds: bool


def measure(target: Target, artifact: Artifact, file: Path, given: argparse.Namespace, folder: Path) -> list[Row]:
    """Compare a target's replay with its loop, and its memory of many images with that of few."""
    bundle = make_bundle(folder / "bundle", artifact, file, given.images, CASES)
    inputs = None
    if target.host == "local" and target.runtime in BARE:
        inputs = folder / "inputs.npy"
        np.save(inputs, own_inputs(artifact, file, np.array(bundle.pixels)))
    readings = Readings()
    for turn in range(given.repeats):
        readings.take(target, bundle, inputs, folder / f"out{turn}", given.runs)
    loop = "bare loop" if inputs else "latency loop"
    least = LEAST_EMULATED if is_emulated(target) else LEAST
    rows = []
    for clock in readings.theirs:
        ours, theirs = readings.fastest(clock)
        if clock == "p50":
            holds = abs(ours / theirs - 1) <= MOST_OFF
            sides = (f"{ours:.3f} ms", f"{theirs:.3f} ms")
            rows.append(Row(f"p50 of its {loop}", *sides, ours / theirs, f"1 ± {MOST_OFF}", holds))
        else:
            ratio = theirs / ours
            sides = (f"{1 / ours:.0f}/s", f"{1 / theirs:.0f}/s")
            what = f"throughput of its {loop}, by {clock}"
            rows.append(Row(what, *sides, ratio, f"{least} or more", ratio >= least))
    if not is_emulated(target):
        few = memory(target, artifact, file, folder, FEW)
        many = memory(target, artifact, file, folder, MANY)
        sides = (f"{many:.1f} MiB", f"{few:.1f} MiB")
        what = f"memory of {MANY} images by {FEW}"
        rows.append(Row(what, *sides, many / few, f"{MOST_MIB} MiB more", many - few <= MOST_MIB))
    return rows


def main() -> None:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("artifact", nargs="*", type=Path, help="descriptions that `export` wrote; exported if missing")
    parser.add_argument("--data", type=Path, help="the folder that has cifar10/")
    parser.add_argument("--target", action="append", help="as `python -m backends.conformance` takes it; repeatable")
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--runs", type=int, default=500, help="of the latency loops")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the ratios by name")
    given = parser.parse_args()
    table = Table("target and file", "what", "replay", "compared with", "ratio", "wanted", "holds")
    ratios: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as scratch:
        descriptions = given.artifact or export(Path(scratch) / "artifacts", given.data)
        there = {Artifact.read(path).format for path in descriptions}
        possible = [text for text in TARGETS if there.intersection(engine(parse(text).runtime).formats)]
        for number, target in enumerate(map(parse, given.target or possible)):
            if reason := availability(target):
                raise SystemExit(f"{target.name}: {reason}")
            prepare(target)
            folder = Path(scratch) / str(number)
            folder.mkdir()
            formats = engine(target.runtime).formats
            description = next(path for path in descriptions if Artifact.read(path).format in formats)
            artifact = Artifact.read(description)
            name = f"{target.name} {artifact.name}"
            for row in measure(target, artifact, description.with_name(artifact.file), given, folder):
                holds = "yes" if row.holds else "no"
                table.add_row(name, row.what, row.ours, row.theirs, f"{row.ratio:.3f}", row.wanted, holds)
                ratios[f"{name}: {row.what}"] = row.ratio
    console(150).print(table)
    if given.json:
        given.json.write_text(json.dumps({"schema": 1, "ratios": ratios}, indent=1) + "\n")


if __name__ == "__main__":
    main()

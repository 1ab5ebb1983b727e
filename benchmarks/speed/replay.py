"""What a replay costs beside the bare loop of the same runtime: throughput, latency, memory.

    python benchmarks/speed/replay.py --data DIR                    # ResNet-20 of CIFAR-10, on this machine
    python benchmarks/speed/replay.py --target litert,host=qemu,arch=aarch64,cpu=max --images 20

The bare loop is written out below, with nothing of ours in it: a process that has the file's own inputs in memory and
gives each image to the runtime. It and the replay take turns; of both the fastest quarter counts, for what else
a machine does only ever adds. Start-up and loading are in neither. On a busy machine the seconds of CPU tell what
the seconds of the clock do not. On another host there is no bare loop: there a replay is held against its own
latency loop. Without ``--data`` the network is that of the demo suite, which is trained first.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from backends.conformance.__main__ import parse
from backends.device.artifact import Artifact
from backends.device.bundle import Bundle, Stamps, write_bundle
from backends.device.quantize import quantize
from backends.device.runtimes import engine
from backends.hosts import Target, availability, is_emulated, prepare, replay

SUITES = Path(__file__).parents[1] / "suites"
TARGETS = ["onnxruntime", "litert", "litert,kernels=builtin"]
LEAST, LEAST_EMULATED, MOST_OFF = 0.95, 0.90, 0.03
FEW, MANY, MOST_MIB = 100, 10_000, 64
CASES = 5
LIMITS = {"warmup": 10, "seconds": 0.0}


def bare_litert(file: str, x: np.ndarray, options: Mapping[str, Any]) -> Callable[[np.ndarray], np.ndarray]:
    """One image through LiteRT, as its manual has it."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    resolvers = {"builtin": "BUILTIN_WITHOUT_DEFAULT_DELEGATES", "reference": "BUILTIN_REF"}
    resolver = OpResolverType[resolvers.get(options.get("kernels", "xnnpack"), "BUILTIN")]
    interpreter = Interpreter(file, num_threads=1, experimental_op_resolver_type=resolver)
    interpreter.allocate_tensors()
    index, output = interpreter.get_input_details()[0]["index"], interpreter.get_output_details()[0]["index"]

    def run(image: np.ndarray) -> np.ndarray:
        interpreter.set_tensor(index, image)
        interpreter.invoke()
        return interpreter.get_tensor(output)

    return run


def bare_onnxruntime(file: str, x: np.ndarray, options: Mapping[str, Any]) -> Callable[[np.ndarray], np.ndarray]:
    """One image through ONNX Runtime, as its manual has it."""
    import onnxruntime

    wanted = onnxruntime.SessionOptions()
    wanted.intra_op_num_threads = wanted.inter_op_num_threads = 1
    wanted.log_severity_level = 3
    wanted.add_session_config_entry("session.qdqisint8allowed", "1")
    session = onnxruntime.InferenceSession(file, wanted, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda image: session.run(None, {name: image})[0]


BARE = {"litert": bare_litert, "onnxruntime": bare_onnxruntime}


def bare(runtime: str, file: str, inputs: str, options: str, runs: int) -> None:
    """The other process: prints the seconds of each of `CASES` rounds, and the median milliseconds of an image."""
    x = np.load(inputs, allow_pickle=False)
    run = BARE[runtime](file, x, json.loads(options))
    first = run(x[:1])
    found, rounds, taken = np.empty((len(x), first.shape[1]), first.dtype), [], []
    for _ in range(CASES):
        begun, computing = time.perf_counter(), time.process_time()
        for i in range(len(x)):
            found[i] = run(x[i : i + 1])[0]
        rounds.append((time.perf_counter() - begun, time.process_time() - computing))
    for i in range(runs):
        image = x[i % 16 : i % 16 + 1]
        begun = time.perf_counter_ns()
        run(image)
        taken.append(time.perf_counter_ns() - begun)
    print(json.dumps({"rounds": rounds, "p50_ms": float(np.median(taken)) / 1e6}))


@dataclass
class Readings:
    """Readings by name, seconds an image or milliseconds, of the replay and of what it is held against."""

    ours: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    theirs: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))

    def take(self, target: Target, bundle: Bundle, inputs: Path | None, out: Path, runs: int) -> None:
        """One turn of each: the replay and, where there is one, the bare loop."""
        events: list[dict[str, Any]] = []
        outcome = replay(target, bundle.root, out, latency=LIMITS | {"runs": runs}, on_event=events.append)
        if outcome.errors or outcome.latency is None:
            raise SystemExit(f"{target.name}: {outcome.errors or outcome.latency_error}")
        for event in events:
            if event["event"] == "case":
                self.ours["clock"].append(event["seconds"] / bundle.n)
                self.ours["cpu"].append(event["cpu_seconds"] / bundle.n)
        if inputs is None:
            self.theirs["clock"].append(1 / outcome.latency["throughput_per_second"])
            return
        self.ours["p50"].append(outcome.latency["p50_ms"])
        command = [sys.executable, __file__, "--bare", target.runtime, bundle.file, inputs]
        said = subprocess.run(
            [*map(str, command), json.dumps(dict(target.options)), str(runs)],
            capture_output=True,
            text=True,
            check=True,
        )
        found = json.loads(said.stdout.splitlines()[-1])
        for clock, cpu in found["rounds"]:
            self.theirs["clock"].append(clock / bundle.n)
            self.theirs["cpu"].append(cpu / bundle.n)
        self.theirs["p50"].append(found["p50_ms"])

    def fastest(self, what: str) -> tuple[float, float]:
        """The lower quartiles."""
        ours, theirs = (float(np.percentile(readings[what], 25)) for readings in (self.ours, self.theirs))
        return ours, theirs


def own_inputs(artifact: Artifact, file: Path, pixels: np.ndarray, runtime: str) -> np.ndarray:
    """What the file takes, computed by the formulas and not by the code that is timed."""
    x = pixels.astype(np.float32) / np.float32(artifact.preproc.divisor)
    x = x.transpose(0, 3, 1, 2) if artifact.preproc.layout == "nchw" else x
    asked = engine(runtime)()
    asked.load(file, {}, 1)
    tensor = asked.input
    x = np.ascontiguousarray(x)
    return x if tensor.dtype == np.float32 else quantize(x, tensor.scale, tensor.zero_point, tensor.dtype)


def make_bundle(root: Path, artifact: Artifact, file: Path, n: int, cases: int) -> Bundle:
    """`cases` cases of random images with an 8x8 stamp each; speed does not ask what is on an image."""
    rng, (height, width) = np.random.default_rng(0), artifact.input_size
    pixels = rng.integers(0, 256, (n, height, width, 3), np.uint8)
    made: dict[str, Stamps | None] = {}
    for case in range(cases):
        corners = np.stack([rng.integers(0, side - 8, n) for side in (height, width)], 1).astype(np.int32)
        stamp = rng.integers(0, 256, (1, 8, 8, 3), np.uint8)
        made[f"case{case}"] = Stamps(stamp, np.ones((1, 8, 8), bool), corners)
    return write_bundle(root, artifact, file, pixels, made)


def artifacts(folder: Path, data: Path | None) -> list[Path]:
    """INT8 in ONNX and in TFLite of one network, exported by the command line."""
    suite, only = (SUITES / "cifar10.toml", "resnet20") if data else (SUITES / "demo.toml", "resnet8")
    command = [sys.executable, "-m", "harness.cli", "export", str(suite), "--into", str(folder)]
    command += [word for kind in ("onnx", "tflite") for word in ("--only", f"{only}-{kind}-s8s8-minmax")]
    subprocess.run(command + (["--data", str(data)] if data else []), check=True, stdout=sys.stderr)
    return sorted(folder.glob("*.json"))


def memory(target: Target, artifact: Artifact, file: Path, folder: Path) -> tuple[float, float]:
    """Anonymous memory of the device after few images and after many, in MiB."""
    found: dict[int, float] = {}
    for n in (FEW, MANY):
        bundle = make_bundle(folder / f"bundle{n}", artifact, file, n, 1)
        events: list[dict[str, Any]] = []
        replay(target, bundle.root, folder / f"out{n}", on_event=events.append)
        (found[n],) = (event["anonymous_bytes"] / 2**20 for event in events if event["event"] == "case")
    return found[FEW], found[MANY]


def measure(
    target: Target, files: list[Path], given: argparse.Namespace, folder: Path, table: Table
) -> dict[str, float]:
    """The rows of a target, and its ratios by name."""
    description = next(path for path in files if Artifact.read(path).format in engine(target.runtime).formats)
    artifact = Artifact.read(description)
    file, least = description.with_name(artifact.file), LEAST_EMULATED if is_emulated(target) else LEAST
    bundle = make_bundle(folder / "bundle", artifact, file, given.images, CASES)
    inputs = None
    if target.host == "local" and target.runtime in BARE:
        inputs = folder / "inputs.npy"
        np.save(inputs, own_inputs(artifact, file, np.array(bundle.pixels), target.runtime))
    readings = Readings()
    for turn in range(given.repeats):
        readings.take(target, bundle, inputs, folder / f"out{turn}", given.runs)
    name, loop = f"{target.name} {artifact.name}", "bare loop" if inputs else "latency loop"
    ratios = {}

    def row(what: str, ours: str, theirs: str, ratio: float, wanted: str, holds: bool) -> None:
        ratios[f"{name}: {what}"] = ratio
        table.add_row(name, what, ours, theirs, f"{ratio:.3f}", wanted, "yes" if holds else "[red]no[/]")

    for clock in readings.theirs:
        ours, theirs = readings.fastest(clock)
        if clock == "p50":
            holds = abs(ours / theirs - 1) <= MOST_OFF
            row(f"p50 of its {loop}", f"{ours:.3f} ms", f"{theirs:.3f} ms", ours / theirs, f"1 ± {MOST_OFF}", holds)
        else:
            ratio, rates = theirs / ours, (f"{1 / ours:.0f}/s", f"{1 / theirs:.0f}/s")
            row(f"throughput of its {loop}, by {clock}", *rates, ratio, f"{least} or more", ratio >= least)
    if not is_emulated(target):
        few, many = memory(target, artifact, file, folder)
        sizes = f"{many:.1f} MiB", f"{few:.1f} MiB"
        row(f"memory of {MANY} images by {FEW}", *sizes, many / few, f"{MOST_MIB} MiB more", many - few <= MOST_MIB)
    return ratios


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "artifact", nargs="*", type=Path, help="descriptions that `export` wrote; by default, made here"
    )
    parser.add_argument("--data", type=Path, help="the folder that has cifar10/")
    parser.add_argument("--target", action="append", help="as `python -m backends.conformance` takes it; repeatable")
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--runs", type=int, default=500, help="of the latency loops")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", type=Path, metavar="FILE", help="writes the ratios by name")
    given = parser.parse_args()
    table = Table("target and file", "what", "replay", "held against", "ratio", "wanted", "holds")
    ratios: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as scratch:
        files = given.artifact or artifacts(Path(scratch) / "artifacts", given.data)
        for number, target in enumerate(map(parse, given.target or TARGETS)):
            if reason := availability(target):
                raise SystemExit(f"{target.name}: {reason}")
            prepare(target)
            (folder := Path(scratch) / str(number)).mkdir()
            ratios |= measure(target, files, given, folder, table)
    Console(width=150).print(table)
    if given.json:
        given.json.write_text(json.dumps({"schema": 1, "ratios": ratios}, indent=1) + "\n")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--bare"]:
        bare(*sys.argv[2:6], runs=int(sys.argv[6]))
    else:
        main()

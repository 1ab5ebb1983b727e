"""Replay images on a runtime, without a suite."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from backends.answers import Outcome, read_answers
from backends.device.artifact import Pixels, Preproc
from backends.device.bundle import write_bundle
from backends.device.errors import UserError
from backends.device.protocol import LatencyLimits
from backends.device.reading import Expected, map_npy
from backends.device.runtimes import Option
from backends.hosts import Target, availability, is_emulated, prepare
from backends.hosts import replay as replay_bundle
from exporters.failure import naming
from harness.api.arrays import check_images
from harness.api.files import described

CASE = "images"
WARM_UP = 10


class Replay(NamedTuple):
    """What a runtime made of images.

    Attributes:
        logits: float32 ``(n, outputs)``; probabilities where the file ends in a softmax.
        integers: The file's own outputs, ``(n, outputs)``, where they are integers; else None. They come after a final
            softmax, where the file has one, and those of a twin before it.
        latency: Milliseconds of each timed run of one image, preprocessing left out; None where nothing was timed.
        environment: What ran and where: runtime, version, kernels, CPU and more, as the device reports it.
    """

    logits: NDArray[np.float32]
    integers: NDArray[np.integer[Any]] | None
    latency: NDArray[np.float64] | None
    environment: dict[str, Any]


def replay(
    file: str | Path,
    images: Pixels,
    runtime: str,
    host: str = "local",
    *,
    options: Mapping[str, Option] | None = None,
    threads: int = 1,
    batch: int = 1,
    version: str = "",
    arch: str = "",
    cpu: str = "",
    image: str = "",
    address: str = "",
    time_limit: float = 300.0,
    timed_runs: int = 100,
    preproc: Preproc | None = None,
) -> Replay:
    """Run a model file on images, on a real runtime in a process of its own, here or elsewhere.

    The images go in as they are: `paste` a patch first. A runtime that the host lacks is installed there. A file that
    does not run, a crash and a hang are a `UserError`.

    Args:
        file: The model file: ``.onnx``, ``.tflite``, ``.pte``, or ``.bmodel``, ``.cvimodel``, ``.rknn``, ``.kmodel`` or
            ``.espdl`` exported here.
        images: uint8 ``(n, h, w, 3)`` RGB, of the size that the file takes.
        runtime: ``onnxruntime``, ``litert`` or another of the runtimes, or one from an installed package.
        host: ``local``, ``qemu``, ``docker`` or ``ssh``.
        options: Options of the runtime, such as ``{"kernels": "xnnpack"}``.
        threads: Threads of the runtime; 0 for one on each core.
        batch: Images in one inference.
        version: Version of the runtime's package; by default the installed or pinned one.
        arch: CPU architecture of the host, as ``uname -m`` writes it; by default this machine's.
        cpu: CPU model that the host emulates.
        image: Your own container image, for ``docker``.
        address: A machine, for ``ssh``: ``pi@raspberrypi``.
        time_limit: Seconds of silence that count as a hang.
        timed_runs: Runs at least to time after the replay; 0 for none, and none under emulation.
        preproc: Preprocessing of a file that `export` did not write; by default guessed from its input's range.
    """
    path = Path(file)
    pixels = check_images(images)
    artifact = replace(described(path, pixels, preproc), file=f"model{path.suffix}")  # its own name may be no plain one
    target = Target(
        name=f"{runtime} on {host}", runtime=runtime, host=host, options=options or {}, threads=threads, batch=batch,
        version=version, arch=arch, cpu=cpu, image=image, address=address, time_limit=time_limit,
    )  # fmt: skip
    if reason := availability(target):
        raise UserError(f"{target.name}: {reason}")
    prepare(target)
    limits: LatencyLimits | None = None
    if timed_runs and not is_emulated(target):
        limits = {"warmup": WARM_UP, "runs": timed_runs, "seconds": 0.0}
    with tempfile.TemporaryDirectory(prefix="replay-") as folder:
        root, out = Path(folder) / "bundle", Path(folder) / "answers"
        out.mkdir()
        with naming(path, root / artifact.file):
            write_bundle(root, artifact, path, pixels, {CASE: None})
            return _read(target, out, len(pixels), replay_bundle(target, root, out, latency=limits))


def _read(target: Target, out: Path, n: int, outcome: Outcome) -> Replay:
    """Read what a replay left; a failed one is a `UserError`."""
    if failed := outcome.errors.get(CASE) or outcome.latency_error:
        raise UserError(f"{target.name}: {failed}")
    answers = read_answers(outcome.files[CASE], (n, None))
    latency = None
    if outcome.latency:
        nanoseconds = map_npy(out / "latency.npy", Expected((np.int64,), (None,)))
        latency = np.array(nanoseconds, np.float64) / 1e6
    where = {"runtime": target.runtime, "host": target.host}
    return Replay(answers["logits"], answers.get("integers"), latency, {**where, **outcome.info, **outcome.machine})

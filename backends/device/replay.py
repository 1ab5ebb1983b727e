"""The device side: ``python -m backends.device.replay BUNDLE OUT``.

It reads one request, a line of JSON, from standard input, and writes events, lines of JSON, to standard output::

    {"schema": 1, "runtime": "litert", "options": {}, "threads": 1, "batch": 1, "cases": ["none"], "latency": null}

``latency`` may be ``{"warmup": 10, "runs": 100, "seconds": 0.5}``, with ``"defence": "jpeg:75"`` to time that defence
too. With ``"attached": true`` this process ends when standard input does, because its parent died or a connection
broke. Events are ``loaded``, ``progress``, ``case``, ``latency`` and ``end``, or ``error`` for a `UserError`, with exit
code 2; `backends.events` lists their keys. Results are ``OUT/CASE.npz`` with ``logits``, float32
``(n, outputs)``, and ``integers`` where the file's output is integer. With ``"session": true`` queries follow on
standard input, answered by ``scores``, behind a ``"defence": "jpeg:75"`` if there is one: see
`backends.device.query_server`.
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import os
import select
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from backends.device import defences, many_passes
from backends.device.artifact import Pixels, sha256_file
from backends.device.batching import Progress, Send, run_all
from backends.device.bundle import Bundle, Case, Hashes, chunk_images
from backends.device.defences import defend
from backends.device.errors import UserError
from backends.device.files import replacing
from backends.device.latency import measure
from backends.device.machine import describe, loaded_packages, memory_bytes
from backends.device.query_server import serve
from backends.device.request import Request, lines
from backends.device.runtimes import Runtime, engine, prepare, real

PROGRESS_SECONDS = 0.25
PIECES = 8


def main(arguments: list[str]) -> int:
    """Answer one request; return the exit code."""
    if len(arguments) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # an interruption ends it, and is no exception with a traceback
    send = _take_standard_output()
    try:
        asked = lines(sys.stdin.buffer)
        request = Request.read(next(asked, b""))
        if request.attached:
            _die_with_parent()
        replay(Bundle.read(Path(arguments[0])), Path(arguments[1]), request, send, asked)
    except UserError as error:
        send("error", message=str(error))
        return 2
    send("end")
    return 0


def replay(bundle: Bundle, out: Path, request: Request, send: Send, queries: Iterable[bytes] = ()) -> None:
    """Run the cases of a request, then the latency loop, then a session's queries, which come as lines.

    Results go to files, events to `send`.
    """
    for name in request.cases:
        bundle.case(name)
    started = time.perf_counter()
    runtime = _load(bundle, request)
    loaded = time.perf_counter()
    # One clean image first: it shows whether the file runs at all, and how many outputs it has.
    one = prepare(runtime.input, bundle.artifact.preproc(np.array(bundle.pixels[:1])), bundle.file)
    outputs = _first_run(runtime, bundle, one)
    load_seconds = loaded - started
    first_run_seconds = time.perf_counter() - loaded
    send(
        "loaded",
        info=runtime.info(),
        machine=describe()._asdict(),
        packages=loaded_packages(),
        load_seconds=load_seconds,
        first_run_seconds=first_run_seconds,
        outputs=outputs,
        bundle_sha256=bundle.sha256,
    )
    for name in request.cases:
        _replay_case(runtime, bundle, name, request.batch, outputs, out, send)
    if request.latency is not None:
        send("progress", case="", done=0)
        facts, nanoseconds = measure(
            *_timed(runtime, bundle, outputs, request.latency.get("defence", "")),
            request.latency,
            lambda done: send("progress", case="", done=done),
        )
        written = _write(out / "latency.npy", lambda stream: np.save(stream, nanoseconds))
        facts["preprocessing"] = "included" if defences.many_passes(request.latency.get("defence", "")) else "excluded"
        cold = load_seconds + first_run_seconds
        send("latency", threads=request.threads, cold_start_seconds=cold, **facts, **written)
    if request.session:
        serve(runtime, bundle, request.batch, outputs, queries, send, request.defence)


def _timed(runtime: Runtime, bundle: Bundle, outputs: int, defence: str) -> tuple[Callable[[Any], object], list[Any]]:
    """Return what to time and its inputs: the network alone, or an image's defence and then the network."""
    pixels = np.array(bundle.pixels[:16])
    if defences.many_passes(defence):
        return many_passes.answerer(runtime, bundle, 1, outputs, defence), list(pixels)
    seen = defend(defence, pixels) if defence else pixels
    x = prepare(runtime.input, bundle.artifact.preproc(seen), bundle.file)
    inputs = [x[i : i + 1] for i in range(len(x))]
    if not defence:
        return runtime.run, inputs

    def defend_and_run(image: tuple[Pixels, NDArray[Any]]) -> None:
        defend(defence, image[0])
        runtime.run(image[1])

    return defend_and_run, [(pixels[i : i + 1], one) for i, one in enumerate(inputs)]


def _load(bundle: Bundle, request: Request) -> Runtime:
    chosen, artifact = engine(request.runtime), bundle.artifact
    if artifact.format not in chosen.formats:
        raise UserError(f"{bundle.file}: {request.runtime} runs {', '.join(chosen.formats)}, not {artifact.format}")
    runtime = chosen()
    runtime.load(bundle.file, request.options, request.threads)
    return runtime


def _first_run(runtime: Runtime, bundle: Bundle, x: NDArray[Any]) -> int:
    """Run one image and return the number of outputs."""
    before = x.tobytes()
    raw = runtime.run(x)
    if x.tobytes() != before:
        raise UserError(f"{bundle.file}: the runtime writes into its input, so none of its results can be trusted")
    least, dtype = bundle.artifact.classes + bundle.artifact.class_offset, runtime.output.dtype
    if raw.ndim != 2 or len(raw) != 1 or raw.shape[1] < least or raw.dtype != dtype:
        raise UserError(
            f"{bundle.file}: expected {dtype} outputs (1, {least} or more), got {raw.dtype} {raw.shape}; "
            "check the artifact's classes and class_offset"
        )
    return int(raw.shape[1])


def _inputs(
    runtime: Runtime, bundle: Bundle, name: str, batch: int, defended: Callable[[Pixels], Pixels]
) -> Iterator[NDArray[Any]]:
    """Yield the file's own inputs of a case, many at a time, in one buffer; `defended` maps pasted pixels.

    Pasting, hashing, defending and preprocessing go by pieces that fit a cache, and fill the buffer before any of it
    runs: so they rarely evict the network's weights, which at batch 1 costs more than all of them.
    """
    n, file = chunk_images(bundle.pixels[0].nbytes, batch), bundle.file
    held = 0
    buffer: NDArray[Any] | None = None
    for pixels in bundle.batches(name, n):
        x = prepare(runtime.input, bundle.artifact.preproc(defended(pixels)), file)
        if buffer is None:
            buffer = np.empty((min(PIECES * n, bundle.n), *x.shape[1:]), x.dtype)
        buffer[held : held + len(x)] = x
        held += len(x)
        if held + n > len(buffer):
            yield buffer[:held]
            held = 0
    if buffer is not None and held:
        yield buffer[:held]


def _replay_case(runtime: Runtime, bundle: Bundle, name: str, batch: int, outputs: int, out: Path, send: Send) -> None:
    started = time.perf_counter()
    cpu_started = time.process_time()
    send("progress", case=name, done=0, of=bundle.n)
    progress = Progress(send, PROGRESS_SECONDS, case=name, of=bundle.n)
    case = bundle.case(name)
    run = many_passes.run_case if defences.many_passes(case.defence) else _run_once
    arrays, hashes = run(runtime, bundle, case, batch, outputs, progress)
    if hashes.pixels != case.sha256:
        raise UserError(
            f"{bundle.root}: case {name} has pixels of sha256 {hashes.pixels}, expected {case.sha256}; "
            "copy the bundle again"
        )
    if hashes.defended != case.defended_sha256:
        raise UserError(
            f"case {name}: {case.defence} gives pixels of sha256 {hashes.defended} here, but "
            f"{case.defended_sha256} where the bundle was written; install the same version of Pillow on both"
        )
    written = _write(out / f"{name}.npz", lambda stream: np.savez(stream, **arrays))
    after_defence = {"defended_sha256": hashes.defended} if hashes.defended else {}
    send(
        "case",
        case=name,
        pixels_sha256=hashes.pixels,
        seconds=time.perf_counter() - started,
        cpu_seconds=time.process_time() - cpu_started,
        anonymous_bytes=memory_bytes("RssAnon"),
        **after_defence,
        **written,
    )


def _run_once(
    runtime: Runtime, bundle: Bundle, case: Case, batch: int, outputs: int, progress: Progress
) -> tuple[dict[str, Any], Hashes]:
    """Run each image of a case once; return the arrays of its file."""
    raws = np.empty((bundle.n, outputs), runtime.output.dtype)
    is_integer = raws.dtype != np.float32
    logits = np.empty(raws.shape, np.float32) if is_integer else raws
    pasted = hashlib.sha256()
    defended = hashlib.sha256()

    def hash_and_defend(pixels: Pixels) -> Pixels:
        pasted.update(pixels.data)
        if case.defence:
            pixels = defend(case.defence, pixels)
            defended.update(pixels.data)
        return pixels

    done = 0
    for x in _inputs(runtime, bundle, case.name, batch, hash_and_defend):
        here = slice(done, done + len(x))
        run_all(runtime, x, batch, raws[here], f"{bundle.file}: case {case.name}", progress)
        logits[here] = real(runtime.output, raws[here])
        done += len(x)
    hashes = Hashes(pasted.hexdigest(), defended.hexdigest() if case.defence else "")
    return {"logits": logits, "integers": raws} if is_integer else {"logits": logits}, hashes


def _write(path: Path, writer: Callable[[BinaryIO], None]) -> dict[str, str]:
    """Write a file; return its name and hash."""
    with replacing(path) as draft:
        with draft.open("wb") as stream:
            writer(stream)
        return {"file": path.name, "file_sha256": sha256_file(draft)}


def _take_standard_output() -> Send:
    """Reserve standard output for events: whatever a runtime prints goes to standard error."""
    stream = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def send(event: str, **facts: Any) -> None:
        stream.write(json.dumps({"event": event, **facts}) + "\n")
        stream.flush()

    return send


def _die_with_parent() -> None:
    """End this process when standard input does, by a process apart: native code may hold this one's lock."""
    device = os.getpid()
    if os.fork():
        return
    try:
        with suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: to end with the device, on Linux
        os.closerange(1, 256)  # or the parent would wait for this process's output
        ends = select.poll()
        ends.register(0, select.POLLRDHUP)  # its data belong to a session
        while os.getppid() == device and not ends.poll():
            pass
        if os.getppid() == device:
            os.kill(device, signal.SIGKILL)
    finally:
        os._exit(0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

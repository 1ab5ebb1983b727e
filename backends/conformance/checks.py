"""The checks: each returns what is wrong, or an empty string."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backends.answers import Outcome, read_answers
from backends.conformance import networks
from backends.conformance.subject import LATENCY, N, Subject, noise
from backends.device.artifact import Pixels, Preproc
from backends.device.bundle import Bundle, Stamps, paste, write_bundle
from backends.device.checksums import write_sums
from backends.device.defences import defend
from backends.device.errors import UserError
from backends.device.reading import Expected, map_npy
from backends.device.runtimes import Option, engine
from backends.hosts import ask, replay, request
from backends.query_client import session

FACTS = {"version", "kernels", "threads"}  # required in `info`
MACHINE_FACTS = {"arch", "cpu", "features", "cores", "memory_bytes", "kernel", "python", "numpy", "emulated"}
CRAFT_SIDE = {"torch", "torchvision", "onnx", "pandas", "pydantic", "harness", "exporters", "patches"}
WRONG: dict[str, Option] = {"no such option": 1}


def _logits(subject: Subject) -> str:
    if subject.first.errors:
        return _said(subject.first)
    for case in subject.bundle.cases:
        logits = _arrays(subject.first, case.name)["logits"]
        if fault := networks.faults(subject.kind, _pasted(subject.bundle, case.name), logits):
            return f"case {case.name}: {fault}"
    return ""


def _integers(subject: Subject) -> str:
    for case in subject.bundle.cases if subject.first.files else ():
        arrays = _arrays(subject.first, case.name)
        output = networks.OUTPUTS.get(subject.kind)
        if bool(output) != ("integers" in arrays):
            return f"the file's output is {'integer' if output else 'float'}, got {sorted(arrays)}"
        if output:
            steps = (arrays["integers"].astype(np.float64) - output.zero_point) * output.scale
            if not np.allclose(arrays["logits"], steps, rtol=1e-6):
                return "logits are not the dequantized integers"
    return _said(subject.first)


def _twice(subject: Subject) -> str:
    return _differ(subject.first, subject.replay("second"), 0.0)


def _batches(subject: Subject) -> str:
    return _differ(subject.first, subject.replay("batches", batch=3), 1e-6)


def _info(subject: Subject) -> str:
    info = subject.first.info
    absent = (FACTS - set(info)) | (MACHINE_FACTS - set(subject.first.machine))
    if absent:
        return f"lacks {', '.join(sorted(absent))}"
    empty = [name for name, value in info.items() if not isinstance(value, str) or not value]
    if empty:
        return f"expected a non-empty string for {', '.join(empty)}"
    if subject.target.threads and info["threads"] != str(subject.target.threads):
        return f"asked for {subject.target.threads} threads, but {info['threads']} are in force"
    return ""


def _packages(subject: Subject) -> str:
    if "numpy" not in subject.packages:
        return f"expected numpy among what the device has loaded, got {subject.packages}"
    runtime = engine(subject.target.runtime)
    loaded = set(subject.packages) & (CRAFT_SIDE - {runtime.package, *getattr(runtime, "brings", ())})
    return f"the device has loaded {', '.join(sorted(loaded))}" if loaded else ""


def _latency(subject: Subject) -> str:
    found = subject.first.latency
    if found is None:
        return f"no latency: {subject.first.latency_error}"
    nanoseconds = map_npy(subject.folder / "first/latency.npy", Expected((np.int64,), (None,)))
    if found.n != len(nanoseconds) or found.n < LATENCY["runs"] or nanoseconds.min() <= 0:
        return f"expected {LATENCY['runs']:g} or more runs, got {found.n}, the shortest {nanoseconds.min()} ns"
    return "" if 0 < found.p50_ms <= found.p90_ms <= found.p99_ms else f"no percentiles: {found}"


def _defence(subject: Subject) -> str:
    """Replay the same images twice: defended there, and defended here and pasted over the whole image."""
    pixels = noise()
    word = "median:3"
    root = subject.folder / "defence"
    whole = np.ones((1, networks.SIZE, networks.SIZE), np.bool_)
    here = Stamps(defend(word, pixels), whole, np.zeros((N, 2), np.int32))
    file = networks.file(subject.kind)
    write_bundle(root, subject.bundle.artifact, file, pixels, {"there": None, "here": here}, {"there": word})
    outcome = replay(subject.target, root, subject.folder / "defended")
    if outcome.errors:
        return _said(outcome)
    there, pasted = (_arrays(outcome, case)["logits"] for case in ("there", "here"))
    return "" if (there == pasted).all() else f"{word} on the device gives other logits than pixels after {word}"


def _option(subject: Subject) -> str:
    return _refused(subject.replay("option", options={**subject.target.options, **WRONG}), "no such option")


def _shape(subject: Subject) -> str:
    """Describe the network with the other layout, so that its inputs have the wrong shape."""
    described = replace(subject.bundle.artifact, preproc=Preproc("nchw" if subject.kind == "tflite" else "nhwc"))
    root = subject.folder / "shape"
    write_bundle(root, described, networks.file(subject.kind), noise(), {"none": None})
    return _refused(replay(subject.target, root, subject.folder / "shaped"), "takes inputs")


def _dtype(subject: Subject) -> str:
    """Send pixels of another dtype, which only a device can meet: `write_bundle` refuses them."""
    root = subject.folder / "dtype"
    write_bundle(root, subject.bundle.artifact, networks.file(subject.kind), noise(), {"none": None})
    np.save(root / "pixels.npy", noise().astype(np.float32), allow_pickle=False)
    ending = ask(
        subject.target, root, subject.folder / "typed", request(subject.target, cases=["none"]), lambda event: None
    )
    return "" if "uint8" in ending.why else f"expected an error about uint8, got {ending.why or 'no error'!r}"


def _pixel(subject: Subject) -> str:
    """Change one pixel of a bundle whose cases were hashed before."""
    root = subject.folder / "pixel"
    write_bundle(root, subject.bundle.artifact, networks.file(subject.kind), noise(), {"none": None})
    pixels = noise()
    pixels[-1, -1, -1, -1] ^= 1
    np.save(root / "pixels.npy", pixels, allow_pickle=False)
    write_sums(root)
    return _refused(replay(subject.target, root, subject.folder / "pixeled"), "sha256")


def _untouched(subject: Subject) -> str:
    """Expect a runtime that writes into its input to be refused."""
    return _refused(subject.faulty("scribble", 1), "writes into its input")


def _crash(subject: Subject) -> str:
    return _alone(subject.faulty("segv"), "crash: SIGSEGV")


def _end(subject: Subject) -> str:
    return _alone(subject.faulty("leave"), "crash: exit code 0 before the end")


def _hang(subject: Subject) -> str:
    return _alone(subject.faulty("hang"), "hang: ")


def _lock(subject: Subject) -> str:
    return _alone(subject.faulty("native hang"), "hang: ")


def _prints(subject: Subject) -> str:
    outcome = subject.faulty("print")
    return _said(outcome) if outcome.errors else ""


def _session(subject: Subject) -> str:
    """Query some images, in another order than the bundle's, each with its own stamp or all with one."""
    order = np.array([5, 0, 3], np.int32)
    with session(subject.target, subject.bundle.root, subject.folder / "session") as held:
        for case in ("each", "same", "each"):
            stamps = subject.bundle.stamps(case)
            assert stamps is not None
            if (held.scores(stamps.of(order), order) != _arrays(subject.first, case)["logits"][order]).any():
                return f"a session's scores differ from the replay of {case}"
    return "" if held.info == subject.first.info else f"a session reports {held.info}, a replay {subject.first.info}"


def _session_crash(subject: Subject) -> str:
    """Crash in the second query; the first run is that of loading."""
    target = replace(subject.target, runtime="dummy", version="", options={"fault": "segv", "at": 2 + N})
    stamps = subject.bundle.stamps("each")
    assert stamps is not None
    try:
        with session(target, subject.bundle.root, subject.folder / "broken") as held:
            for _ in range(2):
                held.scores(stamps, np.arange(N, dtype=np.int32))
    except UserError as error:
        expected = f"{target.name}: crash: SIGSEGV"
        return "" if str(error).startswith(expected) else f"expected {expected!r}, got {error}"
    return "expected an error about a crash"


def _pasted(bundle: Bundle, case: str) -> Pixels:
    stamps = bundle.stamps(case)
    return np.array(bundle.pixels) if stamps is None else paste(bundle.pixels, *stamps)


def _arrays(outcome: Outcome, case: str) -> dict[str, NDArray[Any]]:
    return read_answers(outcome.files[case], (N, None))


def _said(outcome: Outcome) -> str:
    return "; ".join(f"{case}: {why}" for case, why in outcome.errors.items())


def _differ(a: Outcome, b: Outcome, tolerance: float) -> str:
    if a.errors or b.errors or list(a.files) != list(b.files):
        return _said(a) or _said(b) or f"results for {list(a.files)}, then for {list(b.files)}"
    for case in a.files:
        found, other = _arrays(a, case), _arrays(b, case)
        for name in found:
            if found[name].shape != other[name].shape:
                return f"case {case}: {name} of shape {found[name].shape}, then {other[name].shape}"
            off = np.abs(found[name].astype(np.float64) - other[name]).max()
            if not off <= tolerance * (1 + np.abs(found[name].astype(np.float64)).max()):
                return f"case {case}: {name} differ by {off:.2g}"
    return ""


def _refused(outcome: Outcome, word: str) -> str:
    """Return what is wrong unless every case has an error with this word in it."""
    if outcome.files or not outcome.errors:
        return f"expected an error for every case, got results for {', '.join(outcome.files) or 'none'}"
    return next((f"expected an error with {word!r}, got {w!r}" for w in outcome.errors.values() if word not in w), "")


def _alone(outcome: Outcome, start: str) -> str:
    """Return what is wrong unless the second case, and only it, has an error that starts like this."""
    if list(outcome.files) != ["none", "same"] or list(outcome.errors) != ["each"]:
        return f"expected an error of the second case only, got results for {list(outcome.files)}; {_said(outcome)}"
    why = outcome.errors["each"]
    return "" if why.startswith(start) else f"expected an error that starts {start!r}, got {why!r}"


Checks = dict[str, Callable[[Subject], str]]
OF_RUNTIME: Checks = {
    "logits equal a computation in numpy": _logits,
    "integers come with them, where the file's output is integer": _integers,
    "the same twice gives the same": _twice,
    "batches of 1 give what batches of 3 give": _batches,
    "it says what is in force, and on what": _info,
    "the device loads nothing of the craft side": _packages,
    "it measures a latency": _latency,
    "a defence comes before the network": _defence,
    "an unknown option is refused": _option,
    "images of another shape are refused": _shape,
    "pixels of another dtype are refused": _dtype,
    "pixels that are not those that were sent are refused": _pixel,
    "a session gives the scores of a replay": _session,
}
OF_HOST: Checks = {  # asked of the dummy runtime, so the same for every runtime there
    "a runtime that writes into its input is refused": _untouched,
    "whatever a runtime prints, the events stay whole": _prints,
    "a crash is the error of its case alone": _crash,
    "so is an end too early": _end,
    "so is a hang": _hang,
    "so is a hang that keeps the interpreter's lock": _lock,
    "a crash in a session is told": _session_crash,
}
CHECKS = OF_RUNTIME | OF_HOST

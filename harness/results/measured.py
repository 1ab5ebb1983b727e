"""The entries of ``run.json`` on what was measured beside cells: repeats, arithmetic, twins, latencies, agreement."""

from __future__ import annotations

from typing import Literal

from harness.results.entries import Entry


class RepeatEntry(Entry):
    """A second replay of a few ``images``: how many have ``equal`` logits, or the error of that replay."""

    artifact: str
    target: str
    images: int = 0
    equal: int = 0
    error: str = ""


class AlikeEntry(RepeatEntry):
    """A replay of a few images on ``other`` than the ``board`` of the fleet that answered them first."""

    board: str = ""
    other: str = ""


class ArithmeticEntry(Entry):
    """A target's integers against those of the file's twin, `harness.run.arithmetic.Arithmetic`; or why none can tell.

    ``signature`` are the types of the file's activations and weights, ``u8s8``.
    """

    artifact: str
    target: str
    signature: str = ""
    images: int = 0
    outputs: int = 0
    top1: float = 1.0
    equal: float = 1.0
    within_one: float = 1.0
    largest: int = 0
    unknown: str = ""


class ElsewhereEntry(Entry):
    """A target's answers to the first clean images against those that the same file gives elsewhere, ``against``.

    ``flips`` of the ``images`` get another class; ``correlation`` is that of all outputs. ``differs`` says how where
    that is more than kernels explain, and ``unknown`` why there is nothing to hold it against.
    """

    artifact: str
    target: str
    against: str = ""
    images: int = 0
    flips: int = 0
    correlation: float = 1.0
    differs: str = ""
    unknown: str = ""


class TwinEntry(Entry):
    """A twin that patches were made on, against the runtime whose kernels it follows, in batches of several sizes.

    ``equal`` is the share of the ``integers`` compared that are the same, the least of all batch sizes; ``wanted`` the
    share that the suite asks for, and ``patches`` those made on it. ``differs_from`` is the first operator whose
    integers are others, where any are, and ``cause`` says why where this CPU is known to differ.
    """

    artifact: str
    kernels: str
    patches: tuple[str, ...] = ()
    images: int = 0
    batches: tuple[int, ...] = ()
    integers: int = 0
    equal: float = 0.0
    largest: int = 0
    differs_from: str = ""
    cause: str = ""
    wanted: float = 1.0


class LatencyEntry(Entry):
    """The latency of one image on a target; ``throughput`` in images per second.

    Where the kernel tells: the CPU's ``governors``, its frequency before and after and the most that it can be, the
    temperature after, and whether it ``throttled`` meanwhile. ``arena_kb`` is the smallest tensor arena in which the
    file loads, where the runtime is a microcontroller's. ``board`` is the address of the one that was timed of a fleet.
    """

    p50_ms: float
    p90_ms: float
    p99_ms: float
    n: int
    threads: int
    artifact: str
    target: str
    defence: str = ""
    throughput: float
    clock_ns: int = 0
    cold_start_ms: float
    peak_rss_mb: float
    arena_kb: float | None = None
    emulated: bool = False
    governors: tuple[str, ...] = ()
    mhz_before: float | None = None
    mhz_after: float | None = None
    most_mhz: float | None = None
    celsius: float | None = None
    throttled: bool = False
    board: str = ""


class AgreementEntry(Entry):
    """Two targets on one file; see `harness.results.agreement`."""

    artifact: str
    a: str
    b: str
    images: Literal["clean", "patched"]
    n: int
    predictions_differ: float
    values: int
    values_differ: float
    largest: float
    mean: float
    unit: Literal["step", "logit"]

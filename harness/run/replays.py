"""The stages on targets: replays side by side, then latencies one at a time; each result is stored as it comes."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from backends.answers import read_answers
from backends.device.artifact import Pixels
from backends.device.bundle import Bundle, paste
from backends.device.defences import Classify, defend, many_passes
from backends.device.errors import UserError
from backends.device.many_passes import answer_all
from backends.device.protocol import LatencyLimits
from backends.device.reading import read_json
from backends.events import Answered, CaseFailed, Event, Progress
from backends.hosts import Target, cores, fidelity_of, prepare, replay
from harness.plan.cells import Case, LatencyStep, ReplayStep
from harness.plan.steps import TORCH
from harness.results.records import Answers, Passes
from harness.run import crafting, fleets, parts, stages
from harness.run.asking import Ran, ask
from harness.run.elsewhere import fault
from harness.run.lanes import Share, side_by_side
from harness.run.stages import Work
from harness.run.tasks import verb
from harness.store import Store, Took, write_json

# The latency of what is no device compares with nothing: a few runs show that it works.
FEW_RUNS: LatencyLimits = {"warmup": 1, "runs": 5, "seconds": 0.0}


class Batch(NamedTuple):
    """Replays of one artifact on one target, which a device answers in one go, and the cases of their bundle."""

    steps: tuple[ReplayStep, ...]
    cases: tuple[Case, ...]

    @property
    def target(self) -> Target:
        """Where they run."""
        return self.steps[0].target

    def missing(self, store: Store) -> list[ReplayStep]:
        """Return those that are not in the store yet."""
        return [step for step in self.steps if not store.has("replay", step.key)]


def batches(steps: Iterable[ReplayStep]) -> list[Batch]:
    """Sort replays into batches; those of one artifact share a bundle, on whatever target."""
    cases: dict[tuple[str, str], dict[str, Case]] = {}
    together: dict[tuple[str, str, str], list[ReplayStep]] = {}
    for step in steps:
        artifact, split = step.artifact.key, step.case.split
        cases.setdefault((artifact, split), {})[step.case.key] = step.case
        together.setdefault((step.target.name, artifact, split), []).append(step)
    return [
        Batch(tuple(several), tuple(cases[artifact, split].values()))
        for (_, artifact, split), several in together.items()
    ]


def replays(work: Work, steps: Iterable[ReplayStep]) -> None:
    """Replay what is not in the store yet: the float network first, then the targets side by side."""
    missing: dict[str, list[Batch]] = {}
    for batch in batches(steps):
        if batch.missing(work.store):
            missing.setdefault(batch.target.name, []).append(batch)
    for batch in missing.pop(TORCH, []):
        in_torch(work, batch.missing(work.store))
    ready = [
        several for several in missing.values() if prepared(work, [s for b in several for s in b.missing(work.store)])
    ]
    # One thread writes the bundles, before the targets share the store.
    packed = [[(batch.missing(work.store), bundle(work, batch)) for batch in several] for several in ready]
    share = Share()
    side_by_side([partial(_on_target, work, several, share) for several in packed], share)


def bundle(work: Work, batch: Batch) -> Path:
    """Pack a batch's artifact and all cases of its split into the directory that a device gets."""
    return crafting.bundle(work, batch.steps[0].artifact, batch.cases)


def latencies(work: Work, steps: Iterable[LatencyStep]) -> None:
    """Measure what is not in the store yet, one at a time, with no other work of ours running."""
    missing = [step for step in steps if not work.store.has("latency", step.key)]
    of_target: dict[str, list[LatencyStep]] = {}
    for step in missing:
        of_target.setdefault(step.target.name, []).append(step)
    for several in of_target.values():
        if prepared(work, several):
            for step in several:
                _latency(work, step, fleets.one_board(step.target))


def answers(work: Work, step: ReplayStep) -> Answers:
    """Return the result of a replay from the store, or its error."""
    folder = work.store.path("replay", step.key)
    if not work.store.has("replay", step.key):
        return Answers(None, work.errors.get(step.key, "was not replayed"), {}, {})
    ran = read_json(folder / "ran.json")
    arrays = read_answers(folder / "answers.npz", (None, None))
    passes = None
    if module := many_passes(step.case.defence):
        verdicts = np.array(module.VERDICTS)[arrays["verdicts"]]
        passes = Passes(verdicts, arrays["passes"], arrays["certified"])
    return Answers(
        arrays["logits"], "", ran["info"], ran["machine"], arrays.get("integers"), passes, ran.get("board", "")
    )


def prepared(work: Work, steps: list[ReplayStep] | list[LatencyStep]) -> bool:
    """Install whatever the steps' target is missing; where that fails, it is the error of each step: return False."""
    target = steps[0].target
    try:
        with work.display.preparing("prepare", target.name) as tell:
            prepare(target, tell)
    except UserError as error:
        for step in steps:
            work.errors[step.key] = str(error)
        return False
    return True


def _on_target(work: Work, several: Sequence[tuple[list[ReplayStep], Path]], share: Share) -> None:
    """Replay on one target, one artifact after another, or a fleet; what takes long is split by images."""
    if len(several[0][0][0].target.boards) > 1:
        return on_fleet(work, several, share)
    for todo, root in several:
        count = parts.begun(work, todo) or whole(work, todo, root, share, share.cores)
        if count:
            left = [s for s in todo if not work.store.has("replay", s.key) and s.key not in work.errors]
            parts.replay_in_parts(work, left, root, count, share)


def on_fleet(work: Work, several: Sequence[tuple[list[ReplayStep], Path]], share: Share) -> None:
    """Replay on the boards of a fleet, whichever is free."""
    good = [one for one in several if _is_as_elsewhere(work, one[0], share)]
    if good:
        fleets.spread(work, good, share, partial(_keep, work))


def _is_as_elsewhere(work: Work, todo: list[ReplayStep], share: Share) -> bool:
    """Whether a target answers an artifact as it is answered elsewhere; else that is the error of its replays."""
    with share.taking(cores(todo[0].target)):
        why = fault(work, todo[0], share.go_on)
    if why:
        work.errors |= {step.key: why for step in todo}
    return not why


def whole(work: Work, todo: list[ReplayStep], root: Path, share: Share, most: int) -> int:
    """Replay cases of one artifact on one target, once it answers as it does elsewhere; keep each result as it comes.

    One that takes long is stopped where ``most`` cores let parts of it run side by side: return into how many parts to
    split the rest, else 0.
    """
    first, n = todo[0], Bundle.read(root).n
    each = cores(first.target)
    if not _is_as_elsewhere(work, todo, share):
        return 0
    pace = parts.Pace(most // each if each else 1)
    what = f"{first.artifact.name} on {first.target.name}, {len(todo)} cases"
    try:
        with share.taking(each), work.display.doing(verb(first), what) as tick:

            def tell(finished: int, done: int, case: str) -> None:
                tick(finished * n + done, len(todo) * n, case)
                pace.check(finished * n + done, len(todo) * n)

            ask(work, todo, root, share, partial(_keep, work, n), tell)
    except parts.Long as long:
        return long.parts
    return 0


def _keep(work: Work, images: int, step: ReplayStep, event: Answered, ran: Ran) -> None:
    facts = event.model_dump(include={"seconds", "pixels_sha256", "defended_sha256"}, exclude_defaults=True)
    with work.store.writing("replay", step.key, Took(verb(step), step.what, event.seconds, images)) as beside:
        Path(event.file).rename(beside / "answers.npz")
        write_json(beside / "ran.json", {**ran, **facts})


def in_torch(work: Work, todo: list[ReplayStep]) -> None:
    """Answer with the network itself, or with its simulation: what files are compared with."""
    import torch

    from backends.device.machine import describe
    from harness.networks.victims import logits

    with work.display.doing(verb(todo[0]), f"{todo[0].artifact.name}, {len(todo)} cases") as tick:
        for done, step in enumerate(todo, 1):
            seen = stages.images(work, step.case.data, step.case.split)
            stamps = crafting.stamps(work, step.case, seen.ids)
            pixels = np.array(seen.pixels) if stamps is None else paste(seen.pixels, *stamps)
            with work.store.writing("replay", step.key, Took(verb(step), step.what, images=len(pixels))) as beside:
                network = partial(logits, work.simulated(step.artifact))
                arrays = _behind(step.case.defence, pixels, network, is_clean=stamps is None)
                np.savez(beside / "answers.npz", **arrays)  # type: ignore[arg-type]
                ran = {"info": {"version": torch.__version__}, "machine": describe()._asdict()}
                write_json(beside / "ran.json", ran)
            tick(done, len(todo), "")


def _behind(defence: str, pixels: Pixels, network: Classify, *, is_clean: bool) -> dict[str, NDArray[Any]]:
    """Return the arrays of a case's file, of a network behind a defence, if any."""
    if many_passes(defence):
        return answer_all(defence, pixels, len(pixels), network, is_clean, lambda _: None)
    return {"logits": network(defend(defence, pixels) if defence else pixels)}


def _is_device(target: Target) -> bool:
    """Whether a target's latencies are those of a device; of a board that a runtime names, only the board knows."""
    return target.host == "ssh" or fidelity_of(target) == "device"


def _latency(work: Work, step: LatencyStep, board: Target) -> None:
    data = step.artifact.victim.data
    settings = work.plan.suite.latency
    clean = next(
        r.case
        for r in work.plan.replays
        if r.case.name == "none" and r.case.split == "evaluate" and r.case.data == data
    )
    root = crafting.bundle(work, step.artifact, [clean])
    asked: LatencyLimits = {"warmup": settings.warmup, "runs": settings.runs, "seconds": settings.seconds}
    limits = (asked if _is_device(step.target) else FEW_RUNS).copy()
    if step.defence:
        limits["defence"] = step.defence
    threads = "all" if step.target.threads == 0 else step.target.threads
    what = f"{step.pair}, threads {threads}"
    if step.defence:
        what += f", {step.defence}"
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(dir=work.store.scratch) as out, work.display.doing(verb(step), what) as tick:

        def hear(event: Event | CaseFailed) -> None:
            if isinstance(event, Progress):
                tick(min(event.done, limits["runs"]), limits["runs"], "")

        outcome = replay(board, root, Path(out), cases=[], latency=limits, on_event=hear)
        if outcome.latency is None:
            work.errors[step.key] = outcome.latency_error or "no latency came back"
            return
        took = Took(verb(step), step.what, time.monotonic() - begun)
        with work.store.writing("latency", step.key, took) as beside:
            (Path(out) / "latency.npy").rename(beside / "latency.npy")
            found = outcome.latency
            speeds = {"before": found.before._asdict(), "after": found.after._asdict()}
            ran = {"info": outcome.info, "machine": outcome.machine} | fleets.named(step.target, board)
            write_json(beside / "latency.json", found.model_dump() | speeds | ran)

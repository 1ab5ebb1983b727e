"""A long replay in parts: its images are split, the parts run side by side, and their answers are joined.

A part is a bundle of some of the images, whole batches of them, so that its answers are those of the whole to the bit.
Each part is kept in the store until all are there: a run that is killed in between goes on with those that it has.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from backends.answers import read_answers
from backends.device.bundle import Bundle, Hashes, chunk_images, hash_pixels, pasted, write_bundle
from backends.device.reading import read_json
from backends.events import Answered
from backends.hosts import cores
from harness.plan.cells import ReplayStep
from harness.run.asking import Ran, ask
from harness.run.lanes import Share, side_by_side
from harness.run.stages import Work
from harness.run.tasks import verb
from harness.store import Took, write_json

PROBE_SECONDS = 10.0  # of replaying, after which it is known how long the rest takes
PART_SECONDS = 20.0  # of a part at least: each loads the file anew, which takes ten seconds on an emulated CPU


class Long(Exception):
    """A replay that is better done in so many parts."""

    def __init__(self, parts: int) -> None:
        self.parts = parts


class Pace:
    """Tells by its first seconds whether a replay is worth splitting, into at most ``most`` parts."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._begun = time.monotonic()

    def check(self, done: int, of: int) -> None:
        """Raise `Long` if what is left of so many images fills several parts."""
        if done == 0:
            self._begun = time.monotonic()
        elif (seconds := time.monotonic() - self._begun) >= PROBE_SECONDS:
            parts = min(self._most, int(seconds / done * (of - done) / PART_SECONDS))
            if parts > 1:
                raise Long(parts)


class Part(NamedTuple):
    """Some images of a replay: the part's number, from 1, of so many."""

    number: int
    of: int
    images: slice

    def key(self, step: ReplayStep) -> str:
        """The folder of its answers in the store."""
        return f"{step.key}/{self.number}of{self.of}"


def split(images: int, batch: int, parts: int) -> list[Part]:
    """Split images into parts of whole batches, about equally many; fewer parts where there are fewer batches."""
    batches = -(-images // batch)
    parts = min(parts, batches)
    edges = [min(images, batch * (batches * i // parts)) for i in range(parts + 1)]
    return [Part(i, parts, slice(*two)) for i, two in enumerate(pairwise(edges), 1)]


def begun(work: Work, todo: Sequence[ReplayStep]) -> int:
    """Return into how many parts an earlier run split these replays and was stopped; 0 if it did not."""
    for step in todo:
        folder = work.store.path("part", step.key)
        if folder.is_dir():
            return max((int(name.name.partition("of")[2]) for name in folder.iterdir()), default=0)
    return 0


def replay_in_parts(work: Work, todo: Sequence[ReplayStep], root: Path, parts: int, share: Share) -> None:
    """Replay cases of one artifact on one target in parts, and join the answers."""
    first = todo[0]
    bundle = Bundle.read(root)
    several = split(bundle.n, first.target.batch, parts)
    what = f"{first.artifact.name} on {first.target.name}, {len(todo)} cases in {len(several)} parts"
    with work.display.doing(verb(first), what) as tick:
        done = dict.fromkeys(range(1, len(several) + 1), 0)

        def tell(part: Part, images: int, word: str) -> None:
            done[part.number] = images
            tick(sum(done.values()), len(todo) * bundle.n, word)

        side_by_side(
            [partial(replay_part, work, todo, bundle, part, share, partial(tell, part)) for part in several], share
        )
        for step in todo:
            join(work, step, bundle, several)


def replay_part(
    work: Work, todo: Sequence[ReplayStep], bundle: Bundle, part: Part, share: Share, tell: Callable[[int, str], None]
) -> None:
    """Replay one part of the images, as far as the store lacks it."""
    missing = [step for step in todo if not work.store.has("part", part.key(step))]
    if not missing:
        return
    images = part.images.stop - part.images.start

    def told(finished: int, done: int, case: str) -> None:
        tell(finished * images + done, case)

    with tempfile.TemporaryDirectory(dir=work.store.scratch) as folder:
        root = Path(folder) / "bundle"
        names = [step.case.name for step in missing]
        stamps = {name: bundle.stamps(name) for name in names}
        write_bundle(
            root, bundle.artifact, bundle.file, np.array(bundle.pixels[part.images]),
            {name: whole.of(part.images) if whole else None for name, whole in stamps.items()},
            {name: bundle.case(name).defence for name in names},
        )  # fmt: skip
        with share.taking(cores(missing[0].target)):
            ask(work, missing, root, share, partial(_keep, work, part), told)


def _keep(work: Work, part: Part, step: ReplayStep, event: Answered, ran: Ran) -> None:
    facts = event.model_dump(include={"seconds", "pixels_sha256", "defended_sha256"}, exclude_defaults=True)
    with work.store.writing("part", part.key(step)) as beside:
        Path(event.file).rename(beside / "answers.npz")
        write_json(beside / "ran.json", {**ran, **facts})


def join(work: Work, step: ReplayStep, bundle: Bundle, several: Sequence[Part]) -> None:
    """Join the parts' answers to a replay's, if none failed; they are held against the pixels of the whole."""
    if not all(work.store.has("part", part.key(step)) for part in several):
        return
    folders = [work.store.path("part", part.key(step)) for part in several]
    rans = [read_json(folder / "ran.json") for folder in folders]
    case = bundle.case(step.case.name)
    for part, ran in zip(several, rans, strict=True):
        if _crafted(bundle, case.name, part) != Hashes(ran["pixels_sha256"], ran.get("defended_sha256", "")):
            work.errors[step.key] = f"part {part.number} of {part.of} was given other pixels; run again"
        elif ran["info"] != rans[0]["info"]:
            work.errors[step.key] = f"parts ran differently: {rans[0]['info']} and {ran['info']}"
    if step.key not in work.errors:
        answers = [read_answers(folder / "answers.npz", (None, None)) for folder in folders]
        arrays: dict[str, Any] = {name: np.concatenate([one[name] for one in answers]) for name in answers[0]}
        ran = rans[0] | {"seconds": sum(ran["seconds"] for ran in rans), "pixels_sha256": case.sha256}
        if case.defence:
            ran["defended_sha256"] = case.defended_sha256
        with work.store.writing("replay", step.key, Took(verb(step), step.what, ran["seconds"], bundle.n)) as beside:
            np.savez(beside / "answers.npz", **arrays)
            write_json(beside / "ran.json", ran)
    shutil.rmtree(work.store.path("part", step.key))


def _crafted(bundle: Bundle, name: str, part: Part) -> Hashes:
    """Hash the pixels of a part as the whole bundle has them."""
    stamps = bundle.stamps(name)
    pixels = bundle.pixels[part.images]
    seen = pasted(pixels, stamps.of(part.images) if stamps else None, chunk_images(pixels[0].nbytes))
    return hash_pixels(seen, bundle.case(name).defence)

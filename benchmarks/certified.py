"""Attack images that PatchCleanser certifies: ``python benchmarks/certified.py FILE --data DIR [--patch PX]``.

FILE is an INT8 file of CIFAR-10, its description beside it, as this writes it::

    patchbench export defences-cifar10-certified --data DIR --only 'resnet20-tflite-s8s8-*cutout8' -o MODELS

The first certified images, test images first, and as many that are not certified, meet three attacks, each after the
last: patches of noise, of one colour and of other images at places all over the image; PGD through the masks on the
file's twin, where the former misled most masks; and Sparse-RS, which asks the defended runtime itself. A certificate
says that no patch changes the runtime's answer. Writes the table to ``benchmarks/results/certified.md``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import numpy as np
import typer
from numpy.typing import NDArray
from scipy.stats import binomtest

from backends.device.artifact import Artifact, Pixels
from backends.device.bundle import paste
from backends.device.defences import patchcleanser
from backends.device.runtimes import engine, prepare, real
from harness import config
from harness.data import datasets as data
from harness.run.trial import RUNTIMES
from patches.craft import craft
from patches.differentiable_defences import defended
from patches.problem import Problem
from patches.surrogates import build
from patches.surrogates.device import Device

RESULTS = Path(__file__).parent / "results"
CIFAR10 = config.DataTable(name="cifar10", calibration=1, craft=1, evaluate=1)
ATTACKS = ("everywhere", "PGD through the masks", "Sparse-RS, asking the device")
Corners = NDArray[np.int32]


class Effort(NamedTuple):
    """How hard to try: steps between places in pixels, places and steps of PGD, queries of Sparse-RS an image."""

    stride: int
    places: int
    steps: int
    queries: int


class Answered(NamedTuple):
    """The logits of a defended answer, its label, and which label the image has under each first mask."""

    logits: NDArray[np.float32]
    label: int
    masked: NDArray[np.int64]


class Defended:
    """A file on its runtime behind PatchCleanser; ``passes`` are those that it took so far."""

    def __init__(self, file: Path, patch_px: int) -> None:
        self.description = file.with_suffix(".json")
        self.artifact = Artifact.read(self.description)
        self.patch_px = patch_px
        self.passes = 0
        self._file = file
        self._runtime = engine(RUNTIMES[file.suffix])()
        self._runtime.load(file, {}, 1)

    def classify(self, pixels: Pixels) -> NDArray[np.float32]:
        """Return the file's own logits ``(n, classes)``."""
        self.passes += len(pixels)
        x = prepare(self._runtime.input, self.artifact.preproc(pixels), self._file)
        # one image a pass, as a replay has it
        raws = np.concatenate([self._runtime.run(x[i : i + 1]) for i in range(len(x))])
        return real(self._runtime.output, raws)

    def answer(self, image: Pixels) -> Answered:
        """Answer an image ``(h, w, 3)`` by double masking."""
        rounds: list[NDArray[np.int64]] = []

        def watched(pixels: Pixels) -> NDArray[np.float32]:
            logits = self.classify(pixels)
            rounds.append(logits.argmax(axis=1))
            return logits

        said = patchcleanser.answer(image, watched, self.patch_px)
        return Answered(said.logits, int(said.logits.argmax()), rounds[0])

    def certifies(self, image: Pixels) -> bool:
        """Whether no patch on this image changes the answer."""
        return patchcleanser.certified(image, self.classify, self.patch_px)


@dataclass
class Attacked:
    """Images of one group, their answers without a patch, and what the attacks made of each.

    ``changed`` has the attack that changed an image's answer first. ``misled`` is the most first masks that a patch got
    another label from, as a share, and ``worst`` where: int32 ``(n, places, 2)``.
    """

    pixels: Pixels
    labels: NDArray[np.int64]
    changed: list[str]
    patches: dict[str, int]
    misled: NDArray[np.float64]
    worst: Corners


def main(
    file: Path,
    data_dir: Annotated[Path, typer.Option("--data")],
    patch_px: Annotated[int, typer.Option("--patch")] = 8,
    images: Annotated[int, typer.Option(help="Of each group.")] = 100,
    stride: int = 3,
    places: int = 2,
    steps: int = 40,
    queries: int = 40,
    out: Annotated[Path, typer.Option("--out")] = RESULTS / "certified.md",
) -> None:
    """Attack both groups, then write the table."""
    device = Defended(file, patch_px)
    pools = data.load(CIFAR10, (32, 32), data_dir, Path("out"))
    seen = np.concatenate([pools["test"].pixels, pools["train"].pixels])
    certified, others, looked_at = grouped(device, seen, images)
    print(f"{len(certified)} certified, {len(others)} not, of {looked_at} images", flush=True)
    effort = Effort(stride, places, steps, queries)
    groups = {}
    for name, pixels in (("certified", certified), ("not certified", others)):
        groups[name] = attack(device, pixels, effort)
        print(*table_rows(name, groups[name]), sep="\n", flush=True)
    out.write_text(page(device, groups, looked_at, effort))


def grouped(device: Defended, pixels: Pixels, most: int) -> tuple[Pixels, Pixels, int]:
    """Return the first images that are certified, as many that are not, and after how many there are enough."""
    groups: dict[bool, list[Pixels]] = {True: [], False: []}
    looked_at = 0
    for image in pixels:
        looked_at += 1
        groups[device.certifies(image)].append(image)
        if len(groups[True]) == most:
            break
    certified = np.array(groups[True])
    return certified, np.array(groups[False][: len(certified)]), looked_at


def attack(device: Defended, pixels: Pixels, effort: Effort) -> Attacked:
    """Attack images until their answers change, by all attacks in turn."""
    n = len(pixels)
    labels = np.array([device.answer(image).label for image in pixels])
    worst = np.zeros((n, effort.places, 2), np.int32)
    group = Attacked(pixels, labels, [""] * n, dict.fromkeys(ATTACKS, 0), np.zeros(n), worst)
    _everywhere(device, group, effort)
    _pgd(device, group, effort)
    _sparse_rs(device, group, effort)
    return group


def _try(device: Defended, group: Attacked, i: int, attack: str, patch: Pixels, corner: Corners) -> Answered:
    """Ask the defended device about image `i` with a patch, and keep what came of it."""
    mask = np.ones((1, *patch.shape[:2]), bool)
    said = device.answer(paste(group.pixels[i : i + 1], patch[None], mask, corner[None])[0])
    group.patches[attack] += 1
    group.misled[i] = max(group.misled[i], (said.masked != group.labels[i]).mean())
    if said.label != group.labels[i] and not group.changed[i]:
        group.changed[i] = attack
    return said


def _left(group: Attacked) -> NDArray[np.int64]:
    return np.flatnonzero([not name for name in group.changed])


def _everywhere(device: Defended, group: Attacked, effort: Effort) -> None:
    px = device.patch_px
    for i in range(len(group.pixels)):
        tried: list[tuple[float, Corners]] = []
        random = np.random.default_rng(i)
        for corner in places(group.pixels.shape[1:3], px, effort.stride):
            said = _try(device, group, i, ATTACKS[0], content(random, group.pixels, px), corner)
            tried.append(((said.masked == group.labels[i]).mean(), corner))
            if group.changed[i]:
                break
        tried.sort(key=lambda one: one[0])
        group.worst[i] = [tried[at % len(tried)][1] for at in range(effort.places)]


def places(size: Sequence[int], px: int, stride: int) -> Iterator[Corners]:
    """Yield corners every `stride` pixels, the last ones at the border."""
    rows, columns = ([*range(0, length - px, stride), length - px] for length in size)
    for row in rows:
        for column in columns:
            yield np.array([row, column], np.int32)


def content(random: np.random.Generator, pixels: Pixels, px: int) -> Pixels:
    """Draw a patch of noise, of one of the eight colours, or a piece of an image, uint8 ``(px, px, 3)``."""
    kind = random.integers(3)
    if kind == 0:
        return random.integers(0, 256, (px, px, 3), np.uint8)
    if kind == 1:
        return np.broadcast_to(random.integers(0, 2, 3, np.uint8) * 255, (px, px, 3)).astype(np.uint8)
    image = pixels[random.integers(len(pixels))]
    row, column = (int(random.integers(length - px + 1)) for length in image.shape[:2])
    return image[row : row + px, column : column + px]


def _pgd(device: Defended, group: Attacked, effort: Effort) -> None:
    surrogate = defended(f"patchcleanser:{device.patch_px}", build("twin", device.description))
    for at in range(effort.places):
        left = _left(group)
        if not len(left):
            return
        corners = group.worst[left, at]
        problem = Problem(
            surrogate, group.pixels[left], group.labels[left], None, device.patch_px, seed=at, per_image=True,
            corners=corners,
        )  # fmt: skip
        made = craft("pgd", problem, {"steps": effort.steps}, images=tuple(map(str, left)))
        for i, patch, corner in zip(left, made.pixels, corners, strict=True):
            _try(device, group, int(i), ATTACKS[1], patch, corner)


def _sparse_rs(device: Defended, group: Attacked, effort: Effort) -> None:
    left = _left(group)
    if not len(left):
        return

    def ask(
        stamps: Pixels, mask: NDArray[np.bool_], corners: Corners, images: NDArray[np.int32]
    ) -> NDArray[np.float32]:
        asked = zip(left[images], stamps, corners, strict=True)
        return np.array([_try(device, group, int(i), ATTACKS[2], *one).logits for i, *one in asked])

    problem = Problem(Device(ask), group.pixels[left], group.labels[left], None, device.patch_px, per_image=True)
    craft("sparse_rs", problem, {"queries": effort.queries * len(left)}, images=tuple(map(str, left)), best=True)


def table_rows(name: str, group: Attacked) -> Iterator[str]:
    """Yield a row for each attack, over all images of a group: an answer that an earlier one changed stays changed."""
    n = len(group.pixels)
    for at, attack in enumerate(ATTACKS):
        changed = sum(group.changed.count(earlier) for earlier in ATTACKS[: at + 1])
        yield f"| {name} | {attack} | {group.patches[attack]:,} | {changed} of {n} | {interval(changed, n)} |"


def interval(hits: int, n: int) -> str:
    """Return the 95 % interval of a share; of none, the one-sided bound, about 3 / n (the rule of three)."""
    side: Literal["less", "two-sided"] = "two-sided" if hits else "less"
    low, high = binomtest(hits, n, alternative=side).proportion_ci(0.95)
    return f"{100 * low:.1f} to {100 * high:.1f} %" if hits else f"below {100 * high:.1f} %"


def page(device: Defended, groups: dict[str, Attacked], looked_at: int, effort: Effort) -> str:
    """Return the page of results."""
    certified, px = groups["certified"], device.patch_px
    misled = 100 * certified.misled
    head = "| images | attack | patches | answers changed, so far | 95 % interval |\n|---|---|---:|---:|---:|"
    rows = "\n".join(row for name, group in groups.items() for row in table_rows(name, group))
    return (
        f"# Certificates, attacked\n\n`{device.artifact.name}` on {RUNTIMES[Path(device.artifact.file).suffix]}, "
        f"CIFAR-10, behind `patchcleanser:{px}`: {len(certified.pixels)} of the first {looked_at:,} images were "
        f"certified. Patches of {px}x{px} pixels: one every {effort.stride} pixels; PGD of {effort.steps} steps; "
        f"an image's places for it: {effort.places}, queries: up to {effort.queries}.\n\n{head}\n{rows}\n\n"
        f"On certified images the worst patch got another label from {np.median(misled):.0f} % of the first masks in "
        f"the median, and from {misled.max():.0f} % at most. {device.passes:,} passes of the runtime.\n"
    )


if __name__ == "__main__":
    typer.run(main)

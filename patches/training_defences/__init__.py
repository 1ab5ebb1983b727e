"""Defences in training: what a network learns against patches. One per file; a defence's name is its file's name.

A suite names one, ``pat``, or with the side of the patches that it is to resist, ``pat:8``. Each module of this folder
has ``loss(step, patch_px)``, the loss of one step of a training: it may change the images, take steps of its own, or
add terms. Everything random comes from torch's generator, which the training seeds. Importing this imports no torch.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from backends.device.errors import UserError, did_you_mean
from backends.device.names import modules, shown, third_parties

if TYPE_CHECKING:
    from torch import Tensor, nn

GROUP = "patchbench.training_defences"
SIDES = range(1, 1025)
SHARE = 4  # without a side, patches have the image's shorter one, divided by this


class Step(NamedTuple):
    """One step of a training: what is learned in it.

    ``images`` are float32 ``(n, 3, h, w)`` in [0, 1], ``wanted`` has an entry for each, and ``criterion(logits,
    wanted)`` is a mean over them. ``network`` is in training mode. The step is number ``number``, from 0, of ``of``.
    """

    network: nn.Module
    images: Tensor
    wanted: Tensor
    criterion: Callable[[Tensor, Tensor], Tensor]
    number: int
    of: int

    def loss(self, images: Tensor) -> Tensor:
        """Return the loss on images that stand in for those of the step."""
        return self.criterion(self.logits(images), self.wanted)

    def logits(self, images: Tensor) -> Tensor:
        """Return the network's logits: in training, GoogLeNet and Inception give those of auxiliary classifiers too."""
        output = self.network(images)
        logits: Tensor = output[0] if isinstance(output, tuple) else output
        return logits

    def part(self, images: slice) -> Step:
        """Return the step with a part of its images."""
        return self._replace(images=self.images[images], wanted=self.wanted[images])


def loss_with(word: str) -> Callable[[Step], Tensor]:
    """Return the loss of steps with a defence, named as in a suite; with an empty word, that of the images alone."""
    if not word:
        return lambda step: step.loss(step.images)
    defence = parse_training_defence(word)
    return lambda step: defence.module.loss(step, defence.patch_px(*step.images.shape[2:]))


class TrainingDefence(NamedTuple):
    """A defence by its name, and the side of the patches that it is to resist, 0 for a quarter of the image's."""

    name: str
    side: int

    @property
    def module(self) -> Any:
        """Its module, of this folder or of another package."""
        if self.name in names():
            return importlib.import_module(f"{__name__}.{self.name}")
        return next(entry for entry in third_parties(GROUP) if entry.name == self.name).load()

    def patch_px(self, height: int, width: int) -> int:
        """Return the side of patches on images of a size; one that does not fit is a `UserError`."""
        px = self.side or max(1, min(height, width) // SHARE)
        if px > min(height, width):
            raise UserError(f"defence {self.name}:{px}: a patch of that side does not fit into {height}x{width} images")
        return px


def names() -> list[str]:
    """Return the names of this folder's defences, in order."""
    return modules(__path__)


def parse_training_defence(word: str) -> TrainingDefence:
    """Parse a defence such as ``pat`` or ``pat:8``; an unknown one is a `UserError`."""
    name, colon, text = word.partition(":")
    if name not in names() and not any(entry.name == name for entry in third_parties(GROUP)):
        raise UserError(f"defence in training {shown(word)}: there is none of that name; {did_you_mean(name, names())}")
    if not colon:
        return TrainingDefence(name, 0)
    if text not in map(str, SIDES):
        raise UserError(
            f"defence in training {shown(word)}: expected {name}, or {name}:PATCH_PX from {SIDES[0]} to {SIDES[-1]}"
        )
    return TrainingDefence(name, int(text))

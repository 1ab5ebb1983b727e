"""What a run replays and judges: cases, replays, latencies and cells, each with its key."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

from backends.hosts import Target
from harness import config
from harness.plan.steps import TORCH, ArtifactStep, DataStep, PatchStep, decided
from harness.store import key
from patches.patch import UNPOSED, Pose


@dataclass(frozen=True)
class Case:
    """A stack of images to replay: clean, or a patch at its places. ``px`` is the side at the size of these images.

    A control at the place that an attack chose has that attack's patch as ``at``. ``defence`` is what the device does
    to the images first; empty for nothing.
    """

    data: DataStep
    split: str
    patch: PatchStep | None = None
    px: int = 0
    placement: str = ""
    placement_seed: int = 0
    at: PatchStep | None = None
    pose: Pose = UNPOSED
    defence: str = ""

    @property
    def place(self) -> str:
        """Where and how the patch lies, as in results: ``random``, ``random@1``, ``center, rotation20``."""
        seeded = f"{self.placement}@{self.placement_seed}" if self.placement_seed else self.placement
        return f"{seeded}, {self.pose.label}" if self.pose.label else seeded

    @property
    def name(self) -> str:
        """The name of its folder in a bundle."""
        if self.patch is None:
            return f"none-{self.defence.replace(':', '')}" if self.defence else "none"
        return f"{self.patch.name}-{self.key[:8]}"

    @cached_property
    def key(self) -> str:
        """Hash the images, the patch, its places and the defence."""
        return key(
            "case",
            data=self.data.key,
            split=self.split,
            patch=self.patch.key if self.patch else "",
            px=self.px,
            place=(self.placement, self.placement_seed, self.pose),
            at=self.at.key if self.at else "",
            defence=key("defence", word=self.defence) if self.defence else "",
        )


@dataclass(frozen=True)
class ReplayStep:
    """One case on one artifact and target.

    ``decided`` is the hash of what decides the target's answers, where many replays have the same target: to ask for it
    takes a hundred times as long as all else of a key.
    """

    case: Case
    artifact: ArtifactStep
    target: Target
    decided: str = field(default="", compare=False)

    @property
    def pair(self) -> str:
        """What runs where, whatever the images."""
        return f"{self.artifact.name} on {self.target.name}"

    @property
    def what(self) -> str:
        """What decides how long it takes: what runs where, and behind which defence."""
        return f"{self.pair}, {self.case.defence}" if self.case.defence else self.pair

    @cached_property
    def key(self) -> str:
        """Hash the inputs and what decides a target's answers."""
        stage = TORCH if self.target.name == TORCH else "replay"
        return key(stage, case=self.case.key, artifact=self.artifact.key, by=self.decided or decided(self.target))


@dataclass(frozen=True)
class LatencyStep:
    """The latency of one artifact on one target, with or without a defence."""

    artifact: ArtifactStep
    target: Target
    settings: config.LatencyTable
    defence: str = ""

    @property
    def pair(self) -> str:
        """What is timed where."""
        return f"{self.artifact.name} on {self.target.name}"

    @property
    def what(self) -> str:
        """What is timed where, and behind which defence."""
        return f"{self.pair}, {self.defence}" if self.defence else self.pair

    @cached_property
    def key(self) -> str:
        """Hash the inputs and what decides how long they take."""
        defence = key("defence", word=self.defence) if self.defence else ""
        by = decided(self.target)
        return key("latency", settings=self.settings, artifact=self.artifact.key, defence=defence, by=by)


@dataclass(frozen=True)
class Cell:
    """A replay, judged against one target class (-1: none); several cells can share one replay.

    An attack's patch can be a control, ``other_class``, for a class that it was not crafted for.
    """

    replay: ReplayStep
    target_class: int
    control: str = ""

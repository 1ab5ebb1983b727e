"""What is replayed and judged: cases, replays, latencies and cells, each with its key."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from backends.hosts import Target
from harness import config
from harness.plan.steps import TORCH, ArtifactStep, DataStep, PatchStep, deciding
from harness.store import key
from patches.patch import UNPOSED, Pose


@dataclass(frozen=True)
class Case:
    """A stack of images to replay: clean, or a patch at its places. ``px`` is the side at the size of these images.

    A control that lies where an attack chose to has that attack's patch as ``at``. ``defence`` is what the device does
    to the images first, empty for nothing.
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
        """Where and how the patch lies, as cells say it: ``random``, ``random@1``, ``center, rotation20``."""
        seeded = f"{self.placement}@{self.placement_seed}" if self.placement_seed else self.placement
        return f"{seeded}, {self.pose.label}" if self.pose.label else seeded

    @property
    def name(self) -> str:
        """A folder's name in a bundle."""
        if self.patch is None:
            return "-".join(["none", *filter(None, [self.defence.replace(":", "")])])
        return f"{self.patch.name}-{self.key[:8]}"

    @cached_property
    def key(self) -> str:
        """The images and what lies on them where."""
        made = self.patch.key if self.patch else ""
        place = {"px": self.px, "placement": self.placement, "placement_seed": self.placement_seed}
        place |= ({"at": self.at.key} if self.at else {}) | ({"pose": self.pose} if any(self.pose) else {})
        place |= {"defence": key("defence", word=self.defence)} if self.defence else {}
        return key("case", data=self.data.key, split=self.split, patch=made, **place)


@dataclass(frozen=True)
class ReplayStep:
    """One case on one artifact and target."""

    case: Case
    artifact: ArtifactStep
    target: Target

    @cached_property
    def key(self) -> str:
        """What goes in, and what decides the answers."""
        stage = TORCH if self.target.name == TORCH else "replay"
        return key(stage, case=self.case.key, artifact=self.artifact.key, by=deciding(self.target))


@dataclass(frozen=True)
class LatencyStep:
    """The latency of one artifact on one target, with a defence before it or without."""

    artifact: ArtifactStep
    target: Target
    settings: config.LatencyTable
    defence: str = ""

    @cached_property
    def key(self) -> str:
        """What goes in, and what decides how long it takes."""
        more = {"defence": key("defence", word=self.defence)} if self.defence else {}
        inputs = {"settings": self.settings, "artifact": self.artifact.key} | more
        return key("latency", **inputs, by=deciding(self.target))


@dataclass(frozen=True)
class Cell:
    """A replay, judged against one target class (-1: none); several cells can share one replay.

    An attack's patch can stand in as a control, ``other_class``, for a class that it was not made for.
    """

    replay: ReplayStep
    target_class: int
    control: str = ""

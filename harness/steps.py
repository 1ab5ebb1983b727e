"""The steps that attack: patches, where they lie, what replays them, and what is judged; each with its key."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from backends.hosts import Target, identity
from harness import config
from harness.made import TORCH, ArtifactStep, DataStep, Member, VictimStep
from harness.schema import CONTROLS, LEVEL, Pose, sha256_file
from harness.store import key

OF_FILES = ("twin:", "device:")  # surrogates that are named by a file, which can have its victim's name


@dataclass(frozen=True)
class PatchStep:
    """A patch to craft, of a side in pixels at the size of ``data``; a control or an imported one has no source victim.

    A surrogate that is made of an artifact has that ``artifact``, whose victim is the source. Where the attacker knows
    or chooses the places, ``placement`` says which they are; it is empty for a patch that has to work anywhere.
    """

    attack: str
    source: VictimStep | None
    surrogate: str
    target_class: int | None
    seed: int
    px: int
    shape: str
    data: DataStep
    options: dict[str, Any] = field(default_factory=dict, hash=False)
    frozen: tuple[str, str] | None = None  # sha256 of a baseline's patch, which stands in, and of the weights it is for
    artifact: ArtifactStep | None = None
    members: tuple[Member, ...] = ()  # of an ensemble, whose source is the first one's victim
    target: Target | None = field(default=None, hash=False)  # that is asked, with that artifact
    per_image: bool = False
    placement: str = ""
    placement_seed: int = 0
    through: str = ""  # the defence that it expects
    label: str = ""  # what its results are called; nothing that it is made of
    file: Path | None = field(default=None, compare=False)  # of an imported one; whose mask a control has; a disguise
    words: tuple[str, ...] = field(default=(), compare=False)  # a suite's, for the surrogate: of an ensemble each
    fill: float = field(default=1.0, compare=False)  # what the shape covers of the square around it

    @property
    def split(self) -> str:
        """The images that it is made on: those of a patch for each image are the very ones that are counted."""
        return "evaluate" if self.per_image else "craft"

    @property
    def made_on(self) -> str:
        """The name of the artifact or victim that the surrogate is made of, or all of them; empty for a control."""
        if self.members:
            return f"[{'+'.join(member.name for member in self.members)}]"
        return self.artifact.name if self.artifact else self.source.name if self.source else ""

    def made_against(self, victim: str = "") -> str:
        """The surrogate as a suite says it, an ensemble as its list; the name of that `victim` is left out.

        What it was made through follows.
        """
        words = [w if w.startswith(OF_FILES) else w.removesuffix(f":{victim}") for w in self.words]
        return (json.dumps(words) if self.members else "".join(words)) + self.expecting

    @property
    def expecting(self) -> str:
        """What is said after the surrogate where it expects a defence."""
        return f" through {self.through}" if self.through else ""

    @property
    def name(self) -> str:
        """``gap-float-resnet20-c3-s0-8px`` and the like."""
        made_on = hashlib.sha256(self.made_on.encode()).hexdigest()[:6] if self.members else self.made_on
        parts = [self.attack, *([self.surrogate.replace(":", "-"), made_on] if self.source else [])]
        parts += [f"c{self.target_class}"] if self.target_class is not None else []
        parts += [f"s{self.seed}", f"{self.px}px"] + ([self.shape] if self.shape != "square" else [])
        parts += ["each"] * self.per_image + [self.placement] * bool(self.placement)
        parts += [f"p{self.placement_seed}"] * bool(self.placement_seed)
        parts += [f"through-{self.through.replace(':', '')}"] * bool(self.through)
        parts += [f"{name}={value}" for name, value in sorted(self.options.items())]
        return "-".join(parts).replace("/", "_").replace(" ", "")

    @cached_property
    def key(self) -> str:
        """A control depends on no network, and on no image unless it is one."""
        inputs = {name: getattr(self, name) for name in ("attack", "target_class", "seed", "px", "shape", "options")}
        if self.source:
            made_of: dict[str, Any]
            made_of = {"artifact": self.artifact.key} if self.artifact else {"source": self.source.key}
            made_of |= {"members": [member.key for member in self.members]} if self.members else {}
            inputs |= made_of | {"surrogate": self.surrogate, "data": self.data.key}
            inputs |= {name: getattr(self, name) for name in ("per_image", "placement", "placement_seed")}
        if self.through:
            inputs["through"] = self.through
        if self.target:
            inputs["asked"] = key("replay", by=_deciding(self.target))
        if self.attack == "sticker":
            inputs["data"] = self.data.key
        if self.file and self.attack not in CONTROLS:
            inputs |= {"file": sha256_file(self.file), "size": self.data.size}
        if self.frozen:
            inputs["frozen"] = self.frozen
        return key("patch", name=self.name, **inputs)


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
    pose: Pose = LEVEL
    defence: str = ""

    @property
    def place(self) -> str:
        """Where and how the patch lies, as cells say it: ``random``, ``random@1``, ``center, rotation20``."""
        seeded = f"{self.placement}@{self.placement_seed}" if self.placement_seed else self.placement
        return f"{seeded}, {self.pose.words}" if self.pose.words else seeded

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
        return key(stage, case=self.case.key, artifact=self.artifact.key, by=_deciding(self.target))


@dataclass(frozen=True)
class LatencyStep:
    """The latency of one artifact on one target, with a defence before it or without."""

    artifact: ArtifactStep
    target: Target
    settings: config.Latency
    defence: str = ""

    @cached_property
    def key(self) -> str:
        """What goes in, and what decides how long it takes."""
        more = {"defence": key("defence", word=self.defence)} if self.defence else {}
        inputs = {"settings": self.settings, "artifact": self.artifact.key} | more
        return key("latency", **inputs, by=_deciding(self.target))


@dataclass(frozen=True)
class Cell:
    """A replay, judged against one target class (-1: none); several cells can share one replay.

    An attack's patch can stand in as a control, ``other_class``, for a class that it was not made for.
    """

    replay: ReplayStep
    target_class: int
    control: str = ""


def _deciding(target: Target) -> dict[str, Any]:
    """What decides a target's answers: not its name, and not how long we wait for them."""
    if target.name == TORCH:
        return {}
    return {"target": replace(target, name="", time_limit=0.0), "found": identity(target)}

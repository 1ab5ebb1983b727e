"""A run as gate and history see it: read from a baseline, or from the run's directory."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from pydantic import Field

from harness.results.entries import ArtifactEntry, CaseEntry, Entry, ErrorEntry, PatchEntry, TargetEntry, VictimEntry
from harness.results.outcomes import Outcomes


class Facts(Entry):
    """What a baseline keeps of a run: what was attacked, with what, and where."""

    suite: str
    ids_sha256: dict[str, str]
    failed_checks: tuple[str, ...]
    label: str = ""
    started: str = ""
    commit: str = ""
    plan: str = ""
    versions: dict[str, str] = Field(default_factory=dict)
    victims: tuple[VictimEntry, ...] = ()
    artifacts: tuple[ArtifactEntry, ...] = ()
    patches: tuple[PatchEntry, ...] = ()
    targets: tuple[TargetEntry, ...] = ()
    cases: tuple[CaseEntry, ...] = ()
    errors: tuple[ErrorEntry, ...] = ()


class Stack(NamedTuple):
    """What identifies a stack of images in several runs."""

    size: tuple[int, ...]
    patch: str
    patch_px: int
    placement: str
    placement_seed: int
    defence: str


def stack_of(case: CaseEntry) -> Stack:
    """Return what identifies the images of a case."""
    return Stack(case.size, case.patch, case.patch_px, case.placement, case.placement_seed, case.defence)


@dataclass(frozen=True, eq=False)
class Frozen:
    """A run's outcomes on the evaluation images, and the facts about them."""

    source: Path
    facts: Facts
    outcomes: Outcomes

    def victim(self, name: str) -> VictimEntry:
        """Return the entry of a victim; an empty one where there is none."""
        return self._victims.get(name) or VictimEntry(name=name)

    def artifact(self, name: str) -> ArtifactEntry:
        """Return the entry of an artifact; an empty one where there is none."""
        return self._artifacts.get(name) or ArtifactEntry(name=name)

    def patch(self, name: str) -> PatchEntry:
        """Return the entry of a patch; an empty one where there is none."""
        return self._patches.get(name) or PatchEntry(name=name)

    def target(self, name: str) -> TargetEntry:
        """Return the entry of a target; an empty one where there is none."""
        return self._targets.get(name) or TargetEntry(name=name)

    @cached_property
    def pixels(self) -> dict[Stack, str]:
        """The hash of the pixels that networks saw, by what identifies a stack of images."""
        return {stack_of(case): case.defended_sha256 or case.pixels_sha256 for case in self.facts.cases}

    @cached_property
    def _victims(self) -> dict[str, VictimEntry]:
        return {one.name: one for one in self.facts.victims}

    @cached_property
    def _artifacts(self) -> dict[str, ArtifactEntry]:
        return {one.name: one for one in self.facts.artifacts}

    @cached_property
    def _patches(self) -> dict[str, PatchEntry]:
        return {one.name: one for one in self.facts.patches}

    @cached_property
    def _targets(self) -> dict[str, TargetEntry]:
        return {one.name: one for one in self.facts.targets}

"""What an analysis is given: a run carried out, its cells, and the networks and patches that it may look into."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from markupsafe import Markup
from numpy.typing import NDArray

from backends.device.artifact import Pixels
from backends.device.bundle import paste
from harness import store
from harness.config import ArtifactTable
from harness.config.study import StudyTable
from harness.plan.cells import Case
from harness.plan.steps import TORCH, ArtifactStep, VictimStep
from harness.run import crafting, stages
from harness.run.stages import Work
from harness.tables import matches


class Figure(NamedTuple):
    """A figure of an analysis: the name of its file, what it shows (a sentence, with its ``n``), and the drawing."""

    name: str
    caption: str
    svg: Markup


class Subject(NamedTuple):
    """A network with the artifacts made of it and the patches made on it, float, in the order of the suite.

    ``clean`` is the case without a patch. A file that a user brought is no subject: its network is not known.
    """

    victim: VictimStep
    artifacts: tuple[ArtifactStep, ...]
    clean: Case
    patches: tuple[Case, ...]


@dataclass(frozen=True)
class Inputs:
    """A finished run (`work`) and what the suite's ``[study]`` says.

    ``cells`` is what `harness.results.metrics.cells` counts, a row a patch and place; ``over_patches`` is
    `harness.results.metrics.summarise`, with intervals over patches and images. ``run`` is what run.json says.
    """

    work: Work
    cells: pd.DataFrame
    over_patches: pd.DataFrame
    settings: StudyTable
    run: Mapping[str, Any]

    def subjects(self) -> Iterator[Subject]:
        """The networks to look into; those without an artifact or a patch are left out.

        The first artifact is the float network. The patches are those of ``settings.attack`` made on it for all images
        and one size and place, the first of the suite, undefended and level.
        """
        replays = self.work.plan.replays
        for victim in self.work.plan.victims:
            mine = [r for r in replays if r.artifact.victim == victim and not isinstance(victim.table, ArtifactTable)]
            files = [a for a in dict.fromkeys(r.artifact for r in mine) if matches(a.name, self.settings.artifacts)]
            cases = list(dict.fromkeys(r.case for r in mine if r.case.split == "evaluate" and not r.case.defence))
            clean = [case for case in cases if case.patch is None]
            patches = [case for case in cases if self._is_of(case, victim)]
            patches = [c for c in patches if (c.px, c.place) == (patches[0].px, patches[0].place)]
            if files and patches:
                yield Subject(victim, tuple(files), clean[0], tuple(patches))

    def _is_of(self, case: Case, victim: VictimStep) -> bool:
        patch = case.patch
        return (
            patch is not None
            and patch.source == victim
            and patch.surrogate == "float"
            and not patch.per_image
            and (patch.label or patch.attack) == self.settings.attack
        )

    def pixels(self, case: Case, images: int | None = None) -> Pixels:
        """The first images of a case as a device gets them, uint8 ``(n, h, w, 3)``: `settings.images` unless given."""
        seen = stages.images(self.work, case.data, case.split)
        n = images or self.settings.images
        lying = crafting.stamps(self.work, case, seen.ids)
        return np.array(seen.pixels)[:n] if lying is None else paste(seen.pixels, *lying)[:n]

    def covered(self, case: Case, images: int | None = None) -> NDArray[np.bool_]:
        """Where the patch lies on those images, bool ``(n, h, w)``."""
        seen = stages.images(self.work, case.data, case.split)
        lying = crafting.stamps(self.work, case, seen.ids)
        if lying is None:
            raise ValueError("nothing lies on the images of a clean case")
        white = lying._replace(stamps=np.full_like(lying.stamps, 255))
        lit = paste(np.zeros_like(seen.pixels), *white)
        return np.asarray(lit[: images or self.settings.images, ..., 0] > 0)

    def labels(self, case: Case, images: int | None = None) -> NDArray[np.int64]:
        """The labels of those images."""
        return np.array(stages.images(self.work, case.data, case.split).labels)[: images or self.settings.images]

    def success(self, artifact: ArtifactStep, case: Case) -> pd.DataFrame:
        """What the run counted of a patch on an artifact: ``success`` with ``low``, ``high`` and ``n``, a row a target.

        Targeted, or untargeted where the patch is; cells in error are left out.
        """
        patch, cells = case.patch, self.cells
        assert patch is not None
        goal = -1 if patch.target_class is None else patch.target_class
        rate = "untargeted" if patch.target_class is None else "targeted"
        wanted = {
            "artifact": artifact.name, "patch": patch.name, "attack": patch.label or patch.attack, "target_class": goal,
            "patch_px": case.px, "placement": case.place, "split": case.split, "defence": "", "status": "ok",
        }  # fmt: skip
        found = cells[np.logical_and.reduce([cells[column] == value for column, value in wanted.items()])]
        ends = {"": "success", "_low": "low", "_high": "high"}
        names = {f"{rate}_success{end}": name for end, name in ends.items()} | {f"n_{rate}": "n"}
        return found[["target", "runtime", *names]].rename(columns=names)

    def kept(self, analysis: str, compute: Callable[[], pd.DataFrame], **inputs: Any) -> pd.DataFrame:
        """A table from the store, or computed and kept there: only what changed is done again.

        ``inputs`` decide it (keys of steps, numbers), with the analysis' own file and all that makes networks.
        """
        name = store.key(f"study-{analysis}", **inputs)
        place = self.work.store.path("study", name) / "table.parquet"
        if not self.work.store.has("study", name):
            found = compute()
            with self.work.store.writing("study", name) as beside:
                found.to_parquet(beside / "table.parquet", index=False)
        return pd.read_parquet(place)


def is_simulated(artifact: ArtifactStep) -> bool:
    """Whether an artifact is no file: the float network, or one rounded in float."""
    return artifact.format == TORCH

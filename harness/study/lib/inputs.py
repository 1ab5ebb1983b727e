"""Inputs of an analysis: a finished run, its cells, and the networks and patches to look into."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd
from markupsafe import Markup
from numpy.typing import NDArray

from backends.device.artifact import Pixels
from backends.device.bundle import paste
from backends.device.toolchains import owned
from harness import store
from harness.config import ArtifactTable
from harness.config.study import StudyTable
from harness.data_frames import read_parquet
from harness.plan.cells import Case
from harness.plan.steps import TORCH, ArtifactStep, VictimStep
from harness.run import crafting, stages
from harness.run.stages import Work
from harness.tables import matches


class Figure(NamedTuple):
    """A figure of an analysis: its file's name, a caption that states ``n``, and the drawing."""

    name: str
    caption: str
    svg: Markup


class Subject(NamedTuple):
    """A network with the artifacts made from it and the patches crafted on its float version, in the suite's order.

    ``clean`` is the case without a patch. A file that the user brought is never a subject: its network is unknown.
    """

    victim: VictimStep
    artifacts: tuple[ArtifactStep, ...]
    clean: Case
    patches: tuple[Case, ...]


@dataclass(frozen=True)
class Inputs:
    """A finished run (`work`) and the suite's ``[study]`` table.

    ``cells`` is the output of `harness.results.metrics.cells`, one row per patch and place; ``over_patches`` that of
    `harness.results.metrics.summarise`, with intervals over patches and images. ``latency`` is run.json's: one row per
    artifact, target, defence and number of threads.
    """

    work: Work
    cells: pd.DataFrame
    over_patches: pd.DataFrame
    settings: StudyTable
    latency: pd.DataFrame

    def subjects(self) -> Iterator[Subject]:
        """Yield the networks to look into; one without an artifact or a patch is left out.

        So is a file with ranges by a vendor's calibration, which nothing but its compiler finds again. The first
        artifact is the float network. The patches are universal ones by ``settings.attack``, crafted on that network,
        undefended and unrotated, all of the size and placement that come first in the suite.
        """
        replays = self.work.plan.replays
        for victim in self.work.plan.victims:
            if isinstance(victim.table, ArtifactTable):
                continue
            own = [replay for replay in replays if replay.artifact.victim == victim]
            artifacts = dict.fromkeys(replay.artifact for replay in own)
            named = (one for one in artifacts if matches(one.name, self.settings.artifacts))
            chosen = tuple(one for one in named if one.quant is None or not owned(one.quant.calibration))
            cases = dict.fromkeys(r.case for r in own if r.case.split == "evaluate" and not r.case.defence)
            patches = [case for case in cases if self._is_of(case, victim)]
            if chosen and patches:
                first = patches[0]
                alike = tuple(case for case in patches if (case.px, case.place) == (first.px, first.place))
                clean = next(case for case in cases if case.patch is None)
                yield Subject(victim, chosen, clean, alike)

    def _is_of(self, case: Case, victim: VictimStep) -> bool:
        patch = case.patch
        return (
            patch is not None
            and patch.surrogate is not None
            and patch.surrogate.victim == victim
            and patch.surrogate.kind == "float"
            and not patch.per_image
            and (patch.label or patch.attack) == self.settings.attack
        )

    def pixels(self, case: Case, images: int | None = None) -> Pixels:
        """Return a case's first images, by default `settings.images`, as a device gets them: uint8 ``(n, h, w, 3)``."""
        seen = stages.images(self.work, case.data, case.split)
        n = images or self.settings.images
        stamps = crafting.stamps(self.work, case, seen.ids)
        return np.array(seen.pixels)[:n] if stamps is None else paste(seen.pixels, *stamps)[:n]

    def covered(self, case: Case, images: int | None = None) -> NDArray[np.bool_]:
        """Return which pixels of those images the patch covers, bool ``(n, h, w)``."""
        seen = stages.images(self.work, case.data, case.split)
        stamps = crafting.stamps(self.work, case, seen.ids)
        if stamps is None:
            raise ValueError("a clean case has no patch")
        white = stamps._replace(stamps=np.full_like(stamps.stamps, 255))
        lit = paste(np.zeros_like(seen.pixels), *white)
        return np.asarray(lit[: images or self.settings.images, ..., 0] > 0)

    def labels(self, case: Case, images: int | None = None) -> NDArray[np.int64]:
        """Return the labels of those images."""
        return np.array(stages.images(self.work, case.data, case.split).labels)[: images or self.settings.images]

    def cached(self, analysis: str, compute: Callable[[], pd.DataFrame], **decisive: object) -> pd.DataFrame:
        """Return a table from the store, computing it only where it is missing.

        ``decisive`` (keys of steps, numbers) is what decides it, beside the code that `harness.store` hashes.
        """
        key = store.key(f"study-{analysis}", **decisive)
        if not self.work.store.has("study", key):
            table = compute()
            with self.work.store.writing("study", key) as folder:
                table.to_parquet(folder / "table.parquet", index=False)
        return read_parquet(self.work.store.path("study", key) / "table.parquet")


def is_simulated(artifact: ArtifactStep) -> bool:
    """Return whether torch runs an artifact: the float network, or a fake-quantized one."""
    return artifact.format == TORCH

"""The `[study]` table of a suite: which analyses, and what they look at."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from harness.tables import Axis, Table

Analysis = Literal["bitwidth", "transfer", "features", "strength", "gradients", "places", "defences", "saturation"]
ANALYSES: tuple[Analysis, ...] = Analysis.__args__  # type: ignore[attr-defined]


class StudyTable(Table):
    """What `patchbench study` does after the run; ``bitwidth``, ``transfer`` and ``defences`` look at its cells alone.

    The others look inside: at ``artifacts`` (patterns; those of them that an analysis can take) and their victims, on
    the first ``images`` of the evaluation images (all, where they are fewer), with the patches of ``attack`` made on
    each victim's float network.
    """

    analyses: Axis[Analysis] = ANALYSES
    artifacts: Axis[str] = ("*",)
    attack: str = "gap"  # its label, where it has one
    images: int = Field(default=200, ge=20)
    places: int = Field(default=7, ge=2)  # rows and columns of places that a patch is laid at
    clips: Axis[Annotated[float, Field(gt=0)]] = (1.0, 0.8, 0.6, 0.45, 0.3, 0.2)  # of a calibrated range, what is left
    levels: Axis[Annotated[int, Field(ge=4)]] = (256, 64, 16)  # that the full range is divided into

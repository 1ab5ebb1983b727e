"""The `[study]` table: which analyses to run, and what they look at."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from harness.tables import Axis, Table

Analysis = Literal["bitwidth", "transfer", "features", "strength", "gradients", "places", "defences", "saturation"]
ANALYSES: tuple[Analysis, ...] = Analysis.__args__  # type: ignore[attr-defined]


class StudyTable(Table):
    """What `patchbench study` does after the run.

    `bitwidth`, `transfer` and `defences` read the suite's cells. The other analyses look inside the networks.
    """

    analyses: Axis[Analysis] = ANALYSES
    """Analyses to run."""

    artifacts: Axis[str] = ("*",)
    """Artifacts to look into, as patterns of their names; their victims are looked into with them."""

    attack: str = "gap"
    """Whose patches to use, by label or name: those made on each victim's float network."""

    images: int = Field(default=200, ge=20)
    """Evaluation images to use, from the first on; all of them where there are fewer."""

    places: int = Field(default=7, ge=2)
    """Rows, and columns, of the places that `places` puts a patch at."""

    clips: Axis[Annotated[float, Field(gt=0)]] = (1.0, 0.8, 0.6, 0.45, 0.3, 0.2)
    """Shares of a calibrated range that `strength` keeps."""

    levels: Axis[Annotated[int, Field(ge=4)]] = (256, 64, 16)
    """Levels that `strength` divides the full range into."""

"""The `[[attack]]` and `[controls]` tables: the patches to make, and what they are compared with."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from harness.config.values import Defence, Name, Pixels, Seed, SurrogateWords
from harness.tables import Axis, Table


class PoseTable(Table):
    """How patches lie where they are counted, drawn uniformly for each image, up to these amounts either way."""

    rotation: float = Field(default=0.0, ge=0, le=180)
    """Degrees."""

    scale: float = Field(default=0.0, ge=0, le=0.99)
    """Share of the patch's size."""

    brightness: float = Field(default=0.0, ge=0, le=0.99)
    """Share of white."""

    contrast: float = Field(default=0.0, ge=0, le=0.99)
    """Share of the patch's contrast."""


class AttackTable(Table):
    """Patches to make: one for each combination of the lists below.

    The results name an attack by its `name`, or `NAME-each` with `per_image`. Give two tables of one attack a `label`
    each, or their results are averaged.
    """

    name: str
    """The attack: `gap`, `lavan`, `pgd`, `sparse_rs`, `imported`, or one from an installed package."""

    label: Name | None = None
    """Its name in the results, to tell two tables of one attack apart."""

    victims: Axis[str] = ("*",)
    """Which victims to attack, as patterns of their names."""

    surrogate: Axis[SurrogateWords] = Field(default=("float",), validate_default=True)  # type: ignore[arg-type]
    """What the patch is made on. `float` is the victim itself, `float:VICTIM` another network. `fake_quant:w4a4`,
    `fake_quant:w4a4:VICTIM` and `fake_quant:ARTIFACT` are rounded. `qat:w4a4` and `qat:w4a4:VICTIM` are trained as the
    `[export.qat]` table of that precision says. `twin:ARTIFACT` and `twin:ARTIFACT:KERNELS` compute a file's integers.
    `device:ARTIFACT:TARGET` queries a target. A list within the list is an ensemble."""

    twin_equal: float = Field(default=1.0, ge=0, le=1)
    """Share of the output's integers in which a twin and its runtime have to be equal, on a few images, before patches
    are made on it. Below 1, for kernels that no twin follows exactly."""

    defence: Axis[Defence] = ("",)
    """Defences that the attacker expects: each stands before the surrogate, with straight-through gradients."""

    target_classes: Axis[Annotated[int, Field(ge=0)] | str] | None = None
    """Classes that the patch should produce, by label or by name; by default, the attack is untargeted."""

    seeds: Axis[Seed] = (0,)
    """One patch per seed."""

    area: Axis[float] | None = None
    """Size of the patch as a share of the image's area."""

    pixels: Axis[Pixels] | None = None
    """Size of the patch as its side in pixels, in place of `area`."""

    shape: Axis[Literal["square", "round"]] = ("square",)
    """Outline of the patch."""

    placement: Axis[str] = ("random",)
    """Where patches lie: `random`, `center`, `top-left` and the other corners, `ROW,COLUMN` in pixels, or `best`, the
    attack's own choice."""

    placement_seed: Seed = 0
    """Another seed draws other random places."""

    pose: PoseTable = PoseTable()
    """How patches lie where they are counted. What the attack expects is among its `options`."""

    per_image: bool = False
    """Make one patch per evaluation image, on that very image, at its place."""

    place_known: bool = False
    """Make a universal patch at the fixed place where it will lie."""

    options: dict[str, Any] = Field(default_factory=dict)
    """Options of the attack itself."""

    @model_validator(mode="before")
    @classmethod
    def _has_no_old_key(cls, table: Any) -> Any:
        if isinstance(table, dict) and "through" in table:
            raise ValueError("the key through is now called defence")
        return table


class ControlsTable(Table):
    """What every patch is compared with: controls of its size, at its places."""

    grey: int = Field(default=1, ge=0, le=1)
    """A grey patch."""

    noise: int = Field(default=3, ge=0, le=1000)
    """Patches of uniform noise."""

    sticker: int = Field(default=0, ge=0, le=1000)
    """Pictures of the target class (of any class, where no crafting image shows it)."""

    other_class: int = Field(default=0, ge=0, le=1000)
    """Patches that the same attack made for this many other target classes, judged for this one."""

"""The entries of ``run.json``: victims, artifacts, patches, targets; `measured` has what was measured on them.

A key that a run did not write keeps its default here and is not written back; keys that this version does not know are
kept. So a directory of an older version of the same schema can be read, and written again, without loss.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from backends.fidelity import Fidelity, fidelity

Scalar = str | int | float | bool | None
Cells = list[dict[str, Scalar]]  # the rows of a table
Where = dict[str, Scalar]  # columns of a cell and their values


class Entry(BaseModel):
    """A JSON object; `plain` gives back the keys that it was made from."""

    model_config = ConfigDict(extra="allow", frozen=True, protected_namespaces=(), serialize_by_alias=True)

    def plain(self, without: frozenset[str] = frozenset()) -> dict[str, object]:
        """Return the object as JSON holds it: no defaults."""
        return self.model_dump(exclude_unset=True, exclude=set(without))


class SuiteEntry(Entry):
    """The suite with all its defaults; only its name is read."""

    name: str = ""


class MachineEntry(Entry):
    """What a machine says of itself; what it could not tell is empty."""

    arch: str = ""
    cpu: str = ""
    emulated: bool | str = False
    emulator: str = ""
    image: str = ""
    cores: int | str = ""
    kernel: str = ""
    python: str = ""
    numpy: str = ""
    detected: str = ""


class DataEntry(Entry):
    """The images: how many each split has, the hash of its ids, and how many evaluation images are in another split."""

    name: str = ""
    note: str = ""
    sizes: dict[str, int] = Field(default_factory=dict)
    ids_sha256: dict[str, str] = Field(default_factory=dict)
    copies: int | None = None


class VictimEntry(Entry):
    """A victim; accuracies are fractions, ``float_accuracy`` that of the float network in torch."""

    name: str
    model: str = ""
    classes: int | None = None
    input_size: tuple[int, ...] = ()
    sha256: str = ""
    float_accuracy: float | None = None
    claimed_accuracy: float | None = None


class ArtifactEntry(Entry):
    """A model file: what it was exported from and how, and its operators as executed.

    ``but_for`` are those that a partly integer file computes in float: ``12 Softmax, 25 LayerNormalization``.
    ``input_doubt`` says why the preprocessing of a file that was brought may be another than its input's.
    """

    name: str
    victim: str = ""
    format: str = ""
    precision: str = ""
    file: str = ""
    sha256: str = ""
    bytes: int = 0
    signature: str = ""
    calibration: str = ""
    quant: dict[str, Scalar | tuple[str, ...]] | None = None
    operators: dict[str, int] = Field(default_factory=dict)
    but_for: str = ""
    input_scale: float | None = None
    input_zero_point: int | None = None
    input_doubt: str = ""
    claimed_accuracy: float | None = None


class CraftingEntry(Entry):
    """What crafting measured of itself; each attack has its own measures."""

    loss: tuple[float, ...] = ()
    zero_gradient_share: float | None = None
    seconds: float | None = None
    steps: int | None = None
    queries: int | None = None


class PatchEntry(Entry):
    """A patch: ``made_on`` is a split, ``made_of`` the hash of the weights or file it was crafted on."""

    name: str
    attack: str = ""
    surrogate: str = ""
    target_class: int | None = None
    seed: int = 0
    px: int = 0
    shape: str = ""
    file: str = ""
    per_image: bool = False
    made_on: str = ""
    sha256: str = ""
    made_of: str = ""
    checks: CraftingEntry = CraftingEntry()


class BoardEntry(Entry):
    """A board of a fleet: how many ``replays`` it answered, and why it was set ``aside``, if it was."""

    address: str
    replays: int = 0
    aside: str = ""


class TargetEntry(Entry):
    """A target, a fleet's ``boards``, and what was in force: ``info`` of the runtime, ``features`` of the CPU."""

    name: str
    runtime: str = ""
    host: str = ""
    info: dict[str, Scalar] = Field(default_factory=dict)
    machine: MachineEntry = MachineEntry()
    features: tuple[str, ...] = ()
    emulated: bool = False
    options: dict[str, Scalar] = Field(default_factory=dict)
    threads: int | None = None
    batch: int | None = None
    boards: tuple[BoardEntry, ...] = ()

    @property
    def fidelity(self) -> Fidelity:
        """How true it is to the device that it stands for."""
        return fidelity(self.runtime, self.host, self.machine.arch, self.emulated)


class OtherPixels(Entry):
    """A place whose device saw other pixels than were crafted."""

    artifact: str
    target: str


class CaseEntry(Entry):
    """A stack of images as crafted: where its patch lies, and the hash of its pixels before and after the defence."""

    size: tuple[int, ...] = ()
    split: str = ""
    patch: str = ""
    patch_px: int = 0
    placement: str = ""
    placement_seed: int = 0
    defence: str = ""
    pixels_sha256: str = ""
    defended_sha256: str = ""
    others: tuple[OtherPixels, ...] = ()


class OutputsEntry(Entry):
    """A file's outputs on clean images: their declared kind, their range, and how far a sum is from 1 at most."""

    artifact: str
    target: str
    declared: str
    classes: int = 0
    least: float
    most: float
    furthest_sum_from_one: float


class AnswerEntry(Entry):
    """The class that a file on a target answered; -1 where it failed."""

    artifact: str
    target: str
    pred: int


class ExampleEntry(Entry):
    """An image, clean and patched, and every answer to the patched one."""

    patch: str
    image: str
    label: int
    target_class: int
    clean_png: str
    patched_png: str
    preds: tuple[AnswerEntry, ...]


class ErrorEntry(Entry):
    """A case, or a latency, that failed on a target."""

    artifact: str = ""
    target: str = ""
    case: str = ""
    message: str = ""


class Check(Entry):
    """A check that a run makes of itself; if it failed, ``where`` selects the cells it affects, by their columns."""

    name: str
    asks: str
    status: Literal["passed", "failed", "unknown"]
    says: str
    where: tuple[Where, ...] = ()

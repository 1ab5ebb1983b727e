"""A suite: what a run does, as TOML. Every key is checked; an unknown one is an error that names the nearest."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, model_validator

from backends.device.artifact import Calibration
from backends.device.defences import parse_defence
from backends.device.errors import UserError
from harness.config.study import StudyTable
from harness.tables import Axis, Table, read_toml

Triple = tuple[float, float, float]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
Size = tuple[int, int]
Precision = Annotated[str, Field(pattern=r"^(fp32|w([2-8]|32)a([2-8]|32))$")]  # bits; 32 rounds nothing


def _known_defence(word: str) -> str:
    if word in ("none", ""):
        return ""
    try:
        parse_defence(word)
    except UserError as error:
        raise ValueError(str(error)) from error
    return word


Defence = Annotated[str, AfterValidator(_known_defence)]  # jpeg:QUALITY, median:SIDE; none becomes empty


class DataTable(Table):
    """Which images, and how many go where; the four splits are disjoint, drawn by a seeded hash of the image's id.

    ``digits`` is scikit-learn's; ``cifar10`` an npz (x_train, y_train, x_test, y_test) or torchvision's download;
    ``folder`` one folder a class; ``npz`` a file with ``x`` and ``y`` (or the four arrays of cifar10). A path is
    relative to ``--data``.
    """

    name: Literal["digits", "cifar10", "imagenet", "folder", "npz"]
    path: str | None = None
    classes: tuple[str, ...] | None = None
    resize: int | None = None  # short side before the centre crop to a victim's input size; None: resize to that size
    crop: float | None = Field(None, gt=0, le=1)  # or what the centre crop keeps of the short side: .875 for many
    seed: int = 0
    calibration: int = Field(128, ge=1)
    craft: int = Field(512, ge=1)
    select: int = Field(0, ge=0)
    evaluate: int = Field(1000, ge=1)
    sanity: bool = False  # clean accuracy over every image, crafted-on ones too, as rows with split = "all"
    note: str = ""  # what the networks were trained on, said in the report

    @model_validator(mode="after")
    def _one_way_to_the_size(self) -> DataTable:
        if self.resize is not None and self.crop is not None:
            raise ValueError("give either resize (short side in pixels) or crop (share of it), not both")
        return self


class TrainTable(Table):
    """Training from scratch, from a seed; with a ``teacher``, another victim, on its answers instead of labels."""

    epochs: int = Field(10, ge=1)
    learning_rate: float = Field(0.1, gt=0)
    batch: int = Field(64, ge=2)
    weight_decay: float = Field(5e-4, ge=0)
    flips: bool = False  # mirror images; not for digits or letters
    seed: int = 0
    teacher: str | None = None
    temperature: float = Field(4.0, gt=0)  # of the teacher's answers
    mix: float = Field(0.5, ge=0, le=1)  # how much of another image each has in it at most, where a teacher answers


class VictimTable(Table):
    """A classifier: ``model`` names one of ours, one of torchvision's, or ``package.module:function``."""

    name: Name
    model: str
    weights: str | None = None  # a file under --data, a URL, or one of torchvision's names (IMAGENET1K_V1)
    weights_sha256: str | None = None
    train: TrainTable | None = None
    classes: int | None = None  # default: those of the data
    input_size: Size | None = None  # (height, width); default: that of the data
    mean: Triple = (0.0, 0.0, 0.0)
    std: Triple = (1.0, 1.0, 1.0)
    channel_order: Literal["rgb", "bgr"] = "rgb"
    claimed_accuracy: float | None = Field(None, gt=0, le=1)  # what its maker says; the run checks it on its images

    @model_validator(mode="after")
    def _one_source(self) -> VictimTable:
        if (self.weights is None) == (self.train is None):
            raise ValueError(f"victim {self.name!r}: give either weights or a [victim.train] table")
        return self


class ArtifactTable(Table):
    """A file that the user brings: an ``.onnx`` or ``.tflite`` under --data, and how a device feeds it.

    ``(pixels / divisor - mean) / std`` in ``channel_order`` is the file's input; integers take its own scale and zero
    point. ``class_offset`` is 1 where output 0 is "background".
    """

    name: Name
    file: str
    sha256: str | None = None
    precision: Literal["fp32", "w8a8"] = "w8a8"
    classes: int | None = None  # default: those of the data
    class_offset: int = Field(0, ge=0)
    input_size: Size | None = None  # (height, width); default: that of the data
    layout: Literal["nchw", "nhwc"] | None = None  # default: nhwc for .tflite, nchw for .onnx
    divisor: float = Field(255.0, gt=0)
    mean: Triple = (0.0, 0.0, 0.0)
    std: Triple = (1.0, 1.0, 1.0)
    channel_order: Literal["rgb", "bgr"] = "rgb"
    output_kind: Literal["logits", "softmax"] = "logits"
    claimed_accuracy: float | None = Field(None, gt=0, le=1)  # what its maker says; the run checks it on its images

    @model_validator(mode="after")
    def _known_format(self) -> ArtifactTable:
        if not self.file.endswith((".onnx", ".tflite")):
            raise ValueError(f"artifact {self.name!r}: expected an .onnx or .tflite file, got {self.file}")
        return self


class QatTable(Table):
    """Quantization-aware training, from the victim's own weights; it needs images alone, no labels."""

    epochs: int = Field(30, ge=1)
    learning_rate: float = Field(2e-3, gt=0)
    batch: int = Field(64, ge=2)
    temperature: float = Field(4.0, gt=0)  # of the float network's answers that it learns from
    mix: float = Field(0.5, ge=0, le=1)  # how much of another image each may have in it, at most
    flips: bool = False  # mirror images; not for digits or letters
    seed: int = 0


class ExportTable(Table):
    """Artifacts to make: the product of its axes, each a value or a list of values."""

    victims: Axis[str] = ("*",)
    format: Axis[Literal["onnx", "tflite", "torch"]]  # torch: simulated, rounded in float, on the target torch
    precision: Axis[Precision] = ("w8a8",)
    signature: Axis[Literal["u8s8", "s8s8", "u8u8"]] = ("s8s8",)
    calibration: Axis[Calibration] = ("minmax",)
    per_channel: Axis[bool] = (True,)
    packed: Axis[bool] = (False,)  # w4a8 in TFLite's own 4-bit type, which its kernels unpack; else embedded in int8
    symmetric_activations: bool = False
    moving_average_constant: float = Field(0.95, gt=0, lt=1)
    percentile: float = Field(99.99, gt=50, le=100)
    calibration_batch: int = Field(1, ge=1)
    qat: QatTable | None = None  # given, the network is trained to its precision first

    @model_validator(mode="after")
    def _files_have_activations_of_8_bits(self) -> ExportTable:
        bad = [p for p in self.precision if p != "fp32" and (not p.endswith("a8") or p.startswith("w32"))]
        if bad and set(self.format) != {"torch"}:
            raise ValueError(f'no file has {", ".join(bad)}: give weights of 2 to 8 bits and a8, or format = "torch"')
        return self

    @model_validator(mode="after")
    def _training_learns_a_step_a_channel(self) -> ExportTable:
        if self.qat and set(self.per_channel) != {True}:
            raise ValueError("[export.qat] learns a step a channel: leave per_channel = true")
        return self

    @model_validator(mode="after")
    def _packed_weights_are_tflites(self) -> ExportTable:
        if True in self.packed and (set(self.format), set(self.precision)) != ({"tflite"}, {"w4a8"}):
            raise ValueError('packed = true needs an [[export]] of format = "tflite" and precision = "w4a8" alone')
        return self

    @model_validator(mode="after")
    def _tflite_is_signed(self) -> ExportTable:
        if "tflite" in self.format and set(self.precision) != {"fp32"} and set(self.signature) != {"s8s8"}:
            raise ValueError('TFLite\'s integers are signed: give its [[export]] signature = "s8s8" (the default)')
        return self


class PoseTable(Table):
    """How a patch lies on each image, by a draw of the image's own: turned and lit up to so far, either way."""

    rotation: float = Field(default=0.0, ge=0, le=180)  # degrees
    scale: float = Field(default=0.0, ge=0, le=0.99)  # share of its size
    brightness: float = Field(default=0.0, ge=0, le=0.99)  # share of white
    contrast: float = Field(default=0.0, ge=0, le=0.99)


class AttackTable(Table):
    """Patches to make: the product of its axes; ``options`` are those of the attack's function.

    A surrogate is ``float``, of the victim itself, or ``float:VICTIM``; ``twin:ARTIFACT`` or ``twin:ARTIFACT:KERNELS``;
    ``fake_quant:w4a4`` or ``fake_quant:w4a4:VICTIM``, rounded to any bits, or ``fake_quant:ARTIFACT``, as that one is;
    ``qat:w4a4`` or ``qat:w4a4:VICTIM``, trained as the ``[export.qat]`` of that precision says;
    ``device:ARTIFACT:TARGET`` for an attack that asks a target. Results are under the attack's name, ``NAME-each`` with
    ``per_image``; a ``label`` tells two tables of one attack apart, which would be averaged otherwise.
    """

    name: str
    label: Name | None = None
    victims: Axis[str] = ("*",)
    surrogate: Axis[str | Annotated[tuple[str, ...], Field(min_length=2)]] = ("float",)  # a list in it: an ensemble
    through: Axis[Defence] = ("",)  # the defences that it expects between pixels and surrogate
    target_classes: Axis[int] | None = None
    seeds: Axis[int] = (0,)
    area: Axis[float] | None = None  # share of the image's area
    pixels: Axis[int] | None = None  # or the patch's side
    shape: Axis[Literal["square", "round"]] = ("square",)
    placement: Axis[str] = ("random",)  # random, center, top-left, ..., ROW,COLUMN in pixels; best: the attack's choice
    placement_seed: int = 0
    pose: PoseTable = PoseTable()  # how it lies there; what the attack expects is among its options
    per_image: bool = False  # a patch for each evaluation image, made on that very image, at its place
    place_known: bool = False  # whether a patch for all images is made at the fixed place where it will lie
    options: dict[str, Any] = Field(default_factory=dict)


class ControlsTable(Table):
    """What stands in for every patch, of its size, in its places.

    A grey one (0 or 1), draws of uniform noise, pictures of the target class (of any, where none of it is to craft on),
    and patches of so many other target classes of the same attack, judged for this one.
    """

    grey: int = Field(default=1, ge=0, le=1)
    noise: int = Field(default=3, ge=0)
    sticker: int = Field(default=0, ge=0)
    other_class: int = Field(default=0, ge=0)


class LatencyTable(Table):
    """A closed loop, one image at a time: warm-up, then at least so many runs and so many seconds, each thread count.

    Of an emulated target a few runs are timed, to see that they can be: they compare with nothing.
    """

    threads: Axis[Literal["all"] | Annotated[int, Field(ge=1)]] = (1, "all")

    warmup: int = Field(default=10, ge=0)
    runs: int = Field(default=100, ge=1)
    seconds: float = Field(default=0.5, ge=0)


class TargetTable(Table):
    """Where artifacts run: a runtime, its options, on a host."""

    name: Name
    runtime: str
    version: str = ""  # of the runtime's package; given, the target has an environment of its own
    host: str = "local"
    arch: str = ""
    cpu: str = ""
    image: str = ""
    address: str = ""
    options: dict[str, str | int | float | bool] = Field(default_factory=dict)
    threads: int = Field(1, ge=1)
    batch: int = Field(1, ge=1)
    time_limit: float = Field(300.0, gt=0)  # seconds without a sign of life before a replay counts as hung


class Suite(Table):
    """Everything a run needs to know."""

    schema_: Literal[1] = Field(alias="schema")
    name: Name
    title: str = ""
    data: DataTable
    victim: list[VictimTable] = Field(default_factory=list)
    export: list[ExportTable] = Field(default_factory=list)
    artifact: list[ArtifactTable] = Field(default_factory=list)
    attack: list[AttackTable] = Field(default_factory=list)
    target: list[TargetTable] = Field(min_length=1)
    # What a device does to pixels before its network; each case is replayed with each. A default is not validated: not
    # "none", which is a user's word.
    defence: Axis[Defence] = ("",)
    controls: ControlsTable = ControlsTable()
    latency: LatencyTable = LatencyTable()
    study: StudyTable = StudyTable()

    @model_validator(mode="after")
    def _has_files(self) -> Suite:
        if not self.artifact and not (self.victim and self.export):
            raise ValueError("nothing to run: give a [[victim]] with an [[export]], or an [[artifact]] of your own")
        return self

    @model_validator(mode="after")
    def _names_are_unique(self) -> Suite:
        networks = [*(v.name for v in self.victim), *(a.name for a in self.artifact)]
        for what, names in (("victim]] or [[artifact", networks), ("target", [t.name for t in self.target])):
            if twice := {n for n in names if names.count(n) > 1}:
                raise ValueError(f"two [[{what}]] named {', '.join(sorted(twice))}")
        return self


def read_suite(path: Path) -> Suite:
    """Reads and checks a suite; what is wrong with it is one `UserError` with a line for each fault."""
    return read_toml(path, Suite, "a suite")

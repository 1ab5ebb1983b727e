"""The `[[export]]` tables: the files to make of the victims."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from backends.device.artifact import Calibration, Format
from backends.device.toolchains import OF_FORMATS, TOOLCHAINS, owned, taking
from harness.config.values import OperatorName, Precision, Seed, TrainingDefence
from harness.tables import Axis, Table

# by format: who knows one signature alone, and which
ONE_SIGNATURE = {"tflite": ("TFLite", "s8s8"), "pte": ("ExecuTorch", "s8s8")}
ONE_SIGNATURE |= {format: (one.package, one.signature) for format, one in OF_FORMATS.items()}


class QatTable(Table):
    """Quantization-aware training, starting from the victim's own weights.

    The network learns from the float network's answers, so it needs images but no labels.
    """

    epochs: int = Field(30, ge=1)
    """Passes over the training images."""

    learning_rate: float = Field(2e-3, gt=0)
    """The highest learning rate of the schedule (Adam)."""

    batch: int = Field(64, ge=2)
    """Images per step."""

    temperature: float = Field(4.0, gt=0)
    """Temperature of the float network's answers."""

    mix: float = Field(0.5, ge=0, le=1)
    """The largest share of another image that is mixed into each."""

    flips: bool = False
    """Also train on mirror images; not for digits or letters."""

    seed: Seed = 0
    """Seed of the order of the images."""

    defence: TrainingDefence = ""
    """What the network also learns against patches, `cutout`, `pat`, `qadt_r` or `triqdef`; `pat:8` against patches of
    8 pixels. By default, patches have a quarter of the image's side."""


class ExportTable(Table):
    """Artifacts to make: one for each combination of the lists below."""

    victims: Axis[str] = ("*",)
    """Which victims to export, as patterns of their names."""

    format: Axis[Literal[Format, "torch"]]
    """File format; `pte` is ExecuTorch's, `bmodel` and `cvimodel` are Sophgo's for its BM1684X and CV181x, `rknn` is
    Rockchip's for its RK3588, `kmodel` Kendryte's for its K230, `espdl` Espressif's for its ESP32-P4. `torch` makes no
    file: it is simulated, rounded in float, on the target `torch`."""

    precision: Axis[Precision] = ("w8a8",)
    """Bits of weights and activations: `fp32`, `w8a8`, `w4a8`, … Files take weights of 2 to 8 bits and `a8`."""

    signature: Axis[Literal["u8s8", "s8s8", "u8u8"]] = ("s8s8",)
    """Signedness of activations, then weights. TFLite, ExecuTorch and vendors' toolchains know `s8s8` only,
    nncase (`kmodel`) `u8s8` only."""

    calibration: Axis[Calibration] = ("minmax",)
    """How activation ranges are chosen; each word means the same in all formats. `kl` and `mse` are
    tpu-mlir's and esp-ppq's own, for `bmodel`, `cvimodel` and `espdl` alone; `aciq_gauss`, `aciq_laplace` and
    `percentile9999` are tpu-mlir's, `normal` and `kl_divergence` rknn-toolkit2's, for `rknn`, `no_clip` and `kld`
    nncase's, for `kmodel`, and `kl_to_output` is
    esp-ppq's default, for `espdl`. `bmodel:kl` and the like are for `onnx`: the ranges in the file that the compiler of
    that format makes by its own calibration."""

    per_channel: Axis[bool] = (True,)
    """Whether each output channel of the weights has a scale of its own."""

    packed: Axis[bool] = (False,)
    """Write `w4a8` weights in TFLite's own 4-bit type, two to a byte; otherwise they are embedded in int8."""

    allow_float: tuple[OperatorName, ...] = ()
    """Operators that the runtime may compute in float, such as `["LayerNormalization", "Gelu"]`; the artifact is then
    *partly integer*, and its precision ends in `+fp32`. A refused export names them."""

    symmetric_activations: bool = False
    """Fix the zero point of activations at the middle of their range."""

    moving_average_constant: float = Field(0.95, gt=0, lt=1)
    """Share of the old range that each batch keeps, for `moving_average`."""

    percentile: float = Field(99.99, gt=50, le=100)
    """Percentile of the values that the range covers, for `percentile`."""

    calibration_batch: int = Field(1, ge=1)
    """Images per calibration batch."""

    qat: QatTable | None = None
    """Train the network to its precision first."""

    @model_validator(mode="after")
    def _files_have_activations_of_8_bits(self) -> ExportTable:
        bad = [p for p in self.precision if p != "fp32" and (not p.endswith("a8") or p.startswith("w32"))]
        if bad and set(self.format) != {"torch"}:
            raise ValueError(f'no file has {", ".join(bad)}: give weights of 2 to 8 bits and a8, or format = "torch"')
        return self

    @model_validator(mode="after")
    def _training_learns_a_step_a_channel(self) -> ExportTable:
        if self.qat and set(self.per_channel) != {True}:
            raise ValueError("[export.qat] learns one step per channel: leave per_channel = true")
        return self

    @model_validator(mode="after")
    def _packed_weights_are_tflites(self) -> ExportTable:
        if True in self.packed and (set(self.format), set(self.precision)) != ({"tflite"}, {"w4a8"}):
            raise ValueError('packed = true needs an [[export]] of format = "tflite" and precision = "w4a8" alone')
        return self

    @model_validator(mode="after")
    def _toolchains_have_their_own_ways(self) -> ExportTable:
        for calibration in sorted(self.calibration):
            takers = taking(calibration)
            if takers and set(self.format) - set(takers):
                raise ValueError(owned(calibration))
        for one in TOOLCHAINS:
            formats = sorted(set(self.format) & set(one.formats))
            fits = self.symmetric_activations == one.symmetric and set(self.precision) == {"w8a8"}
            if formats and not (fits and all(self.per_channel)):
                raise ValueError(
                    f"{one.package} quantizes a {formats[0]} in one way: give its [[export]] symmetric_activations = "
                    f'{str(one.symmetric).lower()}, and leave precision = "w8a8" and per_channel = true'
                )
            if formats and self.qat:
                raise ValueError(f"{one.package} does not take the scales that [export.qat] learns: no {formats[0]}")
        return self

    @model_validator(mode="after")
    def _some_formats_have_one_signature(self) -> ExportTable:
        for format, (name, signature) in ONE_SIGNATURE.items():
            if format in self.format and set(self.precision) != {"fp32"} and set(self.signature) != {signature}:
                default = " (the default)" if signature == "s8s8" else ""
                raise ValueError(
                    f'{name} knows {signature} alone: give its [[export]] signature = "{signature}"{default}'
                )
        return self

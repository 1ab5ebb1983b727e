"""What a run makes: data, victims, trainings, artifacts and patches, each with the key of its result in the store."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from backends.device.artifact import QuantSpec, sha256_file
from backends.device.errors import UserError
from backends.device.names import plain_name
from backends.hosts import Target, identity
from exporters.files.onnx import data_files
from harness import config
from harness.plan.user_code import code_sha256
from harness.store import key
from patches.patch import CONTROLS
from patches.surrogate import SIMULATED, Surrogate

TORCH = "torch"  # the target that is no device: torch in this process; and the format of a network that is no file


@dataclass(frozen=True)
class DataStep:
    """A suite's images at one size (height, width); ``files`` is the hash of the files that they are read from."""

    spec: config.DataTable
    files: str
    size: tuple[int, int]

    @cached_property
    def key(self) -> str:
        """Leave out notes and sanity checks, which change no image."""
        return key("data", spec=self.spec.model_dump(exclude={"note", "sanity"}), files=self.files, size=self.size)


@dataclass(frozen=True)
class VictimStep:
    """A victim: weights that are loaded or trained; or, with an `ArtifactTable`, the network in a user's file."""

    table: config.VictimTable | config.ArtifactTable
    data: DataStep
    data_dir: Path | None = field(default=None, compare=False)
    teacher: VictimStep | None = None

    @property
    def name(self) -> str:
        """The victim's name."""
        return self.table.name

    @cached_property
    def key(self) -> str:
        """Leave out the images where nothing is trained, and the claimed accuracy, which changes no answer."""
        if isinstance(self.table, config.ArtifactTable):
            table = self.table.model_dump(exclude={"claimed_accuracy"})
            return key("brought", table=table, file=self._file_sha256(), size=self.data.size)
        return key(
            "victim",
            table=self.table.model_dump(exclude={"claimed_accuracy"}),
            weights=self._weights(self.table),
            code=code_sha256(self.table.model),
            data=self.data.key if self.table.train else self.data.size,
            teacher=self.teacher.key if self.teacher else "",
        )

    def brought_file(self) -> Path:
        """Return the file of an `ArtifactTable`; a missing file or a wrong hash is a `UserError`."""
        assert isinstance(self.table, config.ArtifactTable)
        file = (self.data_dir or Path()) / self.table.file
        if not file.is_file():
            where = f"not under --data {self.data_dir}" if self.data_dir else "--data (or PATCHBENCH_DATA) is not given"
            raise UserError(f"{self.table.file}: {where}; artifact {self.name!r} names it")
        if self.table.sha256 and (found := sha256_file(file)) != self.table.sha256:
            raise UserError(f"{file}: expected sha256 {self.table.sha256}, got {found}")
        return file

    def _file_sha256(self) -> str:
        """Return the hash of a user's file; of an ONNX file with weights beside it, of all their hashes."""
        file = self.brought_file()
        beside = data_files(file) if file.suffix == ".onnx" else ()
        hashes = [sha256_file(one) for one in (file, *beside) if one.is_file()]
        return hashlib.sha256("".join(hashes).encode()).hexdigest() if beside else hashes[0]

    def _weights(self, table: config.VictimTable) -> str:
        file = self.data_dir / table.weights if self.data_dir and table.weights else None
        return sha256_file(file) if file and file.is_file() else f"{table.weights} {table.weights_sha256}"


@dataclass(frozen=True)
class TrainingStep:
    """A victim's quantization-aware training to a precision; all artifacts of that precision share it."""

    victim: VictimStep
    quant: QuantSpec
    table: config.QatTable

    @property
    def name(self) -> str:
        """The victim, the precision and the settings that differ from the defaults."""
        return f"{self.victim.name}-{self.quant.precision}-{self.short}"

    @property
    def short(self) -> str:
        """``qat-epochs10-flips`` and the like."""
        changed = [(k, v) for k, v in self.table if v != config.QatTable.model_fields[k].default]
        return "-".join(["qat", *(k if v is True else f"{k}{v}".replace(":", "") for k, v in changed)])

    @cached_property
    def key(self) -> str:
        """Hash the initial weights, the images and the settings."""
        return key("qat", victim=self.victim.key, data=self.victim.data.key, quant=self.quant, table=self.table)


@dataclass(frozen=True)
class ArtifactStep:
    """A victim as a file, exported or the user's own; in the format ``torch``, the network itself or simulated."""

    victim: VictimStep
    format: str
    quant: QuantSpec | None = None
    training: TrainingStep | None = None

    @property
    def brought(self) -> config.ArtifactTable | None:
        """The table of a user's own file."""
        return self.victim.table if isinstance(self.victim.table, config.ArtifactTable) else None

    @property
    def precision(self) -> str:
        """Bits of weights and activations, or ``fp32``."""
        if self.brought:
            return self.brought.precision
        return self.quant.precision if self.quant else "fp32"

    @cached_property
    def name(self) -> str:
        """``resnet20-onnx-u8s8-minmax`` and the like; the table's name for a user's own file."""
        if self.brought:
            return self.brought.name
        if self.quant is None:
            return f"{self.victim.name}-{self.format}" + ("" if self.format == TORCH else "-fp32")
        bits = self.quant.precision if self.format == TORCH else self.quant.signature
        parts = [self.victim.name, self.format, bits, self.quant.calibration.replace(":", "-")]
        if self.quant.packed:
            parts.append("packed")
        if not self.quant.per_channel:
            parts.append("per_tensor")
        if self.quant.symmetric_activations:
            parts.append("symmetric")
        for name in ("moving_average_constant", "percentile", "calibration_batch"):
            value = getattr(self.quant, name)
            if value != getattr(QuantSpec(), name):
                parts.append(f"{name.split('_')[-1]}{value:g}")
        if self.training:
            parts.append(self.training.short)
        return plain_name("-".join(parts))

    @cached_property
    def key(self) -> str:
        """Leave out the images where nothing is calibrated."""
        stage = "artifact"
        if self.format == TORCH:
            stage = "simulated" if self.quant else TORCH
        data = self.victim.data.key if self.quant else ""
        training = self.training.key if self.training else ""
        victim = self.victim.key
        return key(
            stage, name=self.name, victim=victim, format=self.format, quant=self.quant, data=data, training=training
        )


@dataclass(frozen=True)
class SurrogateStep:
    """A surrogate, and the network or the artifact that it is made of.

    ``words`` name every victim. ``victim`` sets the patch's input size; an ensemble's is that of its first member. A
    device has the ``target`` that it queries.
    """

    words: Surrogate
    victim: VictimStep
    artifact: ArtifactStep | None = None
    target: Target | None = field(default=None, hash=False)
    members: tuple[SurrogateStep, ...] = ()

    @property
    def kind(self) -> str:
        """The kind that `patches.surrogates.build` makes; trained and rounded networks are built alike."""
        return "fake_quant" if self.words.kind in SIMULATED else self.words.kind

    @property
    def made_of(self) -> str:
        """The name of its artifact or victim; of an ensemble, ``[float:resnet20+twin:resnet20-onnx-u8s8-minmax]``."""
        if self.members:
            return f"[{'+'.join(':'.join(filter(None, (m.kind, m.words.variant, m.made_of))) for m in self.members)}]"
        return self.artifact.name if self.artifact else self.victim.name

    @property
    def name(self) -> str:
        """``float-resnet20`` and the like; an ensemble has a hash of its members."""
        made_of = hashlib.sha256(self.made_of.encode()).hexdigest()[:6] if self.members else self.made_of
        return "-".join(filter(None, (self.kind, self.words.variant, made_of)))

    @cached_property
    def key(self) -> str:
        """Hash what decides its gradients or its answers."""
        return key(
            "surrogate",
            kind=self.kind,
            variant=self.words.variant,
            defence=self.words.defence,
            made_of=self.artifact.key if self.artifact else self.victim.key,
            target=key("replay", by=decided(self.target)) if self.target else "",
            members=[member.key for member in self.members],
        )


@dataclass(frozen=True)
class PatchStep:
    """A patch to craft; controls and imported patches have no surrogate.

    ``px`` is the side at the size of ``data``. ``placement`` is empty for a patch that has to work anywhere. ``frozen``
    are the sha256 of the baseline's patch that replaces this one, and of the weights it was crafted on.
    """

    attack: str
    surrogate: SurrogateStep | None
    target_class: int | None
    seed: int
    px: int
    shape: str
    data: DataStep
    per_image: bool = False
    placement: str = ""
    placement_seed: int = 0
    options: dict[str, Any] = field(default_factory=dict, hash=False)
    frozen: tuple[str, str] | None = None
    label: str = ""  # the attack's name in results
    file: Path | None = field(default=None, compare=False)  # an imported patch, a control's mask, or a disguise
    twin_equal: float = field(default=1.0, compare=False)  # share of integers that a twin must have as its runtime
    fill: float = field(default=1.0, compare=False)  # share of the square around it that the shape covers

    @property
    def split(self) -> str:
        """The images that it is crafted on: per-image patches need the very images that are counted."""
        return "evaluate" if self.per_image else "craft"

    def surrogate_for(self, victim: str = "") -> str:
        """Return the words for the surrogate in the results of a victim, whose name is left out."""
        return str(self.surrogate.words.without(victim)) if self.surrogate else ""

    @cached_property
    def name(self) -> str:
        """``gap-float-resnet8-c3-s0-8px`` and the like."""
        parts = [self.attack, self.surrogate.name] if self.surrogate else [self.attack]
        if self.target_class is not None:
            parts.append(f"c{self.target_class}")
        parts += [f"s{self.seed}", f"{self.px}px"]
        if self.shape != "square":
            parts.append(self.shape)
        if self.per_image:
            parts.append("each")
        if self.placement:
            parts.append(self.placement)
        if self.placement_seed:
            parts.append(f"p{self.placement_seed}")
        if self.surrogate and self.surrogate.words.defence:
            parts.append(f"defence-{self.surrogate.words.defence.replace(':', '')}")
        parts += [f"{name}={value}" for name, value in sorted(self.options.items())]
        return plain_name("-".join(parts))

    @cached_property
    def key(self) -> str:
        """Leave out networks and images for controls; a sticker depends on images."""
        inputs = {name: getattr(self, name) for name in ("attack", "target_class", "seed", "px", "shape", "options")}
        if self.surrogate:
            inputs |= {"surrogate": self.surrogate.key, "data": self.data.key}
            inputs |= {name: getattr(self, name) for name in ("per_image", "placement", "placement_seed")}
        if self.attack == "sticker":
            inputs["data"] = self.data.key
        if self.file and self.attack not in CONTROLS:
            inputs |= {"file": sha256_file(self.file), "size": self.data.size}
        if self.frozen:
            inputs["frozen"] = self.frozen
        return key("patch", name=self.name, **inputs)


def decided(target: Target) -> str:
    """Hash what decides a target's answers: neither its name nor its time limit does."""
    if target.name == TORCH:
        return ""
    return key("target", target=replace(target, name="", time_limit=0.0), found=identity(target))

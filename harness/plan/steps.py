"""The steps that make things: each says what goes into a result, which gives the key it is kept under."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import sys
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from backends.device.artifact import QuantSpec, sha256_file
from backends.device.errors import UserError
from backends.hosts import Target, identity
from harness import config
from harness.store import key
from patches.patch import CONTROLS

OF_FILES = ("twin:", "device:")  # surrogates that are named by a file, which can have its victim's name
TORCH = "torch"  # the target that is no device: the float network, in this process


@dataclass(frozen=True)
class DataStep:
    """The images of a suite at one size (height, width), split; ``files`` is the hash of what they are read from."""

    spec: config.DataTable
    files: str
    size: tuple[int, int]

    @cached_property
    def key(self) -> str:
        """Neither notes nor what is shown of them changes the images."""
        return key("data", spec=self.spec.model_dump(exclude={"note", "sanity"}), files=self.files, size=self.size)


@dataclass(frozen=True)
class VictimStep:
    """A victim's weights, had or trained; or, with an `Artifact` table, the network that is in a file brought."""

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
        """Given weights depend on no image; what it is claimed to reach changes no answer."""
        if isinstance(self.table, config.ArtifactTable):
            table = self.table.model_dump(exclude={"claimed_accuracy"})
            return key("brought", table=table, file=sha256_file(self.brought_file()), size=self.data.size)
        seen = self.data.key if self.table.train else self.data.size
        table = self.table.model_dump(exclude={"claimed_accuracy"})
        weights, code = self._weights(self.table), self._code(self.table)
        taught = {"teacher": self.teacher.key} if self.teacher else {}
        return key("victim", table=table, weights=weights, code=code, data=seen, **taught)

    def brought_file(self) -> Path:
        """The file of an `Artifact` table; one that is not there, or another one, is a `UserError`."""
        assert isinstance(self.table, config.ArtifactTable)
        file = (self.data_dir or Path()) / self.table.file
        if not file.is_file():
            where = f"not under --data {self.data_dir}" if self.data_dir else "--data (or PATCHBENCH_DATA) is not given"
            raise UserError(f"{self.table.file}: {where}; artifact {self.name!r} names it")
        if self.table.sha256 and (found := sha256_file(file)) != self.table.sha256:
            raise UserError(f"{file}: expected sha256 {self.table.sha256}, got {found}")
        return file

    def _weights(self, table: config.VictimTable) -> str:
        file = self.data_dir / table.weights if self.data_dir and table.weights else None
        return sha256_file(file) if file and file.is_file() else f"{table.weights} {table.weights_sha256}"

    def _code(self, table: config.VictimTable) -> str:
        """Hash of the file that defines a user's own network."""
        module, colon, _ = table.model.partition(":")
        if not colon:
            return ""
        if str(Path.cwd()) not in sys.path:
            sys.path.insert(0, str(Path.cwd()))
        try:
            spec = importlib.util.find_spec(module)
        except ImportError:
            spec = None
        return sha256_file(Path(spec.origin)) if spec and spec.origin and Path(spec.origin).is_file() else ""


@dataclass(frozen=True)
class TrainingStep:
    """A victim's quantization-aware training to some bits; every artifact of those bits shares it."""

    victim: VictimStep
    quant: QuantSpec
    table: config.QatTable

    @property
    def name(self) -> str:
        """The victim's, the bits and what of the table is not as usual."""
        return f"{self.victim.name}-{self.quant.precision}-{self.short}"

    @property
    def short(self) -> str:
        """``qat-epochs10-flips`` and the like."""
        changed = [(k, v) for k, v in self.table if v != config.QatTable.model_fields[k].default]
        return "-".join(["qat", *(k if v is True else f"{k}{v}" for k, v in changed)])

    @cached_property
    def key(self) -> str:
        """The weights that it begins with, the images that it sees."""
        inputs = {"victim": self.victim.key, "data": self.victim.data.key, "quant": self.quant, "table": self.table}
        return key("qat", **inputs)


@dataclass(frozen=True)
class ArtifactStep:
    """A victim as a file, exported or brought; the format ``torch`` is no file: the network itself, or simulated."""

    victim: VictimStep
    format: str
    quant: QuantSpec | None = None
    training: TrainingStep | None = None

    @property
    def brought(self) -> config.ArtifactTable | None:
        """How a file that the user brings is fed."""
        return self.victim.table if isinstance(self.victim.table, config.ArtifactTable) else None

    @property
    def precision(self) -> str:
        """Bits of weights and activations."""
        return self.brought.precision if self.brought else self.quant.precision if self.quant else "fp32"

    @property
    def name(self) -> str:
        """``resnet20-onnx-u8s8-minmax`` and the like; a brought file's own."""
        if self.brought:
            return self.brought.name
        if self.quant is None:
            return f"{self.victim.name}-{self.format}" + ("" if self.format == TORCH else "-fp32")
        bits = self.quant.precision if self.format == TORCH else self.quant.signature
        parts = [self.victim.name, self.format, bits, self.quant.calibration]
        parts += ["packed"] * self.quant.packed + ["per_tensor"] * (not self.quant.per_channel)
        parts += ["symmetric"] * self.quant.symmetric_activations
        for name in ("moving_average_constant", "percentile", "calibration_batch"):
            if (value := getattr(self.quant, name)) != getattr(QuantSpec(), name):
                parts.append(f"{name.split('_')[-1]}{value:g}")
        return "-".join(parts + ([self.training.short] if self.training else []))

    @cached_property
    def key(self) -> str:
        """A float file depends on no image."""
        stage = ("simulated" if self.quant else TORCH) if self.format == TORCH else "artifact"
        inputs = {"name": self.name, "victim": self.victim.key, "format": self.format, "quant": self.quant}
        inputs["data"] = self.victim.data.key if self.quant else ""
        inputs["training"] = self.training.key if self.training else ""
        return key(stage, **inputs)


@dataclass(frozen=True)
class Member:
    """One of the surrogates of an ensemble: its kind, and the victim's network or the artifact that it is made of."""

    kind: str
    victim: VictimStep
    artifact: ArtifactStep | None = None

    @property
    def name(self) -> str:
        """``float:resnet20`` and the like."""
        return f"{self.kind}:{self.artifact.name if self.artifact else self.victim.name}"

    @property
    def key(self) -> tuple[str, str]:
        """What it is made of."""
        return self.kind, self.artifact.key if self.artifact else self.victim.key


@dataclass(frozen=True)
class PatchStep:
    """A patch to craft, of a side in pixels at the size of ``data``; a control or an imported one has no source victim.

    A surrogate that is made of an artifact has that ``artifact``, whose victim is the source. Where the attacker knows
    or chooses the places, ``placement`` says which they are; it is empty for a patch that has to work anywhere.
    """

    attack: str
    source: VictimStep | None
    surrogate: str
    target_class: int | None
    seed: int
    px: int
    shape: str
    data: DataStep
    options: dict[str, Any] = field(default_factory=dict, hash=False)
    frozen: tuple[str, str] | None = None  # sha256 of a baseline's patch, which stands in, and of the weights it is for
    artifact: ArtifactStep | None = None
    members: tuple[Member, ...] = ()  # of an ensemble, whose source is the first one's victim
    target: Target | None = field(default=None, hash=False)  # that is asked, with that artifact
    per_image: bool = False
    placement: str = ""
    placement_seed: int = 0
    through: str = ""  # the defence that it expects
    label: str = ""  # what its results are called; nothing that it is made of
    file: Path | None = field(default=None, compare=False)  # of an imported one; whose mask a control has; a disguise
    words: tuple[str, ...] = field(default=(), compare=False)  # a suite's, for the surrogate: of an ensemble each
    fill: float = field(default=1.0, compare=False)  # what the shape covers of the square around it

    @property
    def split(self) -> str:
        """The images that it is made on: those of a patch for each image are the very ones that are counted."""
        return "evaluate" if self.per_image else "craft"

    @property
    def made_on(self) -> str:
        """The name of the artifact or victim that the surrogate is made of, or all of them; empty for a control."""
        if self.members:
            return f"[{'+'.join(member.name for member in self.members)}]"
        return self.artifact.name if self.artifact else self.source.name if self.source else ""

    def made_against(self, victim: str = "") -> str:
        """The surrogate as a suite says it, an ensemble as its list; the name of that `victim` is left out.

        What it was made through follows.
        """
        words = [w if w.startswith(OF_FILES) else w.removesuffix(f":{victim}") for w in self.words]
        return (json.dumps(words) if self.members else "".join(words)) + self.expecting

    @property
    def expecting(self) -> str:
        """What is said after the surrogate where it expects a defence."""
        return f" through {self.through}" if self.through else ""

    @property
    def name(self) -> str:
        """``gap-float-resnet20-c3-s0-8px`` and the like."""
        made_on = hashlib.sha256(self.made_on.encode()).hexdigest()[:6] if self.members else self.made_on
        parts = [self.attack, *([self.surrogate.replace(":", "-"), made_on] if self.source else [])]
        parts += [f"c{self.target_class}"] if self.target_class is not None else []
        parts += [f"s{self.seed}", f"{self.px}px"] + ([self.shape] if self.shape != "square" else [])
        parts += ["each"] * self.per_image + [self.placement] * bool(self.placement)
        parts += [f"p{self.placement_seed}"] * bool(self.placement_seed)
        parts += [f"through-{self.through.replace(':', '')}"] * bool(self.through)
        parts += [f"{name}={value}" for name, value in sorted(self.options.items())]
        return "-".join(parts).replace("/", "_").replace(" ", "")

    @cached_property
    def key(self) -> str:
        """A control depends on no network, and on no image unless it is one."""
        inputs = {name: getattr(self, name) for name in ("attack", "target_class", "seed", "px", "shape", "options")}
        if self.source:
            made_of: dict[str, Any]
            made_of = {"artifact": self.artifact.key} if self.artifact else {"source": self.source.key}
            made_of |= {"members": [member.key for member in self.members]} if self.members else {}
            inputs |= made_of | {"surrogate": self.surrogate, "data": self.data.key}
            inputs |= {name: getattr(self, name) for name in ("per_image", "placement", "placement_seed")}
        if self.through:
            inputs["through"] = self.through
        if self.target:
            inputs["asked"] = key("replay", by=deciding(self.target))
        if self.attack == "sticker":
            inputs["data"] = self.data.key
        if self.file and self.attack not in CONTROLS:
            inputs |= {"file": sha256_file(self.file), "size": self.data.size}
        if self.frozen:
            inputs["frozen"] = self.frozen
        return key("patch", name=self.name, **inputs)


def deciding(target: Target) -> dict[str, Any]:
    """What decides a target's answers: not its name, and not how long we wait for them."""
    if target.name == TORCH:
        return {}
    return {"target": replace(target, name="", time_limit=0.0), "found": identity(target)}

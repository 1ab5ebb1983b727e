"""From a suite to the stages of its run, each with the key of its result; nothing is computed and no torch is loaded."""

from __future__ import annotations

import importlib.util
import math
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from itertools import product
from pathlib import Path
from typing import Any, Literal

from backends.device.runtimes import engine
from backends.hosts import Target, identity
from harness import config
from harness.schema import QuantSpec, UserError, sha256_file
from harness.store import key

TORCH = "torch"  # the target that is no device: the float network, in this process


@dataclass(frozen=True)
class DataStep:
    """The images of a suite at one size, split."""

    key: str
    size: tuple[int, int]


@dataclass(frozen=True)
class VictimStep:
    """A victim's weights, had or trained."""

    key: str
    table: config.Victim
    data: DataStep

    @property
    def name(self) -> str:
        """The victim's name."""
        return self.table.name


@dataclass(frozen=True)
class ArtifactStep:
    """A victim as a file; ``format`` is ``torch`` for the float network itself, which is not exported."""

    key: str
    victim: VictimStep
    format: str
    quant: QuantSpec | None

    @property
    def name(self) -> str:
        """``resnet20-onnx-u8s8-minmax`` and the like."""
        if self.quant is None:
            return f"{self.victim.name}-{self.format}" + ("" if self.format == TORCH else "-fp32")
        default = QuantSpec()
        parts = [self.victim.name, self.format, self.quant.signature, self.quant.calibration]
        parts += ["per_tensor"] * (not self.quant.per_channel) + ["symmetric"] * self.quant.symmetric_activations
        for field in ("moving_average_constant", "percentile", "calibration_batch"):
            if (value := getattr(self.quant, field)) != getattr(default, field):
                parts.append(f"{field.split('_')[-1]}{value:g}")
        return "-".join(parts)


@dataclass(frozen=True)
class PatchStep:
    """A patch to craft; controls have no source victim."""

    key: str
    attack: str
    source: VictimStep | None
    surrogate: str
    target_class: int | None
    seed: int
    px: int
    shape: str
    options: tuple[tuple[str, Any], ...]
    data: DataStep

    @property
    def name(self) -> str:
        """``gap-float-resnet20-c3-s0-8px`` and the like."""
        parts = [self.attack, *([self.surrogate, self.source.name] if self.source else [])]
        parts += [f"c{self.target_class}"] if self.target_class is not None else []
        parts += [f"s{self.seed}", f"{self.px}px"] + (["round"] if self.shape == "round" else [])
        parts += [f"{name}={value}" for name, value in self.options]
        return "-".join(parts).replace("/", "_").replace(" ", "")


@dataclass(frozen=True)
class Case:
    """A stack of images to replay: clean, or a patch at its places. ``px`` is the side at the size of these images."""

    key: str
    data: DataStep
    split: str
    patch: PatchStep | None = None
    px: int = 0
    placement: str = ""
    placement_seed: int = 0

    @property
    def name(self) -> str:
        """A folder's name in a bundle."""
        return "none" if self.patch is None else f"{self.patch.name}-{self.key[:8]}"


@dataclass(frozen=True)
class ReplayStep:
    """One case on one artifact and target."""

    key: str
    case: Case
    artifact: ArtifactStep
    target: Target


@dataclass(frozen=True)
class LatencyStep:
    """The latency of one artifact on one target."""

    key: str
    artifact: ArtifactStep
    target: Target


@dataclass(frozen=True)
class Cell:
    """A replay, judged against one target class (-1: none); several cells can share one replay."""

    replay: ReplayStep
    target_class: int


@dataclass(frozen=True)
class Plan:
    """All that a run is to do, in order."""

    suite: config.Suite
    data_dir: Path | None
    data: tuple[DataStep, ...]
    victims: tuple[VictimStep, ...]
    artifacts: tuple[ArtifactStep, ...]
    patches: tuple[PatchStep, ...]
    replays: tuple[ReplayStep, ...]
    latencies: tuple[LatencyStep, ...]
    cells: tuple[Cell, ...]

    @property
    def key(self) -> str:
        """Hash of everything, the report's code too: equal means that a finished run has nothing to do."""
        steps = (*self.victims, *self.artifacts, *self.patches, *self.replays, *self.latencies)
        cells = [f"{c.replay.key}:{c.target_class}" for c in self.cells]
        return key("report", suite=self.suite, steps=[s.key for s in steps], cells=cells)


def make(suite: config.Suite, data_dir: Path | None, cache: Path, targets: tuple[str, ...] = ("*",)) -> Plan:
    """Lays out a suite's stages; ``targets`` are patterns that select among its targets."""
    from harness.data import default_size, fingerprint

    print_ = fingerprint(suite.data, data_dir, cache)
    data: dict[tuple[int, int], DataStep] = {}

    def at(size: tuple[int, int]) -> DataStep:
        if size not in data:
            spec = suite.data.model_dump(exclude={"note", "sanity"})
            data[size] = DataStep(key("data", spec=spec, files=print_, size=size), size)
        return data[size]

    victims = []
    for table in suite.victim:
        size = table.input_size or default_size(suite.data)
        if size is None:
            raise UserError(f"victim {table.name!r}: give its input_size = [height, width]; this data set has none of its own")
        trained_on = at(size).key if table.train else size
        inputs = {"table": table, "weights": _weights(table, data_dir), "code": _code(table), "data": trained_on}
        victims.append(VictimStep(key("victim", **inputs), table, at(size)))
    chosen = [_target(t) for t in suite.target if any(fnmatchcase(t.name, p) for p in targets)]
    if not chosen:
        raise UserError(f"no target matches {', '.join(targets)}; the suite has {', '.join(t.name for t in suite.target)}")

    artifacts = tuple(a for v in victims for a in _artifacts(suite, v))
    cases = {v.name: _cases(suite, v, victims) for v in victims}
    replays: dict[str, ReplayStep] = {}
    cells: list[Cell] = []
    latencies = []
    for artifact, target in _pairs(artifacts, chosen):
        ran = {"by": _identity(target), "artifact": artifact.key}
        for case, target_class in cases[artifact.victim.name]:
            step = ReplayStep(key("torch" if target.name == TORCH else "replay", case=case.key, **ran), case, artifact, target)
            cells.append(Cell(replays.setdefault(step.key, step), target_class))
        if target.name != TORCH:
            latencies.append(LatencyStep(key("latency", settings=suite.latency, **ran), artifact, target))
    patches = {c.replay.case.patch.key: c.replay.case.patch for c in cells if c.replay.case.patch}
    return Plan(
        suite, data_dir, tuple(data.values()), tuple(victims), tuple(a for a in artifacts if a.format != TORCH),
        tuple(patches.values()), tuple(replays.values()), tuple(latencies), tuple(cells),
    )  # fmt: skip


def _pairs(artifacts: tuple[ArtifactStep, ...], targets: list[Target]) -> Iterator[tuple[ArtifactStep, Target]]:
    for artifact in artifacts:
        if artifact.format == TORCH:
            yield artifact, Target(name=TORCH, runtime=TORCH)
        able = [t for t in targets if artifact.format in engine(t.runtime).formats]
        yield from ((artifact, target) for target in able)


def _artifacts(suite: config.Suite, victim: VictimStep) -> Iterator[ArtifactStep]:
    yield ArtifactStep(key("torch", victim=victim.key), victim, TORCH, None)
    made = set()
    for table in suite.export:
        if not _matches(victim.name, table.victims):
            continue
        for axes in product(table.format, table.precision, table.signature, table.calibration, table.per_channel):
            form, precision, signature, calibration, per_channel = axes
            quant = None
            if precision != "fp32":
                quant = QuantSpec(
                    activation_signed=signature[0] == "s", weight_signed=signature[2] == "s", per_channel=per_channel,
                    symmetric_activations=table.symmetric_activations, calibration=calibration,
                    moving_average_constant=table.moving_average_constant, percentile=table.percentile,
                    calibration_images=suite.data.calibration, calibration_batch=table.calibration_batch,
                )  # fmt: skip
            seen = victim.data.key if quant else ""
            step = ArtifactStep(key("artifact", victim=victim.key, format=form, quant=quant, data=seen), victim, form, quant)
            if step.key not in made:
                made.add(step.key)
                yield step


def _cases(suite: config.Suite, victim: VictimStep, victims: list[VictimStep]) -> list[tuple[Case, int]]:
    """The stacks that a victim's artifacts see, each with a target class to be judged against."""
    data = victim.data
    cells = [(Case(key("case", data=data.key, split="evaluate"), data, "evaluate"), -1)]
    if suite.data.sanity:
        cells.append((Case(key("case", data=data.key, split="all"), data, "all"), -1))
    for table in suite.attack:
        if not _matches(victim.name, table.victims):
            continue
        for surrogate, size, shape, placement in product(table.surrogate, _sizes(table), table.shape, table.placement):
            side = _side(table, size, shape, victim)
            kind, _, other = surrogate.partition(":")
            source = next((v for v in victims if v.name == (other or victim.name)), None)
            if source is None:
                raise UserError(f"attack {table.name!r}: surrogate {surrogate!r} names no victim of this suite")
            place = {"placement": placement, "placement_seed": table.placement_seed}

            def case(patch: PatchStep, px: int = side, place: dict[str, Any] = place) -> Case:
                return Case(key("case", data=data.key, split="evaluate", patch=patch.key, px=px, **place), data, "evaluate", patch, px, **place)

            carried = round(side * math.sqrt(math.prod(source.data.size) / math.prod(data.size)))
            for target_class, seed in product(table.target_classes or (None,), table.seeds):
                patch = _patch(table.name, source, kind, target_class, seed, carried, shape, table.options, source.data)
                cells.append((case(patch), -1 if target_class is None else target_class))
            for control, draws in (("grey", suite.controls.grey), ("noise", suite.controls.noise)):
                for draw, target_class in product(range(draws), table.target_classes or (None,)):
                    stand_in = _patch(control, None, "", None, draw, side, shape, {}, data)
                    cells.append((case(stand_in), -1 if target_class is None else target_class))
    return list({(case.key, target_class): (case, target_class) for case, target_class in cells}.values())


def _patch(
    attack: str, source: VictimStep | None, surrogate: str, target_class: int | None, seed: int,
    px: int, shape: str, options: dict[str, Any], data: DataStep,
) -> PatchStep:  # fmt: skip
    inputs = {"attack": attack, "target_class": target_class, "seed": seed, "px": px, "shape": shape, "options": options}
    if source:  # a control depends on neither images nor network
        inputs |= {"source": source.key, "surrogate": surrogate, "data": data.key}
    return PatchStep(
        key("patch", **inputs), attack, source, surrogate, target_class, seed, px, shape, tuple(sorted(options.items())), data
    )


def _sizes(table: config.Attack) -> tuple[float, ...]:
    if (table.area is None) == (table.pixels is None):
        raise UserError(f"attack {table.name!r}: give either area (a share of the image's) or pixels (the patch's side)")
    return table.area or table.pixels or ()


def _side(table: config.Attack, size: float, shape: Literal["square", "round"], victim: VictimStep) -> int:
    from patches.placement import side

    return side(size, victim.data.size, shape) if table.area else int(size)


def _target(table: config.TargetTable) -> Target:
    return Target(**table.model_dump())


def _identity(target: Target) -> dict[str, Any]:
    """What decides a target's answers: not its name, and not how long we wait for them."""
    if target.name == TORCH:
        return {"torch": True}
    return {"target": replace(target, name="", time_limit=0.0), "found": identity(target)}


def _matches(name: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _weights(table: config.Victim, data_dir: Path | None) -> str:
    file = data_dir / table.weights if data_dir and table.weights else None
    return sha256_file(file) if file and file.is_file() else f"{table.weights} {table.weights_sha256}"


def _code(table: config.Victim) -> str:
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

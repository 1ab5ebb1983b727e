"""From a suite to the steps of its run; nothing is computed and no torch is loaded."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from itertools import product
from pathlib import Path
from typing import Literal, NamedTuple

from backends.device.runtimes import check_target_options, engine
from backends.hosts import Target, is_emulated
from harness import black_box, config
from harness.schema import CONTROLS, Pose, QuantSpec, UserError
from harness.steps import (
    TORCH,
    ArtifactStep,
    Case,
    Cell,
    DataStep,
    LatencyStep,
    Member,
    PatchStep,
    ReplayStep,
    TrainingStep,
    VictimStep,
)
from harness.store import key

PRECISION = re.compile(r"w([2-8]|32)a([2-8]|32)")


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
    def unused(self) -> list[ArtifactStep]:
        """Artifacts that no target runs."""
        used = {replay.artifact for replay in self.replays}
        return [artifact for artifact in self.artifacts if artifact not in used]

    @property
    def key(self) -> str:
        """Hash of everything, the report's code too: equal means that a finished run has nothing to do."""
        steps = [[step.key for step in of] for of in (self.victims, self.artifacts, self.patches, self.latencies)]
        cells = [f"{cell.replay.key}:{cell.target_class}" for cell in self.cells]
        return key("report", suite=self.suite, steps=steps, cells=cells)


def make(
    suite: config.Suite,
    data_dir: Path | None,
    cache: Path,
    targets: Sequence[str] = ("*",),
    frozen: Mapping[str, tuple[str, str]] | None = None,
) -> Plan:
    """Lays out a suite's steps; ``targets`` are patterns that select among its targets.

    ``frozen`` are patches of a baseline that stand in for those of their name: sha256, and that of the weights they are
    for; on other weights a patch is crafted anew.
    """
    from harness.data import fingerprint

    files = fingerprint(suite.data, data_dir, cache)
    tables: list[config.Victim | config.Artifact] = [*suite.victim, *suite.artifact]
    everyone = [VictimStep(table, DataStep(suite.data, files, _size(suite, table)), data_dir) for table in tables]
    victims = everyone[: len(suite.victim)]
    artifacts = [artifact for victim in everyone for artifact in _artifacts(suite, victim)]
    cases = {victim: list(_cases(suite, victim, victims, artifacts)) for victim in everyone}
    replays: dict[str, ReplayStep] = {}
    cells, latencies = {}, []
    for artifact, target in _pairs(artifacts, _targets(suite, targets)):
        for wanted, target_class, control in cases[artifact.victim]:
            case = _stand_in(wanted, frozen or {})
            step = ReplayStep(case, artifact, target)
            replays.setdefault(step.key, step)
            cells[step.key, artifact.name, target.name, target_class, control] = Cell(step, target_class, control)
        if target.name != TORCH:
            latencies += [LatencyStep(artifact, timed, suite.latency) for timed in _timed(suite, target)]
    patches = {step.case.patch.key: step.case.patch for step in replays.values() if step.case.patch}
    return Plan(
        suite=suite,
        data_dir=data_dir,
        data=tuple(dict.fromkeys(victim.data for victim in everyone)),
        victims=tuple(victims),
        artifacts=tuple(artifact for artifact in artifacts if artifact.format != TORCH),
        patches=tuple(patches.values()),
        replays=tuple(replays.values()),
        latencies=tuple(latencies),
        cells=tuple(cells.values()),
    )


def _stand_in(case: Case, frozen: Mapping[str, tuple[str, str]]) -> Case:
    patch = case.patch
    known = frozen.get(patch.name) if patch and patch.source else None
    return replace(case, patch=replace(patch, frozen=known)) if patch and known else case


def _size(suite: config.Suite, victim: config.Victim | config.Artifact) -> tuple[int, int]:
    from harness.data import default_size

    if size := victim.input_size or default_size(suite.data):
        return size
    raise UserError(f"victim {victim.name!r}: give its input_size = [height, width]; this data set has none of its own")


def _targets(suite: config.Suite, patterns: Sequence[str]) -> list[Target]:
    chosen = [Target(**t.model_dump()) for t in suite.target if _matches(t.name, patterns)]
    for target in chosen:
        try:
            check_target_options(target.runtime, target.options)
        except UserError as error:
            raise UserError(f"target {target.name!r}: {error}") from error
    if not chosen:
        names = ", ".join(t.name for t in suite.target)
        raise UserError(f"no target matches {', '.join(patterns)}; the suite has {names}")
    return chosen


def _pairs(artifacts: Sequence[ArtifactStep], targets: Sequence[Target]) -> Iterator[tuple[ArtifactStep, Target]]:
    for artifact in artifacts:
        if artifact.format == TORCH:
            yield artifact, Target(name=TORCH, runtime=TORCH)
        yield from ((artifact, target) for target in targets if artifact.format in engine(target.runtime).formats)


def _timed(suite: config.Suite, target: Target) -> list[Target]:
    """A target with each number of threads to be timed; an emulated one, which compares with nothing, with one."""
    threads = [0 if n == "all" else n for n in suite.latency.threads]
    return [replace(target, threads=n) for n in (threads[:1] if is_emulated(target) else threads)]


def _artifacts(suite: config.Suite, victim: VictimStep) -> list[ArtifactStep]:
    if isinstance(victim.table, config.Artifact):
        return [ArtifactStep(victim, victim.table.file.rpartition(".")[2])]
    found = [ArtifactStep(victim, TORCH)]
    for table in suite.export:
        if not _matches(victim.name, table.victims):
            continue
        axes = product(table.format, table.precision, table.signature, table.calibration, table.per_channel)
        for form, precision, signature, calibration, per_channel in axes:
            quant = QuantSpec(
                activation_signed=signature[0] == "s" or form == TORCH,  # in float both are the same
                weight_signed=signature[2] == "s" or form == TORCH,
                per_channel=per_channel,
                symmetric_activations=table.symmetric_activations,
                calibration=calibration,
                moving_average_constant=table.moving_average_constant,
                percentile=table.percentile,
                calibration_images=suite.data.calibration,
                calibration_batch=table.calibration_batch,
                weight_bits=bits(precision)[0],
                activation_bits=bits(precision)[1],
            )
            training = _training(suite, victim, quant, table.qat) if table.qat and precision != "fp32" else None
            found.append(ArtifactStep(victim, form, None if precision == "fp32" else quant, training))
    return list(dict.fromkeys(found))


def bits(precision: str) -> tuple[int, int]:
    """Bits of weights and activations: (4, 8) for ``w4a8``; float has 32."""
    found = PRECISION.fullmatch(precision)
    return (int(found[1]), int(found[2])) if found else (32, 32)


def _training(suite: config.Suite, victim: VictimStep, quant: QuantSpec, table: config.Qat) -> TrainingStep:
    """Training sees bits alone: how the rest is calibrated comes after it."""
    if isinstance(victim.table, config.Artifact):
        raise UserError(f"artifact {victim.name!r} is a file and cannot be trained: leave it out of [export.qat]")
    plain = QuantSpec(quant.weight_bits, quant.activation_bits, calibration_images=suite.data.calibration)
    return TrainingStep(victim, replace(plain, per_channel=quant.per_channel), table)


def _cases(
    suite: config.Suite, victim: VictimStep, victims: Sequence[VictimStep], artifacts: Sequence[ArtifactStep]
) -> Iterator[tuple[Case, int, str]]:
    """The stacks that a victim's artifacts see, each with a target class to be judged against, and as which control."""
    yield Case(victim.data, "evaluate"), -1, ""
    if suite.data.sanity:
        yield Case(victim.data, "all"), -1, ""
    for table in suite.attack:
        if not _matches(victim.name, table.victims):
            continue
        if table.label in CONTROLS:
            raise UserError(f"attack {table.name!r}: label {table.label!r} is the name of a control; give another")
        classes: Sequence[int | None] = table.target_classes or (None,)
        pose = Pose(**table.pose.model_dump())
        for size, shape, placement in product(_sizes(table), table.shape, table.placement):
            px = _side(table, size, shape, victim)
            attacked = list(_attacked(suite, table, victim, victims, artifacts, px, shape, placement))
            controls = list(_controls(suite, victim, px, shape, classes))
            for patch, at in [*((patch, None) for patch in attacked), *_at(controls, attacked, placement)]:
                for target_class in classes:
                    case = Case(victim.data, "evaluate", patch, px, placement, table.placement_seed, at, pose)
                    if all(p.target_class in (None, target_class) for p in (patch, at or patch)):
                        yield case, -1 if target_class is None else target_class, ""
                    elif at is None and target_class in _others(classes, patch, suite.controls.other_class):
                        yield case, target_class, "other_class"


def _attacked(
    suite: config.Suite,
    table: config.Attack,
    victim: VictimStep,
    victims: Sequence[VictimStep],
    artifacts: Sequence[ArtifactStep],
    px: int,
    shape: Literal["square", "round"],
    placement: str,
) -> Iterator[PatchStep]:
    """The patches of an attack, each at the input size of the victim that it is made on; a control has none."""
    from patches.attacks import IMPORTED, is_control

    if is_control(table.name):
        return
    label = table.label or table.name + "-each" * table.per_image
    file = _picture(table, victim)
    if table.name == IMPORTED:
        for target_class in table.target_classes or (None,):
            yield PatchStep(
                table.name, None, "", target_class, 0, px, shape, victim.data, table.options, label=label, file=file
            )
        return
    targets = [Target(**t.model_dump()) for t in suite.target]
    for surrogate in table.surrogate:
        target = black_box.named(table.name, surrogate, artifacts, targets)
        source, artifact, kind, members = _surrogate(table, surrogate, victim, victims, artifacts)
        made_px = round(px * math.sqrt(math.prod(source.data.size) / math.prod(victim.data.size)))
        known = table.per_image or table.place_known or placement == "best"
        if known and "," in placement and source.data.size != victim.data.size:
            raise UserError(
                f"attack {table.name!r}: placement {placement!r} is a place in images of {victim.name!r}, and the "
                f"patch is made on those of {source.name!r}, of another size; give a word, such as center"
            )
        for target_class, seed in product(table.target_classes or (None,), table.seeds):
            yield PatchStep(
                table.name, source, kind, target_class, seed, made_px, shape, source.data, table.options,
                artifact=artifact, members=members, per_image=table.per_image,
                placement=placement if known else "",
                placement_seed=table.placement_seed if known and placement == "random" else 0,
                label=label, file=file, target=target,
            )  # fmt: skip


def _at(
    controls: Sequence[PatchStep], attacked: Sequence[PatchStep], placement: str
) -> Iterator[tuple[PatchStep, PatchStep | None]]:
    """Controls, and in whose places each lies where those were an attack's choice: in every patch's."""
    yield from product(controls, attacked if placement == "best" else (None,))


def _others(classes: Sequence[int | None], patch: PatchStep, n: int) -> list[int]:
    """The classes for which an attack's patch is another class's: the `n` that follow its own in the suite."""
    if patch.target_class is None or patch.attack == "sticker":
        return []
    at = classes.index(patch.target_class)
    return [c for c in (*classes[at + 1 :], *classes[:at]) if c is not None][:n]


def _picture(table: config.Attack, victim: VictimStep) -> Path | None:
    """The file that an attack's options name, an imported patch or a disguise; one not there is a `UserError`."""
    from patches.attacks import IMPORTED

    name = str(table.options.get("file" if table.name == IMPORTED else "disguise", ""))
    file = (victim.data_dir or Path()) / name
    if table.name != IMPORTED and name in ("", "grey"):
        return None
    if not file.is_file():
        raise UserError(
            f"attack {table.name!r}: expected the option {'file' if table.name == IMPORTED else 'disguise'} to name a "
            f"picture under --data, found no file {file}"
        )
    return file


class _Made(NamedTuple):
    """What a patch is made on: a victim, for some kinds an artifact of it, for an ensemble all of its members."""

    source: VictimStep
    artifact: ArtifactStep | None
    kind: str
    members: tuple[Member, ...] = ()


def _surrogate(
    table: config.Attack,
    surrogate: str | tuple[str, ...],
    victim: VictimStep,
    victims: Sequence[VictimStep],
    artifacts: Sequence[ArtifactStep],
) -> _Made:
    """What an attack's surrogate names."""
    from patches.surrogates import OF_ARTIFACTS, SIMULATED

    if isinstance(surrogate, tuple):
        made = [_surrogate(table, one, victim, victims, artifacts) for one in surrogate]
        if len({one.source.data.size for one in made}) > 1:
            raise UserError(f"attack {table.name!r}: the surrogates of an ensemble need the same input size")
        return _Made(made[0].source, None, "ensemble", tuple(Member(m.kind, m.source, m.artifact) for m in made))
    kind, _, name = surrogate.partition(":")
    if kind in OF_ARTIFACTS:
        name, _, variant = name.partition(":")
        artifact = _file(table, surrogate, name, artifacts)
        return _Made(artifact.victim, artifact, f"{kind}:{variant}" if variant else kind)
    if kind not in SIMULATED:
        return _Made(_network(table, surrogate, name or victim.name, victims), None, kind)
    precision, _, whose = name.partition(":")
    if PRECISION.fullmatch(precision):
        source = _network(table, surrogate, whose or victim.name, victims)
        quant = QuantSpec(*bits(precision), calibration_images=source.data.spec.calibration)
        training = _trained(table, surrogate, source, precision, artifacts) if kind == "qat" else None
        return _Made(source, ArtifactStep(source, TORCH, quant, training), "fake_quant")
    artifact = _file(table, surrogate, name, artifacts)
    source = _network(table, surrogate, artifact.victim.name, victims)
    return _Made(source, replace(artifact, format=TORCH), "fake_quant")


def _file(table: config.Attack, surrogate: str, name: str, artifacts: Sequence[ArtifactStep]) -> ArtifactStep:
    from patches.surrogates import OF_ARTIFACTS

    kind = surrogate.partition(":")[0]
    files = [a for a in artifacts if a.format != TORCH or kind not in OF_ARTIFACTS]
    files = [a for a in files if a.precision != "fp32" or kind == "device"]
    artifact = next((a for a in files if a.name == name), None)
    if artifact is None:
        known = ", ".join(f"{kind}:{a.name}" for a in files) or "none"
        raise UserError(
            f"attack {table.name!r}: surrogate {surrogate!r} needs the file {name!r}, which is no INT8 artifact of "
            f"this suite; there is {known}"
        )
    return artifact


def _network(table: config.Attack, surrogate: str, name: str, victims: Sequence[VictimStep]) -> VictimStep:
    source = next((v for v in victims if v.name == name), None)
    if source is None:
        kind = surrogate.partition(":")[0]
        known = ", ".join(f"{kind}:{v.name}" for v in victims) or "no [[victim]] here"
        raise UserError(
            f"attack {table.name!r}: surrogate {surrogate!r} needs the network of {name!r}, which is no victim of "
            f"this suite; there is {known}"
        )
    return source


def _trained(
    table: config.Attack, surrogate: str, source: VictimStep, precision: str, artifacts: Sequence[ArtifactStep]
) -> TrainingStep:
    """The one training of a victim to a precision that the suite's exports have."""
    found = {a.training for a in artifacts if a.victim == source and a.precision == precision and a.training}
    if len(found) != 1:
        raise UserError(
            f"attack {table.name!r}: surrogate {surrogate!r} needs one [[export]] of {source.name!r} with precision = "
            f'"{precision}" and an [export.qat] table, found {len(found)}; fake_quant:ARTIFACT names one of several'
        )
    return found.pop()


def _controls(
    suite: config.Suite,
    victim: VictimStep,
    px: int,
    shape: Literal["square", "round"],
    classes: Sequence[int | None],
) -> Iterator[PatchStep]:
    for name, draws in (("grey", suite.controls.grey), ("noise", suite.controls.noise)):
        for seed in range(draws):
            yield PatchStep(name, None, "", None, seed, px, shape, victim.data)
    for target_class, seed in product(classes, range(suite.controls.sticker)):
        yield PatchStep("sticker", None, "", target_class, seed, px, shape, victim.data)


def _sizes(table: config.Attack) -> tuple[float, ...]:
    if (table.area is None) == (table.pixels is None):
        raise UserError(
            f"attack {table.name!r}: give either area (a share of the image's) or pixels (the patch's side)"
        )
    return table.area or table.pixels or ()


def _side(table: config.Attack, size: float, shape: Literal["square", "round"], victim: VictimStep) -> int:
    from patches.placement import side

    return side(size, victim.data.size, shape) if table.area else int(size)


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)

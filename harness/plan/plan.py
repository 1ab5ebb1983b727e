"""Plan a run: from a suite to its steps, without computing anything."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

from backends.device.artifact import QuantSpec
from backends.device.errors import UserError, did_you_mean
from backends.device.runtimes import Runtime, check_target_options, engine
from backends.hosts import Target, is_emulated
from harness import config
from harness.plan.cases import Offer
from harness.plan.cells import Case, Cell, LatencyStep, ReplayStep
from harness.plan.classes import check_classes
from harness.plan.described import described
from harness.plan.steps import TORCH, ArtifactStep, DataStep, PatchStep, SurrogateStep, VictimStep, decided
from harness.plan.surrogates import bits, training_of
from harness.store import key
from harness.tables import matches


@dataclass(frozen=True)
class Plan:
    """The steps of a run, in order."""

    suite: config.Suite
    data_dir: Path | None
    data: tuple[DataStep, ...]
    victims: tuple[VictimStep, ...]
    artifacts: tuple[ArtifactStep, ...]  # that a target runs, or that a patch is made on
    left_out: tuple[ArtifactStep, ...]
    targets: tuple[Target, ...]
    patches: tuple[PatchStep, ...]
    replays: tuple[ReplayStep, ...]
    latencies: tuple[LatencyStep, ...]
    cells: tuple[Cell, ...]

    @property
    def needs_torch(self) -> bool:
        """Whether a network, a file or a patch is made; else files and patches that are there are replayed."""
        exports = any(not step.brought for step in self.artifacts)
        simulates = any(step.artifact.format == TORCH for step in self.replays)
        return exports or simulates or any(step.surrogate for step in self.patches)

    @property
    def key(self) -> str:
        """Hash all steps and the report's code; a finished run with the same key has nothing to do."""
        steps = [[step.key for step in of] for of in (self.victims, self.artifacts, self.patches, self.latencies)]
        cells = [f"{cell.replay.key}:{cell.target_class}" for cell in self.cells]
        return key("report", suite=self.suite, steps=steps, cells=cells)


def make(
    suite: config.Suite,
    data_dir: Path | None,
    cache: Path | None,
    targets: Sequence[str] = ("*",),
    frozen: Mapping[str, tuple[str, str]] | None = None,
) -> Plan:
    """Plan a suite's steps on the targets whose names match the patterns ``targets``.

    ``frozen`` has a baseline's patches by name: the sha256 of each, and of the weights it was crafted on. A patch of
    that name is replaced by the baseline's, unless the weights have changed.
    """
    from harness.data.counts import pool_sizes, shares
    from harness.data.datasets import class_names, fingerprint

    names = class_names(suite.data, data_dir)
    shares(pool_sizes(suite.data, data_dir), suite.data)  # a UserError where there are too few images
    files = fingerprint(suite.data, data_dir, cache)
    brought = [described(table, data_dir) for table in suite.artifact]
    tables: list[config.VictimTable | config.ArtifactTable] = [*suite.victim, *brought]
    everyone = [VictimStep(table, DataStep(suite.data, files, _size(suite, table)), data_dir) for table in tables]
    everyone = [_with_teacher(victim, everyone) for victim in everyone]
    for victim in everyone:
        check_classes(victim, names)
    victims = everyone[: len(suite.victim)]
    _check_patterns(suite)
    artifacts = [artifact for victim in everyone for artifact in _artifacts(suite, victim)]
    offer = Offer(suite, names, victims, artifacts)
    cases = {victim: list(offer.cases(victim)) for victim in everyone}
    replays: dict[str, ReplayStep] = {}
    cells, latencies = {}, []
    chosen = _targets(suite, targets)
    by = {target.name: decided(target) for target in chosen} | {TORCH: ""}
    for artifact, target in _pairs(artifacts, chosen):
        for wanted, target_class, control in cases[artifact.victim]:
            case = _with_baseline_patch(wanted, frozen or {})
            step = ReplayStep(case, artifact, target, by[target.name])
            replays.setdefault(step.key, step)
            cells[step.key, artifact.name, target.name, target_class, control] = Cell(step, target_class, control)
        if target.name != TORCH:
            timed = product(_timed(suite, target), dict.fromkeys(["", *suite.defence]))
            latencies += [LatencyStep(artifact, at, suite.latency, defence) for at, defence in timed]
    patches = {step.case.patch.key: step.case.patch for step in replays.values() if step.case.patch}
    used = {step.artifact for step in replays.values()}
    for patch in patches.values():
        used.update(_made_on(patch.surrogate))
    to_files = [artifact for artifact in artifacts if artifact.format != TORCH]
    return Plan(
        suite=suite,
        data_dir=data_dir,
        data=tuple(dict.fromkeys(victim.data for victim in everyone)),
        victims=tuple(victims),
        artifacts=tuple(artifact for artifact in to_files if artifact in used),
        left_out=tuple(artifact for artifact in to_files if artifact not in used),
        targets=tuple(chosen),
        patches=tuple(patches.values()),
        replays=tuple(replays.values()),
        latencies=tuple(latencies),
        cells=tuple(cells.values()),
    )


def _made_on(surrogate: SurrogateStep | None) -> Iterator[ArtifactStep]:
    """Yield the artifacts that a surrogate, or a member of its ensemble, copies or asks."""
    if surrogate is None:
        return
    if surrogate.artifact:
        yield surrogate.artifact
    for member in surrogate.members:
        yield from _made_on(member)


def _check_patterns(suite: config.Suite) -> None:
    """Raise a `UserError` for a pattern of names that matches nothing."""
    networks = [victim.name for victim in suite.victim]
    everyone = [*networks, *(artifact.name for artifact in suite.artifact)]
    for export in suite.export:
        _check_matches("an [[export]]", export.victims, networks)
    for attack in suite.attack:
        _check_matches(f"attack {attack.name!r}", attack.victims, everyone)


def _check_matches(table: str, patterns: Sequence[str], names: Sequence[str]) -> None:
    for pattern in patterns:
        if not any(matches(name, [pattern]) for name in names):
            raise UserError(f"{table}: victims = {pattern!r} matches none; {did_you_mean(pattern, names)}")


def _with_teacher(victim: VictimStep, everyone: Sequence[VictimStep]) -> VictimStep:
    """Return a victim with the teacher that its table names; one that cannot teach it is a `UserError`."""
    training = victim.table.train if isinstance(victim.table, config.VictimTable) else None
    if training is None or training.teacher is None:
        return victim
    name = training.teacher
    found = next((one for one in everyone if one.name == name), None)
    if found is None or isinstance(found.table, config.ArtifactTable):
        raise UserError(f"victim {victim.name!r}: its teacher {name!r} is not a [[victim]] of this suite")
    if found.table.train and found.table.train.teacher:
        raise UserError(f"victim {victim.name!r}: its teacher {name!r} has a teacher itself; name that one")
    if found.data.size != victim.data.size or found.table.classes != victim.table.classes:
        raise UserError(f"victim {victim.name!r}: its teacher {name!r} takes other images or has other classes")
    return replace(victim, teacher=found)


def _with_baseline_patch(case: Case, frozen: Mapping[str, tuple[str, str]]) -> Case:
    patch = case.patch
    if not frozen or patch is None or patch.surrogate is None or patch.name not in frozen:
        return case
    return replace(case, patch=replace(patch, frozen=frozen[patch.name]))


def _size(suite: config.Suite, victim: config.VictimTable | config.ArtifactTable) -> tuple[int, int]:
    from harness.data.datasets import default_size, short_side

    size = victim.input_size or default_size(suite.data)
    if size is None:
        raise UserError(
            f"victim {victim.name!r}: give its input_size = [height, width]; the images of this data set differ in size"
        )
    try:
        short_side(suite.data, size)
    except UserError as error:
        raise UserError(f"victim {victim.name!r}: {error}") from error
    return size


def _targets(suite: config.Suite, patterns: Sequence[str]) -> list[Target]:
    chosen = [t.target() for t in suite.target if matches(t.name, patterns)]
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
        yield from ((artifact, target) for target in targets if _takes(engine(target.runtime), artifact))


def _takes(runtime: type[Runtime], artifact: ArtifactStep) -> bool:
    """Return whether a runtime takes files of this format and, if it takes integers alone, of this precision."""
    integers_only = getattr(runtime, "integers_only", False)
    return artifact.format in runtime.formats and not (integers_only and artifact.precision == "fp32")


def _timed(suite: config.Suite, target: Target) -> list[Target]:
    """Return a target once per number of threads to time; an emulated one, whose times mean little, once.

    One that cannot be asked is not timed.
    """
    if target.is_packed:
        return []
    if getattr(engine(target.runtime), "one_thread", False):
        return [replace(target, threads=1)]
    threads = [0 if n == "all" else n for n in suite.latency.threads]
    if is_emulated(target):
        threads = threads[:1]
    return [replace(target, threads=n) for n in threads]


def _artifacts(suite: config.Suite, victim: VictimStep) -> list[ArtifactStep]:
    if isinstance(victim.table, config.ArtifactTable):
        return [ArtifactStep(victim, victim.table.file.rpartition(".")[2])]
    found = [ArtifactStep(victim, TORCH)]
    for table in suite.export:
        if not matches(victim.name, table.victims):
            continue
        axes = (table.format, table.precision, table.signature, table.calibration, table.per_channel, table.packed)
        for form, precision, signature, calibration, per_channel, packed in product(*axes):
            quant = QuantSpec(
                activation_signed=signature[0] == "s" or form == TORCH,  # in float both are the same
                weight_signed=signature[2] == "s" or form == TORCH,
                per_channel=per_channel,
                packed=packed,
                symmetric_activations=table.symmetric_activations,
                calibration=calibration,
                moving_average_constant=table.moving_average_constant,
                percentile=table.percentile,
                calibration_images=suite.data.calibration,
                calibration_batch=table.calibration_batch,
                weight_bits=bits(precision)[0],
                activation_bits=bits(precision)[1],
                allow_float=() if form == TORCH else table.allow_float,
            )
            training = training_of(suite, victim, quant, table.qat) if table.qat and precision != "fp32" else None
            found.append(ArtifactStep(victim, form, None if precision == "fp32" else quant, training))
    return list(dict.fromkeys(found))

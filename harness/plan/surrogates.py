"""What the words of a suite stand for that name a surrogate, and a precision: networks, files, their training."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from backends.device.artifact import QuantSpec
from backends.device.errors import UserError
from backends.device.runtimes import engine
from backends.hosts import Target
from harness import config
from harness.plan.steps import TORCH, ArtifactStep, Member, TrainingStep, VictimStep

PRECISION = re.compile(r"w([2-8]|32)a([2-8]|32)")


def bits(precision: str) -> tuple[int, int]:
    """Bits of weights and activations: (4, 8) for ``w4a8``; float has 32."""
    found = PRECISION.fullmatch(precision)
    return (int(found[1]), int(found[2])) if found else (32, 32)


def training_of(suite: config.Suite, victim: VictimStep, quant: QuantSpec, table: config.QatTable) -> TrainingStep:
    """Training sees bits alone: how the rest is calibrated comes after it."""
    if isinstance(victim.table, config.ArtifactTable):
        raise UserError(f"artifact {victim.name!r} is a file and cannot be trained: leave it out of [export.qat]")
    plain = QuantSpec(quant.weight_bits, quant.activation_bits, calibration_images=suite.data.calibration)
    return TrainingStep(victim, replace(plain, per_channel=quant.per_channel), table)


class Made(NamedTuple):
    """What a patch is made on: a victim, for some kinds an artifact of it, for an ensemble all of its members.

    ``words`` are the suite's, a member each, with every victim's name.
    """

    source: VictimStep
    artifact: ArtifactStep | None
    kind: str
    words: tuple[str, ...]
    members: tuple[Member, ...] = ()


def named(
    table: config.AttackTable,
    surrogate: str | tuple[str, ...],
    victim: VictimStep,
    victims: Sequence[VictimStep],
    artifacts: Sequence[ArtifactStep],
) -> Made:
    """What an attack's surrogate names."""
    from patches.surrogates import OF_ARTIFACTS, SIMULATED, known

    if isinstance(surrogate, tuple):
        made = [named(table, one, victim, victims, artifacts) for one in surrogate]
        if len({one.source.data.size for one in made}) > 1:
            raise UserError(f"attack {table.name!r}: the surrogates of an ensemble need the same input size")
        members = tuple(Member(m.kind, m.source, m.artifact) for m in made)
        return Made(made[0].source, None, "ensemble", tuple(word for m in made for word in m.words), members)
    kind, _, name = surrogate.partition(":")
    if kind not in (there := (*known(), "qat")):
        near = difflib.get_close_matches(kind, there, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(there)}"
        raise UserError(f"attack {table.name!r}: surrogate {surrogate!r}: no surrogate named {kind!r}; {hint}")
    if kind in OF_ARTIFACTS:
        name, _, variant = name.partition(":")
        artifact = _file(table, surrogate, name, artifacts)
        return Made(artifact.victim, artifact, f"{kind}:{variant}" if variant else kind, (surrogate,))
    if kind not in SIMULATED:
        source = _network(table, surrogate, name or victim.name, victims)
        return Made(source, None, kind, (f"{kind}:{source.name}",))
    precision, _, whose = name.partition(":")
    if PRECISION.fullmatch(precision):
        source = _network(table, surrogate, whose or victim.name, victims)
        quant = QuantSpec(*bits(precision), calibration_images=source.data.spec.calibration)
        training = _trained(table, surrogate, source, precision, artifacts) if kind == "qat" else None
        rounded = ArtifactStep(source, TORCH, quant, training)
        return Made(source, rounded, "fake_quant", (f"{kind}:{precision}:{source.name}",))
    if re.fullmatch(r"[wa\d]*", precision) and not any(a.name == name for a in artifacts):
        raise UserError(
            f"attack {table.name!r}: surrogate {surrogate!r}: expected bits of weights and activations as w4a4, "
            f"each 2 to 8, or 32 for float, got {precision!r}"
        )
    artifact = _file(table, surrogate, name, artifacts)
    source = _network(table, surrogate, artifact.victim.name, victims)
    return Made(source, replace(artifact, format=TORCH), "fake_quant", (surrogate,))


def _file(table: config.AttackTable, surrogate: str, name: str, artifacts: Sequence[ArtifactStep]) -> ArtifactStep:
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


def _network(table: config.AttackTable, surrogate: str, name: str, victims: Sequence[VictimStep]) -> VictimStep:
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
    table: config.AttackTable, surrogate: str, source: VictimStep, precision: str, artifacts: Sequence[ArtifactStep]
) -> TrainingStep:
    """The one training of a victim to a precision that the suite's exports have."""
    found = {a.training for a in artifacts if a.victim == source and a.precision == precision and a.training}
    if len(found) != 1:
        raise UserError(
            f"attack {table.name!r}: surrogate {surrogate!r} needs one [[export]] of {source.name!r} with precision = "
            f'"{precision}" and an [export.qat] table, found {len(found)}; fake_quant:ARTIFACT names one of several'
        )
    return found.pop()


def asked_target(
    attack: str, surrogate: str | tuple[str, ...], artifacts: Sequence[ArtifactStep], targets: Sequence[Target]
) -> Target | None:
    """The target that an attack's surrogate asks; None for a surrogate, or several, that give gradients.

    An attack that cannot use what it is given, or a pair of file and target that is not there, is a `UserError`.
    """
    from patches.attacks import QUERY_ATTACKS, needs_gradients

    several = surrogate if isinstance(surrogate, tuple) else (surrogate,)
    if len(several) > 1 and any(one.startswith("device:") for one in several):
        raise UserError(f"attack {attack!r}: an ensemble needs gradients of all its members, and a device gives none")
    kind, _, name = several[0].partition(":")
    name, _, target_name = name.partition(":")
    runs = [
        (a.name, t) for a in artifacts if a.format != TORCH for t in targets if a.format in engine(t.runtime).formats
    ]
    there = ", ".join(f'"device:{artifact}:{target.name}"' for artifact, target in runs) or "none"
    if kind != "device":
        if attack in QUERY_ATTACKS:
            raise UserError(
                f"attack {attack!r} asks a target for scores, and needs no gradients of {surrogate!r}: "
                f"give it a surrogate of {there}"
            )
        return None
    if needs_gradients(attack):
        raise UserError(
            f"attack {attack!r} needs gradients, and {surrogate!r} gives scores alone: "
            f"give it float or twin:ARTIFACT, or take the attack {' or '.join(QUERY_ATTACKS)}"
        )
    for artifact, target in runs:
        if (artifact, target.name) == (name, target_name):
            return target
    raise UserError(
        f"attack {attack!r}: surrogate {surrogate!r} is no file on a target of this suite; there is {there}"
    )

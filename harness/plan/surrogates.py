"""Resolve a suite's surrogates to the networks, artifacts and targets that they name."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from backends.device.artifact import QuantSpec
from backends.device.errors import UserError, did_you_mean
from backends.device.runtimes import engine
from backends.hosts import Target
from harness import config
from harness.plan.steps import TORCH, ArtifactStep, SurrogateStep, TrainingStep, VictimStep
from patches import surrogates
from patches.attacks import QUERY_ATTACKS, needs_gradients
from patches.surrogate import ENSEMBLE, OF_ARTIFACTS, PRECISION, SIMULATED, Surrogate

LOOKS_LIKE_BITS = re.compile(r"[wa\d]*(:.*)?")


def bits(precision: str) -> tuple[int, int]:
    """Return the bits of weights and activations: (4, 8) for ``w4a8``; float has 32."""
    match = PRECISION.fullmatch(precision)
    return (int(match[1]), int(match[2])) if match else (32, 32)


def training_of(suite: config.Suite, victim: VictimStep, quant: QuantSpec, table: config.QatTable) -> TrainingStep:
    """Return the training to a precision; calibration comes after it, and its settings are left out."""
    if isinstance(victim.table, config.ArtifactTable):
        raise UserError(f"artifact {victim.name!r} is a file and cannot be trained: leave it out of [export.qat]")
    plain = QuantSpec(quant.weight_bits, quant.activation_bits, calibration_images=suite.data.calibration)
    return TrainingStep(victim, replace(plain, per_channel=quant.per_channel), table)


@dataclass(frozen=True)
class Resolver:
    """What the surrogates of an attack can name: the networks, artifacts and targets of its suite."""

    attack: str
    victims: Sequence[VictimStep]
    artifacts: Sequence[ArtifactStep]
    targets: Sequence[Target]

    def resolve(self, words: Surrogate, victim: VictimStep) -> SurrogateStep:
        """Return what an attack on a victim is crafted on; a name that the suite lacks is a `UserError`."""
        if any(member.kind == "device" for member in words.members):
            raise UserError(f"attack {self.attack!r}: an ensemble needs gradients, and a device gives only scores")
        self._check_gradients(words)
        if words.members:
            return self._ensemble(words, victim)
        kinds = (*(kind for kind in surrogates.kinds() if kind != ENSEMBLE), "qat")
        if words.kind not in kinds:
            raise self._error(words, f"no surrogate named {words.kind!r}; {did_you_mean(words.kind, kinds)}")
        if words.kind == "device":
            return self._device(words)
        if words.kind in OF_ARTIFACTS:
            artifact = self._artifact(words)
            return SurrogateStep(words, artifact.victim, artifact)
        if words.precision:
            return self._simulated(words, victim)
        if words.kind in SIMULATED:
            return self._simulated_artifact(words)
        source = self._network(words, words.of or victim.name)
        return SurrogateStep(replace(words, of=source.name), source)

    def _ensemble(self, words: Surrogate, victim: VictimStep) -> SurrogateStep:
        members = tuple(self.resolve(member, victim) for member in words.members)
        if len({member.victim.data.size for member in members}) > 1:
            raise UserError(f"attack {self.attack!r}: the surrogates of an ensemble need the same input size")
        words = replace(words, members=tuple(member.words for member in members))
        return SurrogateStep(words, members[0].victim, members=members)

    def _device(self, words: Surrogate) -> SurrogateStep:
        for artifact, target in self._replays():
            if (artifact.name, target.name) == (words.of, words.variant):
                return SurrogateStep(words, artifact.victim, artifact, target)
        raise self._error(words, f"not an artifact on a target of this suite; there is {self._devices()}")

    def _simulated(self, words: Surrogate, victim: VictimStep) -> SurrogateStep:
        """Return a network rounded or trained to a precision."""
        source = self._network(words, words.of or victim.name)
        quant = QuantSpec(*bits(words.precision), calibration_images=source.data.spec.calibration)
        training = self._training(words, source) if words.kind == "qat" else None
        return SurrogateStep(
            replace(words, of=source.name), source, ArtifactStep(source, TORCH, quant, training=training)
        )

    def _simulated_artifact(self, words: Surrogate) -> SurrogateStep:
        """Return a network rounded as an artifact is."""
        if LOOKS_LIKE_BITS.fullmatch(words.of) and not any(a.name == words.of for a in self.artifacts):
            expected = "expected bits of weights and activations as w4a4, each 2 to 8, or 32 for float"
            raise self._error(words, f"{expected}, got {words.of!r}")
        artifact = self._artifact(words)
        source = self._network(words, artifact.victim.name)
        return SurrogateStep(words, source, replace(artifact, format=TORCH))

    def _training(self, words: Surrogate, source: VictimStep) -> TrainingStep:
        alike = [a for a in self.artifacts if a.victim == source and a.precision == words.precision]
        trainings = {artifact.training for artifact in alike if artifact.training}
        if len(trainings) != 1:
            raise self._error(
                words,
                f'needs one [[export]] of {source.name!r} with precision = "{words.precision}" and an [export.qat] '
                f"table, found {len(trainings)}; fake_quant:ARTIFACT names one of several",
            )
        return trainings.pop()

    def _artifact(self, words: Surrogate) -> ArtifactStep:
        quantized = [a for a in self.artifacts if a.precision != "fp32"]
        usable = [a for a in quantized if a.format != TORCH or words.kind not in OF_ARTIFACTS]
        for artifact in usable:
            if artifact.name == words.of:
                return artifact
        names = ", ".join(f"{words.kind}:{a.name}" for a in usable) or "none"
        raise self._error(words, f"no quantized artifact of this suite is named {words.of!r}; there is {names}")

    def _network(self, words: Surrogate, name: str) -> VictimStep:
        for victim in self.victims:
            if victim.name == name:
                return victim
        names = ", ".join(f"{words.kind}:{v.name}" for v in self.victims) or "no [[victim]] here"
        if any(artifact.brought and artifact.name == name for artifact in self.artifacts):
            raise self._error(
                words, f'{name!r} is a file: surrogate = "twin:{name}" makes patches on it; there is {names}'
            )
        raise self._error(words, f"no victim of this suite is named {name!r}; there is {names}")

    def _check_gradients(self, words: Surrogate) -> None:
        """Raise a `UserError` for an attack that needs gradients and gets scores, or the other way round."""
        if words.kind != "device" and self.attack in QUERY_ATTACKS:
            raise UserError(
                f"attack {self.attack!r} queries a device for scores and cannot use {str(words)!r}: "
                f"give it a surrogate of {self._devices()}"
            )
        if words.kind == "device" and needs_gradients(self.attack):
            raise UserError(
                f"attack {self.attack!r} needs gradients, and {str(words)!r} gives only scores: "
                f"give it float or twin:ARTIFACT, or use {' or '.join(QUERY_ATTACKS)}"
            )

    def _replays(self) -> Iterator[tuple[ArtifactStep, Target]]:
        for artifact in self.artifacts:
            for target in self.targets:
                if artifact.format != TORCH and artifact.format in engine(target.runtime).formats:
                    yield artifact, target

    def _devices(self) -> str:
        return ", ".join(f'"device:{artifact.name}:{target.name}"' for artifact, target in self._replays()) or "none"

    def _error(self, words: Surrogate, message: str) -> UserError:
        return UserError(f"attack {self.attack!r}: surrogate {str(words)!r}: {message}")

"""Hold a target, before it replays anything else of a file, against what the same file answers elsewhere."""

from __future__ import annotations

from contextlib import suppress
from typing import NamedTuple

from backends import environments
from backends.answers import read_answers
from backends.device.errors import UserError
from backends.device.runtimes import engine
from backends.hosts import Target
from exporters.files import describe
from harness.plan.cells import ReplayStep
from harness.plan.steps import TORCH, ArtifactStep, decided
from harness.results.agreement import Floats
from harness.results.alike import KERNELS, QUANTIZED, SATURATED, Limits, alike
from harness.results.integer_checks import saturates
from harness.results.measured import ElsewhereEntry
from harness.run import stages
from harness.run.first_layer import begins
from harness.run.probe import Hear, Probe, probe
from harness.run.trial import RUNTIMES


class _Other(NamedTuple):
    """What a target is held against, in words: its answers, and by how much they may differ."""

    name: str
    answers: Floats
    limits: Limits
    target: Target | None = None


def fault(work: stages.Work, step: ReplayStep, hear: Hear) -> str:
    """Return why nothing that a target answers of a file can be counted; empty where it can, or nobody can tell.

    A probe that fails is no fault: the replays have that error themselves.
    """
    if step.target.is_packed:
        return ""
    with suppress(UserError):
        return held(work, step, probe(work, step.artifact, step.target, hear), hear).differs
    return ""


def held(work: stages.Work, step: ReplayStep, given: Probe, hear: Hear = lambda: None) -> ElsewhereEntry:
    """Compare what a target answered to the first clean images with the runtime of the format, on this machine.

    A file that no runtime here reads is held against its float network, if it has 8 bits.
    """
    entry = ElsewhereEntry(artifact=step.artifact.name, target=step.target.name)
    try:
        other = _other(work, step, given, hear)
    except UserError as error:
        return entry.model_copy(update={"unknown": str(error).splitlines()[0]})
    found = alike(given.logits, other.answers)
    differs = ""
    if not found.is_within(other.limits):
        first = begins(work, step, other.target, hear) if other.target else ""
        differs = (
            f"{found.flips} of {found.images} clean images get another class than on {other.name}, and the outputs "
            f"correlate with its by {found.correlation:.2f}: more than "
            f"{'kernels of one file differ by' if other.target else 'quantization explains'}; "
            + (f"it begins at {first}" if first else "where it begins was not found")
        )
    facts = {"against": other.name, "differs": differs} | found._asdict()
    return ElsewhereEntry.model_validate(entry.plain() | facts)


def _other(work: stages.Work, step: ReplayStep, given: Probe, hear: Hear) -> _Other:
    """Return what to hold a target against; where there is nothing, raise a `UserError`."""
    name = RUNTIMES.get(f".{step.artifact.format}")
    if name is None:
        if step.artifact.precision != "w8a8":
            raise UserError(f"no runtime here reads .{step.artifact.format} files")
        return _Other("the float network", _in_float(work, step), QUANTIZED)
    reference = Target(f"{name} here", name)
    if decided(reference) == (step.decided or decided(step.target)):
        raise UserError(f"{reference.name} is what others are held against")
    if not _is_installed(reference):
        raise UserError(f"{name} is not installed here")
    answers = probe(work, step.artifact, reference, hear)
    signature = _signature(work, step.artifact)
    saturated = any(saturates(signature, one.target) for one in (given, answers))
    return _Other(reference.name, answers.logits, SATURATED if saturated else KERNELS, reference)


def _is_installed(target: Target) -> bool:
    requirements = environments.needed(engine(target.runtime).package)
    return not requirements or environments.python(requirements).is_file()


def _signature(work: stages.Work, artifact: ArtifactStep) -> str:
    described, folder = stages.artifact(work, artifact)
    return described.quant.signature if described.quant else describe(folder / described.file).signature


def _in_float(work: stages.Work, step: ReplayStep) -> Floats:
    """Return what the float network answered to all clean images, in torch; where it did not, raise a `UserError`."""
    victim = step.artifact.victim
    for other in work.plan.replays:
        if (
            (other.target.name, other.artifact.precision, other.artifact.victim) == (TORCH, "fp32", victim)
            and (other.case.name, other.case.split) == ("none", "evaluate")
            and work.store.has("replay", other.key)
        ):
            return read_answers(work.store.path("replay", other.key) / "answers.npz", (None, None))["logits"]
    raise UserError("its float network has not answered")

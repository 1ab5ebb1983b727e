"""Do what a node of the graph says, here: the same functions in process and on a cluster's workers."""

from __future__ import annotations

from collections.abc import Mapping

from backends.device.bundle import Bundle
from harness.plan.cells import LatencyStep
from harness.plan.steps import TORCH, ArtifactStep, DataStep, PatchStep, SurrogateStep, TrainingStep, VictimStep
from harness.run import crafting, parts, replays, stages, twin_check
from harness.run.graph import Node
from harness.run.lanes import Share
from harness.run.replays import Batch


def is_done(work: stages.Work, node: Node) -> bool:
    """Whether the store has all results of a node; a check that leaves none is never done."""
    return bool(node.results) and all(work.store.has(stage, key) for stage, key in node.results)


def perform(work: stages.Work, node: Node, share: Share, most: int) -> int:
    """Do a node's work, as far as the store lacks it.

    A replay that takes long is stopped where it may be split: return into how many parts, at most ``most``, else 0.
    """
    match node.of:
        case DataStep() as step:
            stages.images(work, step, "all")
        case VictimStep() as step:
            stages.victim(work, step)
        case TrainingStep() as step:
            stages.trained(work, step)
        case ArtifactStep() as step:
            stages.artifact(work, step)
        case PatchStep() as step:
            crafting.patch(work, step)
        case LatencyStep() as step:
            replays.latencies(work, [step])
        case SurrogateStep() as step:
            twin_check.require_equal(work, step)
        case batch if node.stage == "bundle":
            replays.bundle(work, batch)
        case batch:
            return _replay(work, batch, share, most)
    return 0


def perform_part(work: stages.Work, batch: Batch, number: int, of: int, share: Share) -> None:
    """Replay one of the parts that a batch is split into."""
    bundle = Bundle.read(replays.bundle(work, batch))
    part = parts.split(bundle.n, batch.target.batch, of)[number - 1]
    parts.replay_part(work, batch.missing(work.store), bundle, part, share, lambda done, case: None)


def join_parts(work: stages.Work, batch: Batch, of: int) -> None:
    """Join the parts that a batch was split into, as far as none failed."""
    bundle = Bundle.read(replays.bundle(work, batch))
    for step in batch.missing(work.store):
        if step.key not in work.errors:
            parts.join(work, step, bundle, parts.split(bundle.n, batch.target.batch, of))


def failed(work: stages.Work, node: Node) -> Mapping[str, str]:
    """Return the errors of a node's replays or timing."""
    return {key: work.errors[key] for _, key in node.results if key in work.errors}


def _replay(work: stages.Work, batch: Batch, share: Share, most: int) -> int:
    todo = batch.missing(work.store)
    if not todo:
        return 0  # another worker did it, and was cut off before it could say so
    if batch.target.name == TORCH:
        replays.in_torch(work, todo)
        return 0
    if not replays.prepared(work, todo):
        return 0
    root = replays.bundle(work, batch)
    if len(batch.target.boards) > 1:
        replays.on_fleet(work, [(todo, root)], share)
        return 0
    return parts.begun(work, todo) or replays.whole(work, todo, root, share, most)

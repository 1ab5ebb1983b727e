"""A plan as a graph: what is done in one go, after what, and what it needs of the machine that does it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from backends.hosts import Target, cores
from harness.plan.cells import LatencyStep
from harness.plan.plan import Plan
from harness.plan.steps import TORCH, ArtifactStep, DataStep, PatchStep, SurrogateStep, TrainingStep, VictimStep
from harness.run import bundles
from harness.run.replays import Batch, batches
from harness.run.tasks import verb

# What others wait for longest comes first.
URGENCY = {"data": 7, "victim": 6, "qat": 5, "artifact": 4, "twin": 3, "patch": 3, "bundle": 2, "replay": 1}
CORE: Mapping[str, float] = {"cores": 1.0}
QUIET: Mapping[str, float] = {"quiet": 1.0}

Source = DataStep | VictimStep | TrainingStep | ArtifactStep


@dataclass(frozen=True)
class Node:
    """What one machine does in one go: to make a step, to check a twin, to pack or replay a batch, to time.

    ``results`` are the folders and keys that it leaves in the store, ``after`` the names of the nodes before it.
    """

    name: str
    verb: str
    what: str
    of: Source | SurrogateStep | PatchStep | Batch | LatencyStep
    results: tuple[tuple[str, str], ...] = ()
    after: frozenset[str] = frozenset()
    needs: Mapping[str, float] = field(default_factory=lambda: CORE)

    @property
    def stage(self) -> str:
        """The kind of node: ``patch``, ``replay`` and so on."""
        return self.name.partition(":")[0]

    @property
    def urgency(self) -> int:
        """The more urgent, the larger."""
        return URGENCY.get(self.stage, 0)


def graph(plan: Plan, device: str = "cpu") -> dict[str, Node]:
    """Return all that a run does before it times anything, by name; what comes first stands first."""
    artifacts = {replay.artifact.key: replay.artifact for replay in plan.replays}.values()
    trainings = {step.training.key: step.training for step in (*plan.artifacts, *artifacts) if step.training}
    steps: list[tuple[str, Sequence[Source]]] = [
        ("data", plan.data), ("victim", plan.victims), ("qat", list(trainings.values())), ("artifact", plan.artifacts),
    ]  # fmt: skip
    nodes = [_node(stage, step) for stage, several in steps for step in several]
    nodes += _twins(plan)
    nodes += [_patch(step, device) for step in plan.patches]
    for batch in batches(plan.replays):
        nodes += _replayed(batch)
    made = {node.name: node for node in nodes}
    return {name: replace(node, after=node.after & made.keys()) for name, node in made.items()}


def latencies(plan: Plan) -> dict[str, Node]:
    """Return what is timed, by name, each on a machine that does nothing else: ``quiet``."""
    made = {}
    for step in plan.latencies:
        name = f"latency:{step.key}"
        needs = {**_needs(step.target), **({} if step.target.host == "ssh" else QUIET)}  # a board is quiet by itself
        made[name] = Node(name, verb(step), step.what, step, (("latency", step.key),), needs=needs)
    return made


def _needs(target: Target) -> dict[str, float]:
    """Return what a machine must have for a target: cores, ``docker``, ``qemu``, or boards that it reaches."""
    if target.host == "ssh":
        return {f"board:{board.address}": 1.0 for board in target.boards}
    host = {target.host: 1.0} if target.host in ("docker", "qemu") else {}
    return host | {"cores": float(cores(target))}


def _node(stage: str, step: Source) -> Node:
    name = f"{stage}:{step.key}"
    what = step.spec.name if isinstance(step, DataStep) else step.name
    return Node(name, verb(step), what, step, ((stage, step.key),), frozenset(_before(step) - {name}))


def _before(step: Source) -> set[str]:
    match step:
        case DataStep():
            return set()
        case VictimStep():
            return _network(step) | (_network(step.teacher) if step.teacher else set())
        case TrainingStep():
            return _network(step.victim)
        case ArtifactStep():
            return _source(step)


def _twins(plan: Plan) -> Iterator[Node]:
    """Yield the check of each twin that patches are made on."""
    surrogates = [patch.surrogate for patch in plan.patches if patch.surrogate]
    steps = [step for one in surrogates for step in one.members or (one,) if step.kind == "twin"]
    for name, step in {_check(step): step for step in steps}.items():
        yield Node(name, "check", f"twin of {step.made_of}", step, after=frozenset(_surrogate(step) - {name}))


def _check(twin: SurrogateStep) -> str:
    return f"twin:{twin.made_of}:{twin.words.variant}"


def _patch(step: PatchStep, device: str) -> Node:
    needs = dict(CORE)
    if step.surrogate and step.surrogate.target:
        needs |= _needs(step.surrogate.target)
    elif step.surrogate and device != "cpu":
        needs["gpu"] = 1.0
    after = {f"data:{step.data.key}"} | (_surrogate(step.surrogate) if step.surrogate else set())
    return Node(f"patch:{step.key}", verb(step), step.name, step, (("patch", step.key),), frozenset(after), needs)


def _replayed(batch: Batch) -> Iterator[Node]:
    """Yield the replays of all cases of one artifact on one target, and before them the bundle of their cases."""
    first = batch.steps[0]
    patches = {f"patch:{patch.key}" for case in batch.cases for patch in (case.patch, case.at) if patch}
    before = frozenset({f"data:{first.case.data.key}", *patches, *_file(first.artifact)})
    results = tuple(("replay", step.key) for step in batch.steps)
    what = f"{first.pair}, {len(batch.steps)} cases"
    needs: Mapping[str, float] = CORE
    if first.target.name != TORCH:
        key = bundles.key_of(first.artifact, batch.cases)
        packed = Node(f"bundle:{key}", "bundle", first.artifact.name, batch, (("bundle", key),), before)
        yield packed
        before = frozenset({packed.name})
        needs = _needs(first.target)
    name = f"replay:{first.target.name}:{first.artifact.key}:{first.case.split}"
    yield Node(name, verb(first), what, batch, results, before, needs)


def _network(victim: VictimStep) -> set[str]:
    return {f"data:{victim.data.key}", f"victim:{victim.key}"}


def _source(step: ArtifactStep) -> set[str]:
    return _network(step.victim) | ({f"qat:{step.training.key}"} if step.training else set())


def _file(step: ArtifactStep) -> set[str]:
    """Return what an artifact comes from; one that torch runs is a network, and no file."""
    return _source(step) if step.format == TORCH else {f"artifact:{step.key}"}


def _surrogate(step: SurrogateStep) -> set[str]:
    if step.members:
        return set().union(*(_surrogate(member) for member in step.members))
    twin = {_check(step)} if step.kind == "twin" else set()
    return twin | (_file(step.artifact) if step.artifact else _network(step.victim))

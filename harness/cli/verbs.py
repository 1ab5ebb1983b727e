"""The verbs for single stages, from files to files; `patchbench run` does the same, in order."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Literal

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from backends.device.artifact import Artifact
from backends.device.bundle import Bundle, Stamps, write_bundle
from backends.device.errors import UserError
from backends.device.runtimes import Option
from backends.hosts import Target, availability, prepare, replay
from exporters.files import describe
from exporters.files.description import Tensor
from harness.config import Suite, read_suite
from harness.display import Display
from harness.plan.plan import make
from harness.plan.steps import ArtifactStep, PatchStep, VictimStep
from harness.run import crafting, stages
from harness.run.run import held
from harness.store import Store, place, write_json
from patches import placement
from patches.patch import Patch


def stage(
    suite_file: Path,
    data_dir: Path | None,
    kind: Literal["victims", "artifacts", "patches"],
    only: Sequence[str],
    into: Path,
    console: Console,
    device: str = "cpu",
) -> None:
    """Brings about one kind of a suite's results, in its run directory, and puts the files into a folder."""
    with _working(suite_file, data_dir, console, device) as work:
        every: Sequence[VictimStep | ArtifactStep | PatchStep] = getattr(work.plan, kind)
        chosen = [step for step in every if any(fnmatchcase(step.name, pattern) for pattern in only)]
        if not chosen:
            raise UserError(f"nothing matches {', '.join(only)}; there are {', '.join(step.name for step in every)}")
        for step in chosen:
            if isinstance(step, VictimStep):
                path = into / f"{step.name}.pt"
                place(stages.victim(work, step).weights, path)
            elif isinstance(step, ArtifactStep):
                path = stages.place_artifact(work, step, into)
            else:
                path = crafting.place_patch(work, step, into)
            console.print(str(path), soft_wrap=True, highlight=False)


def bundle(
    suite_file: Path,
    data_dir: Path | None,
    artifact_file: Path,
    patch_files: Sequence[Path],
    place_: str,
    seed: int,
    into: Path,
    console: Console,
) -> None:
    """Packs an artifact, the evaluation images of a suite and patches, each with its clean case, into a bundle."""
    if into.exists():
        raise UserError(f"{into}: is there already; name a folder that is not")
    if artifact_file.suffix != ".json":
        raise UserError(f"{artifact_file}: expected the .json that `patchbench export` wrote beside the model")
    if wrong := [str(path) for path in patch_files if path.suffix != ".npz"]:
        raise UserError(f"{', '.join(wrong)}: expected the .npz that `patchbench craft` wrote beside the picture")
    artifact, patches = Artifact.read(artifact_file), [Patch.read(path) for path in patch_files]
    if len(names := {patch.name for patch in patches}) < len(patches):
        raise UserError(f"two patches have the same name: {', '.join(sorted(names))} are {len(patches)}")
    with _working(suite_file, data_dir, console) as work:
        data = next((step for step in work.plan.data if step.size == artifact.input_size), None)
        if data is None:
            sizes = ", ".join("x".join(map(str, step.size)) for step in work.plan.data)
            raise UserError(f"{artifact_file}: takes images of {artifact.input_size}, the suite's are {sizes}")
        seen = stages.images(work, data, "evaluate")
        ids = [str(i) for i in seen.ids]
        cases: dict[str, Stamps | None] = {"none": None}
        for patch in patches:
            cases[patch.name] = placement.stamps_for(patch, place_, ids, data.size, seed)
        made = write_bundle(into, artifact, artifact_file.parent / artifact.file, np.array(seen.pixels), cases)
    console.print(f"{into}: {len(made.cases)} cases of {made.n} images", highlight=False)


def replay_bundle(root: Path, target: Target, into: Path, console: Console) -> None:
    """Replays a bundle; logits go to ``CASE.npz``, what ran to ``device.json``. Failures are a `UserError`."""
    n, display = Bundle.read(root).n, Display(console)
    if into.exists() and (not into.is_dir() or any(into.iterdir())):
        raise UserError(f"{into}: expected an empty folder, or none; answers of two replays don't mix")
    if why_not := availability(target):
        raise UserError(f"{target.runtime} on {target.host}: {why_not}")
    into.mkdir(parents=True, exist_ok=True)
    with display.preparing("prepare", f"{target.runtime} on {target.host}") as tell:
        prepare(target, tell)
    with display.doing("replay", f"{root} on {target.runtime}") as tick:
        outcome = replay(target, root, into, on_event=lambda e: tick(e.get("done", 0), n, e.get("case") or ""))
    write_json(
        into / "device.json", {"schema": 1, "info": outcome.info, "machine": outcome.machine, "errors": outcome.errors}
    )
    for name, file in outcome.files.items():
        with np.load(file, allow_pickle=False) as arrays:
            console.print(f"{file}: {name}, logits {arrays['logits'].shape}", soft_wrap=True, highlight=False)
    if outcome.errors:
        raise UserError("\n".join(f"{case}: {why}" for case, why in outcome.errors.items()))


def targets(suite: Suite, console: Console) -> None:
    """Prints the targets of a suite: whether each can run here and, if not, what mends it."""
    table = Table("target", "runtime", "host", "options", "threads", "can run here")
    for entry in suite.target:
        target = Target(**entry.model_dump())
        why_not = availability(target)
        options = " ".join(f"{name}={value}" for name, value in target.options.items())
        verdict = f"[red]no[/]: {escape(why_not)}" if why_not else "[green]yes[/]"
        runtime = " ".join(filter(None, (target.runtime, target.version)))
        host = " ".join(filter(None, (target.host, target.arch, target.cpu, target.image, target.address)))
        table.add_row(target.name, runtime, host, options, str(target.threads), verdict)
    console.print(table)


def inspect(file: Path, console: Console) -> None:
    """Prints a model file: its operators with dtypes, scales and zero points, and what is executed, float marked."""
    found = describe(file)
    head = ("#", "operator", "dtype", "scale", "zero point", "shape", "weights, bias")
    table = Table(*head, title=str(file), title_justify="left")
    table.add_column("output", no_wrap=True, overflow="ellipsis", max_width=32)
    quantized = any(tensor.scale for operator in found.operators for tensor in operator.outputs)
    for operator in found.operators:
        name = f"[red]{operator.name}[/]" if operator.in_float and quantized else operator.name
        weights = "\n".join(_quantization(t) for t in operator.inputs if t.values is not None and t.scale)
        for out in operator.outputs:
            scale, zero_point = _span(out.scale), _span(out.zero_point)
            table.add_row(
                str(operator.index), name, out.integers or out.dtype, scale, zero_point, _shape(out), weights, out.name
            )
    console.print(table)
    for word, tensors in (("input", found.inputs), ("output", found.outputs)):
        for tensor in tensors:
            console.print(f"{word} {tensor.name}: {_shape(tensor)} {_quantization(tensor)}", highlight=False)
    console.print("executed: " + ", ".join(f"{n} {name}" for name, n in found.counts.items()), highlight=False)
    computing = [name for name in found.counts if name.endswith("(float)")]
    console.print(f"[red]computes in float[/]: {', '.join(computing)}" if computing else "[green]integer throughout[/]")
    if any(name.endswith("(int4 weights)") for name in found.counts):
        console.print("int4 weights: the runtime's kernels unpack them, and multiply as in int8", highlight=False)


def parse_options(pairs: Sequence[str]) -> Mapping[str, Option]:
    """``["kernels=builtin", "size=3"]`` as a runtime takes it: numbers and true or false are read as such."""
    options: dict[str, Option] = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals or not name:
            raise UserError(f"--option {pair!r}: expected KEY=VALUE")
        try:
            value = json.loads(text)
        except ValueError:
            value = text
        options[name] = value if isinstance(value, str | int | float | bool) else text
    return options


@contextmanager
def _working(suite_file: Path, data_dir: Path | None, console: Console, device: str = "cpu") -> Iterator[stages.Work]:
    suite = read_suite(suite_file)
    stages.check_device(device)
    run_dir = Path("out") / suite.name
    with held(run_dir):
        store = Store(run_dir / "store")
        yield stages.Work(make(suite, data_dir, store.root), store, Display(console), device)


def _shape(tensor: Tensor) -> str:
    return "?" if tensor.shape is None else "x".join("n" if d < 0 else str(d) for d in tensor.shape)


def _quantization(tensor: Tensor) -> str:
    dtype, zero_point = tensor.integers or tensor.dtype, _span(tensor.zero_point)
    if not tensor.scale:
        return dtype
    return f"{dtype} scale {_span(tensor.scale)}" + (f" zero point {zero_point}" if zero_point != "0" else "")


def _span(values: Sequence[float]) -> str:
    if not values:
        return ""
    low, high = min(values), max(values)
    return f"{low:.6g}" if low == high else f"{low:.3g}…{high:.3g} ({len(values)})"

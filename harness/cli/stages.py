"""Commands for single stages, from files to files; ``patchbench run`` does the same in order."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from backends.device.errors import UserError
from backends.device.reading import DamagedFile, Expected, parse_json, read_npz
from backends.device.runtimes import Option
from harness.cli.options import AcceptLicence, DataDir, Device, Into, Limit, Only, Settings, SuiteFile, examples
from harness.console import console
from harness.shipped import about_suite

if TYPE_CHECKING:
    from backends.hosts import Target
    from harness.plan.steps import ArtifactStep, PatchStep, VictimStep
    from harness.run.stages import Work

    AnyStep = TypeVar("AnyStep", VictimStep, ArtifactStep, PatchStep)

PANEL = "Run one stage"
app = typer.Typer()


@app.command(rich_help_panel=PANEL, epilog=examples("patchbench train demo --into weights/"))
def train(
    suite: SuiteFile,
    into: Into,
    data: DataDir = None,
    only: Only = None,
    settings: Settings = None,
    limit: Limit = None,
) -> None:
    """Train a suite's victims or fetch their weights, and write each state dict to DIR/VICTIM.pt."""
    from harness.run import stages
    from harness.store import place

    with work_of(suite, data, settings, limit) as work:
        for step in _matching(work.plan.victims, only):
            path = into / f"{step.name}.pt"
            place(stages.victim(work, step).weights, path)
            print_path(path)


@app.command(
    rich_help_panel=PANEL,
    epilog=examples("patchbench export demo --only '*tflite*' --into models/"),
)
def export(
    suite: SuiteFile,
    into: Into,
    data: DataDir = None,
    only: Only = None,
    settings: Settings = None,
    limit: Limit = None,
) -> None:
    """Export a suite's victims to DIR/ARTIFACT.FORMAT, each with a description, DIR/ARTIFACT.json."""
    from harness.run import stages

    with work_of(suite, data, settings, limit) as work:
        for step in _matching((*work.plan.artifacts, *work.plan.left_out), only):
            print_path(stages.place_artifact(work, step, into))


@app.command(
    rich_help_panel=PANEL,
    epilog=examples("patchbench craft demo --only 'gap*c3*' --into patches/"),
)
def craft(
    suite: SuiteFile,
    into: Into,
    data: DataDir = None,
    only: Only = None,
    settings: Settings = None,
    limit: Limit = None,
    device: Device = "cpu",
) -> None:
    """Craft a suite's patches and controls: DIR/PATCH.npz, with a preview, DIR/PATCH.png.

    A query attack (surrogate `device:ARTIFACT:TARGET`) sends the target 10000 images unless its option `queries` says
    otherwise: seconds on this machine, five minutes or more on an emulated CPU. The answers are cached.
    """
    from harness.run import crafting

    with work_of(suite, data, settings, limit, device) as work:
        for step in _matching(work.plan.patches, only):
            print_path(crafting.place_patch(work, step, into))


@app.command(
    rich_help_panel=PANEL,
    epilog=examples(
        "patchbench bundle demo --artifact models/cnn-onnx-s8s8-minmax.json "
        "--patch patches/noise-s0-10px.npz --into bundle/"
    ),
)
def bundle(
    suite: SuiteFile,
    artifact: Annotated[Path, typer.Option(metavar="FILE", help="The .json that `export` wrote beside the model.")],
    into: Into,
    patch: Annotated[
        list[Path] | None, typer.Option(metavar="FILE", help="A .npz that `craft` wrote; repeatable.")
    ] = None,
    placement: Annotated[str, typer.Option(help="random, center, top-left, ..., or ROW,COLUMN.")] = "random",
    placement_seed: Annotated[int, typer.Option(help="Seed of the random placement.")] = 0,
    data: DataDir = None,
    settings: Settings = None,
    limit: Limit = None,
) -> None:
    """Pack an artifact, a suite's evaluation images, and patches into a bundle: a folder that a device can replay."""
    import numpy as np

    from backends.device.artifact import Artifact
    from backends.device.bundle import Stamps, write_bundle
    from harness.run import stages
    from patches.patch import Patch
    from patches.placement import stamps_for

    patch_files = patch or []
    _check_bundle(into, artifact, patch_files, placement)
    description = Artifact.read(artifact)
    patches = [Patch.read(path) for path in patch_files]
    names = sorted({one.name for one in patches})
    if len(names) < len(patches):
        raise UserError(f"--patch: expected patches of different names, got {len(patches)} named {', '.join(names)}")
    with work_of(suite, data, settings, limit) as work:
        step = next((one for one in work.plan.data if one.size == description.input_size), None)
        if step is None:
            sizes = ", ".join("x".join(map(str, one.size)) for one in work.plan.data)
            expected = "x".join(map(str, description.input_size))
            raise UserError(f"{artifact}: expects images of {expected}; the suite's are {sizes}")
        images = stages.images(work, step, "evaluate")
        ids = [str(image) for image in images.ids]
        cases: dict[str, Stamps | None] = {"none": None}
        for one in patches:
            cases[one.name] = stamps_for(one, placement, ids, step.size, placement_seed)
        model = artifact.parent / description.file
        written = write_bundle(into, description, model, np.array(images.pixels), cases)
    console().print(f"{into}: {len(written.cases)} cases of {written.n} images", highlight=False)


@app.command(
    rich_help_panel=PANEL,
    epilog=examples(
        "patchbench replay bundle/ --runtime litert --option kernels=builtin --into answers/",
        "patchbench replay bundle/ --runtime litert --host docker --arch aarch64 --into answers/",
    ),
)
def replay(
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="Folder that `bundle` wrote.")],
    runtime: Annotated[str, typer.Option(help="onnxruntime, litert, tflite_runtime, ..., or an installed plugin.")],
    into: Into,
    option: Annotated[
        list[str] | None, typer.Option(metavar="KEY=VALUE", help="Option of the runtime; repeatable.")
    ] = None,
    threads: Annotated[int, typer.Option(min=1, help="Threads of the runtime.")] = 1,
    batch: Annotated[int, typer.Option(min=1, help="Images in one inference.")] = 1,
    time_limit: Annotated[float, typer.Option(help="Seconds of silence after which a replay counts as hung.")] = 300.0,
    version: Annotated[str, typer.Option(help="Version of the runtime's package [default: the pinned one].")] = "",
    host: Annotated[str, typer.Option(help="local, docker, qemu, ssh, ...; see backends/hosts/.")] = "local",
    arch: Annotated[str, typer.Option(help="CPU architecture, such as aarch64 [default: this machine's].")] = "",
    cpu: Annotated[str, typer.Option(help="CPU model that the host emulates.")] = "",
    image: Annotated[str, typer.Option(help="Your own container image.")] = "",
    address: Annotated[str, typer.Option(help="SSH destination, such as pi@raspberrypi.")] = "",
    accept_licence: AcceptLicence = None,
) -> None:
    """Replay a bundle on a runtime, and write the logits of each case to DIR/CASE.npz.

    DIR/device.json records what was in force: the runtime, its version and kernels, and the machine.
    """
    from backends.hosts import Target

    target = Target(
        name=runtime, runtime=runtime, version=version, host=host, options=parse_options(option or []),
        threads=threads, batch=batch, time_limit=time_limit, arch=arch, cpu=cpu, image=image, address=address,
    )  # fmt: skip
    _replay(bundle, target, into)


def parse_options(pairs: Sequence[str]) -> Mapping[str, Option]:
    """Parse ``["kernels=builtin", "size=3"]`` into a runtime's options; JSON numbers and booleans stay so."""
    options: dict[str, Option] = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals or not name:
            raise UserError(f"--option {pair!r}: expected KEY=VALUE")
        try:
            value = parse_json(text, pair)
        except DamagedFile:
            value = text
        options[name] = value if isinstance(value, str | int | float | bool) else text
    return options


@contextmanager
def work_of(
    suite_file: Path, data_dir: Path | None, settings: Sequence[str] | None, limit: int | None, device: str = "cpu"
) -> Iterator[Work]:
    """Plan a suite, and hold its run directory, ``out/SUITE``, while a stage works in it."""
    from harness.config import Overrides, read_suite
    from harness.display import Display
    from harness.plan.plan import make
    from harness.run import stages
    from harness.run.run import data_folder, held
    from harness.store import Store

    suite = read_suite(suite_file, Overrides(tuple(settings or ()), limit))
    stages.check_device(device)
    folder = data_folder(suite, suite_file, data_dir)
    run_dir = Path("out") / suite.name
    with held(run_dir), about_suite(suite_file):
        display = Display(console())
        store = Store(run_dir / "store", display.warn)
        yield stages.Work(make(suite, folder, store.root), store, display, device)


def _matching(steps: Sequence[AnyStep], patterns: Sequence[str] | None) -> list[AnyStep]:
    """Return the steps whose name matches a pattern; all of them without a pattern."""
    if not patterns:
        return list(steps)
    chosen = [step for step in steps if any(fnmatchcase(step.name, pattern) for pattern in patterns)]
    if not chosen:
        names = ", ".join(step.name for step in steps)
        raise UserError(f"--only {', '.join(patterns)}: nothing matches; the suite has {names}")
    return chosen


def print_path(path: Path | str) -> None:
    """Print a path, or a command, on one line that can be copied."""
    console().print(str(path), soft_wrap=True, highlight=False)


def _check_bundle(into: Path, artifact_file: Path, patch_files: Sequence[Path], placement: str) -> None:
    from patches.placement import POSITIONS, check_placement

    check_placement(placement, (*POSITIONS, "best"))
    if into.exists():
        raise UserError(f"{into}: already exists; choose a new folder")
    if artifact_file.suffix != ".json":
        raise UserError(f"{artifact_file}: expected the .json that `patchbench export` wrote beside the model")
    for path in patch_files:
        if path.suffix != ".npz":
            raise UserError(f"{path}: expected the .npz that `patchbench craft` wrote beside the preview")


def _replay(root: Path, target: Target, into: Path) -> None:
    import numpy as np

    from backends.device.bundle import Bundle
    from backends.events import Progress
    from backends.hosts import availability, prepare, replay
    from harness.display import Display
    from harness.store import write_json

    n = Bundle.read(root).n
    if into.exists() and (not into.is_dir() or any(into.iterdir())):
        raise UserError(f"{into}: expected a new or empty folder, so that answers of two replays do not mix")
    if reason := availability(target):
        raise UserError(f"{target.runtime} on {target.host}: {reason}")
    into.mkdir(parents=True, exist_ok=True)
    out = console()
    display = Display(out)
    with display.preparing("prepare", f"{target.runtime} on {target.host}") as tell:
        prepare(target, tell)
    with display.doing("replay", f"{root} on {target.runtime}") as tick:

        def hear(event: object) -> None:
            if isinstance(event, Progress):
                tick(event.done, n, event.case)

        outcome = replay(target, root, into, on_event=hear)
    if outcome.files:  # a replay that failed as a whole leaves the folder empty, ready for the next try
        record = {"schema": 1, "info": outcome.info, "machine": outcome.machine, "errors": outcome.errors}
        write_json(into / "device.json", record)
    for name, file in outcome.files.items():
        logits = read_npz(file, {"logits": Expected((np.float32,), (n, None))})["logits"]
        out.print(f"{file}: {name}, logits {logits.shape}", soft_wrap=True, highlight=False)
    if outcome.errors:
        raise UserError("\n".join(f"case {case!r}: {error}" for case, error in outcome.errors.items()))

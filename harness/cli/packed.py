"""Commands for devices that are reached by files alone: ``pack`` and ``take``."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from backends.device.errors import UserError, did_you_mean
from harness.cli.options import DataDir, Into, Limit, Settings, SuiteFile, examples
from harness.cli.stages import PANEL, print_path, work_of
from harness.console import console

app = typer.Typer()


@app.command(rich_help_panel=PANEL, epilog=examples("patchbench pack suite.toml phone --into pack/"))
def pack(
    suite: SuiteFile,
    target: Annotated[str, typer.Argument(metavar="TARGET", help='A target of the suite with host = "packed".')],
    into: Into,
    data: DataDir = None,
    settings: Settings = None,
    limit: Limit = None,
) -> None:
    """Write what a target's networks get to DIR: models, raw inputs and a list, for a device without Python."""
    from harness.run import packing

    if into.exists():
        raise UserError(f"{into}: already exists; choose a new folder")
    with work_of(suite, data, settings, limit) as work:
        named = {one.name: one for one in work.plan.targets}
        if target not in named:
            raise UserError(f"{suite}: no target {target!r}; {did_you_mean(target, named)}")
        chosen = named[target]
        if not chosen.is_packed:
            raise UserError(f'{suite}: target {target!r} has host = "{chosen.host}"; expected host = "packed"')
        words = ["patchbench", "run", str(suite), *(["--data", str(data)] if data else [])]
        words += [word for one in settings or () for word in ("--set", one)]
        words += ["--limit", str(limit)] if limit else []
        run_dir = Path("out") / work.plan.suite.name
        found = packing.pack(work, chosen, into, run_dir, shlex.join(words))
    console().print(f"{into}: {len(found.cases)} cases for {target}", highlight=False)


@app.command(rich_help_panel=PANEL, epilog=examples("patchbench take pack/ answers/"))
def take(
    pack: Annotated[Path, typer.Argument(metavar="DIR", help="Folder that `pack` wrote.")],
    answers: Annotated[Path, typer.Argument(metavar="ANSWERS", help="Folder with what the device answered.")],
) -> None:
    """Check what a device answered to a pack, and keep it for the run that judges it, in the folder of `pack`."""
    from harness.display import Display
    from harness.results.run_directory import RUN
    from harness.run import packing
    from harness.run.run import held
    from harness.store import Store

    found = packing.read_pack(pack)
    run_dir = Path(found.run_dir)
    if not run_dir.is_dir():
        raise UserError(f"{run_dir}: no such run directory here; take answers in the folder where they were packed")
    with held(run_dir):
        packing.take(pack, found, answers, Store(run_dir / "store", Display(console()).warn))
        (run_dir / RUN).unlink(missing_ok=True)  # nobody shall take an older verdict for that of these answers
    console().print(f"{len(found.cases)} cases of {found.target} taken; judge them:", highlight=False)
    print_path(found.judged_by)

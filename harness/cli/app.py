"""The command line: every command, assembled."""

from __future__ import annotations

import traceback
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from backends.device.errors import UserError, did_you_mean
from harness.cli import board, finished, gate, init, inspect, packed, run, stages, suites, twin

ABOUT = """Does an adversarial patch that works in the lab still work on the device?

patchbench crafts patches on a surrogate, exports the victim to the files of devices, replays the patched images on real
integer runtimes, and counts how often each patch succeeds.

**Start with** `patchbench run demo`; `patchbench suites` lists what else ships."""


class Commands(TyperGroup):
    """The group of all commands; code that a command loads cannot end it as if it were done."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Find a command by its name; an unknown one is a `UserError` with the nearest."""
        name = args[0]
        if not name.startswith("-") and not ctx.resilient_parsing and self.get_command(ctx, name) is None:
            raise UserError(f"no command {name!r}; {did_you_mean(name, self.list_commands(ctx))}")
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        """Run a command; `sys.exit` in a user's module is a `UserError` that names the place."""
        try:
            return super().invoke(ctx)
        except SystemExit as end:
            raise UserError(f"{_origin(end)} called sys.exit({end.code!r}): a module must return or raise") from end
        except (EOFError, BrokenPipeError, KeyboardInterrupt) as error:  # typer would end as if a cell had failed
            raise RuntimeError(f"{type(error).__name__}: {error}") from error


app = typer.Typer(
    name="patchbench",
    cls=Commands,
    help=ABOUT,
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
)
for group in (run, init, suites, inspect, twin, board, gate, finished, stages, packed):
    app.add_typer(group.app)


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"patchbench {version('patchbench')}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Take the options that stand before any command."""


def _origin(end: SystemExit) -> str:
    """Return the file and line that ended the program: the innermost outside of the standard library."""
    library = Path(traceback.__file__).parent
    for frame in reversed(traceback.extract_tb(end.__traceback__)):
        file = Path(frame.filename)
        if file.is_file() and (library not in file.parents or library / "site-packages" in file.parents):
            break
    return f"{file}, line {frame.lineno},"

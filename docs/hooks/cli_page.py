"""The page of the command line, written by typer from the commands themselves."""

import typer
from typer.cli import get_docs_for_click
from typer.main import get_command

from harness.cli.main import app

TITLE = "Command line"


def page() -> str:
    """Return every command with its arguments, options and examples, as Markdown."""
    command = get_command(app)
    context = typer.Context(command, info_name="patchbench")
    return get_docs_for_click(obj=command, ctx=context, name="patchbench", title=TITLE)

"""The page of the command line, written by typer from the commands themselves."""

import re

import typer
from typer.cli import get_docs_for_click
from typer.main import get_command

from harness.cli.app import app

TITLE = "Command line"


def page() -> str:
    """Return every command with its arguments, options and examples, as Markdown."""
    group = get_command(app)
    context = typer.Context(group, info_name="patchbench")
    text = get_docs_for_click(obj=group, ctx=context, name="patchbench", title=TITLE)
    for name, command in group.commands.items():
        about = (command.help or "").partition("\n\n")[0]
        line = f"* [`{name}`](#patchbench-{name}): {about}"
        text = re.sub(rf"^\* `{name}`: .*$", lambda _, line=line: line, text, count=1, flags=re.MULTILINE)
    return text

"""Pages beside the report, in its look: a template that extends ``page.html``, without a script."""

from __future__ import annotations

from pathlib import Path

import jinja2
from markupsafe import Markup

from harness.report.labels import p_value
from harness.report.svg import page_style
from harness.report.wording import percent

HERE = Path(__file__).parent


def environment(undefined: type[jinja2.Undefined] = jinja2.StrictUndefined) -> jinja2.Environment:
    """Return what renders the templates, with the filters that all pages use; all text is escaped."""
    made = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE / "templates"),
        autoescape=True,
        undefined=undefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {"percent": percent, "points": points, "p_value": p_value}
    return made


def render(template: str, **content: object) -> str:
    """Return the page that a template makes of its content."""
    return environment().get_template(template).render(style=Markup(page_style()), **content)


def points(change: float) -> str:
    """Format a change of a fraction in points, with its sign."""
    return f"{round(100 * change, 1) + 0.0:+.1f}"

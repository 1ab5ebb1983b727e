"""Pages beside the report, in its look: a template that extends ``page.html``, without a script."""

from __future__ import annotations

from pathlib import Path

import jinja2
from markupsafe import Markup

from harness.report.headline import percent
from harness.report.labels import p_value
from harness.report.svg import page_style

HERE = Path(__file__).parent


def render(template: str, **content: object) -> str:
    """Return the page that a template makes of its content; all text is escaped."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"percent": percent, "points": points, "p_value": p_value}
    style = Markup(page_style())
    return environment.get_template(template).render(style=style, **content)


def points(change: float) -> str:
    """Format a change of a fraction in points, with its sign."""
    return f"{round(100 * change, 1) + 0.0:+.1f}"

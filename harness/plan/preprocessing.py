"""The preprocessing that a suite declares for a file of the user's, against what the file's input holds."""

from __future__ import annotations

from backends.device.artifact import Preproc
from exporters.files import describe
from exporters.files.image_input import layout_or_default
from exporters.files.input_range import misfit
from harness.plan.steps import ArtifactStep


def input_doubt(step: ArtifactStep) -> str:
    """Say that an artifact's preprocessing does not fit its input, and what would; empty for files exported here."""
    table = step.brought
    if table is None:
        return ""
    file = describe(step.victim.brought_file())
    layout = layout_or_default(file, table.layout)
    return misfit(file, Preproc(layout, table.divisor, table.mean, table.std, table.channel_order))

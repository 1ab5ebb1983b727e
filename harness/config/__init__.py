"""A suite's keys: one pydantic model per TOML table, each key documented where it is declared.

The reference of suite keys in the documentation is generated from these models.
"""

from harness.config.attacks import AttackTable, ControlsTable, PoseTable
from harness.config.data import DataTable
from harness.config.exports import ExportTable, QatTable
from harness.config.overrides import Overrides
from harness.config.study import ANALYSES, Analysis, StudyTable
from harness.config.suite import Suite, read_suite
from harness.config.targets import LatencyTable, TargetTable
from harness.config.values import Defence, Name, Precision, Size, Triple
from harness.config.victims import ArtifactTable, TrainTable, VictimTable

__all__ = [
    "ANALYSES",
    "Analysis",
    "ArtifactTable",
    "AttackTable",
    "ControlsTable",
    "DataTable",
    "Defence",
    "ExportTable",
    "LatencyTable",
    "Name",
    "Overrides",
    "PoseTable",
    "Precision",
    "QatTable",
    "Size",
    "StudyTable",
    "Suite",
    "TargetTable",
    "TrainTable",
    "Triple",
    "VictimTable",
    "read_suite",
]

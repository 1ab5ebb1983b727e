"""Target classes as a suite names them, and the labels that they are."""

from __future__ import annotations

from collections.abc import Sequence

from backends.device.errors import UserError, did_you_mean
from harness import config
from harness.plan.steps import VictimStep

Classes = Sequence[int | None]  # target classes; None is an untargeted attack


def target_labels(table: config.AttackTable, names: Sequence[str]) -> Classes:
    """Return the labels of an attack's target classes; ``names`` are the data's. An unknown name is a `UserError`."""
    if table.target_classes is None:
        return (None,)
    return [word if isinstance(word, int) else _label(table, word, names) for word in table.target_classes]


def check_label(attack: str, label: int | None, network: VictimStep, names: Sequence[str]) -> None:
    """Raise a `UserError` unless a target class is one of a network's."""
    classes = network.table.classes or len(names)
    if label is not None and label >= classes:
        raise UserError(
            f"attack {attack!r}: target class {label} is none of the {classes} classes of {network.name!r}, "
            f"0 to {classes - 1}"
        )


def check_classes(network: VictimStep, names: Sequence[str]) -> None:
    """Raise a `UserError` for a network with fewer classes than the data."""
    classes = network.table.classes
    if classes and classes < len(names):
        raise UserError(
            f"{network.name!r}: has classes = {classes}, and the data {len(names)}: the labels from {classes} on would "
            "never be right"
        )


def _label(table: config.AttackTable, word: str, names: Sequence[str]) -> int:
    labels = [label for label, name in enumerate(names) if name == word]
    if not labels:
        raise UserError(f"attack {table.name!r}: no class named {word!r}; {did_you_mean(word, names)}")
    if len(labels) > 1:
        several = " and ".join(map(str, labels))
        raise UserError(f"attack {table.name!r}: the classes {several} are both named {word!r}: give one's number")
    return labels[0]

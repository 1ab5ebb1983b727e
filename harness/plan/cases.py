"""List the cases that a victim's artifacts see: clean images, an attack's patches, and their controls."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import NamedTuple

from backends.device.errors import UserError
from harness import config
from harness.plan.cells import Case
from harness.plan.classes import Classes, check_label, target_labels
from harness.plan.outlines import Outline, outlines, picture
from harness.plan.steps import ArtifactStep, PatchStep, VictimStep
from harness.plan.surrogates import Resolver
from harness.tables import matches
from patches import attacks, placement
from patches.attacks import IMPORTED, Options
from patches.patch import CONTROLS, Pose
from patches.surrogate import EXACT
from patches.surrogates import IN_FLOAT32


class JudgedCase(NamedTuple):
    """A case, the target class that it is judged against (-1: none), and the control that it stands in as."""

    case: Case
    target_class: int = -1
    control: str = ""


@dataclass(frozen=True)
class Offer:
    """What a suite offers its attacks: names of classes, victims, and the artifacts of all of them."""

    suite: config.Suite
    class_names: Sequence[str]
    victims: Sequence[VictimStep]
    artifacts: Sequence[ArtifactStep]

    def cases(self, victim: VictimStep) -> Iterator[JudgedCase]:
        """Yield the cases that a victim's artifacts see, clean ones first."""
        for defence in dict.fromkeys(["", *self.suite.defence]):  # the undefended accuracy is needed in any case
            yield JudgedCase(Case(victim.data, "evaluate", defence=defence))
        if self.suite.data.sanity:
            yield JudgedCase(Case(victim.data, "all"))
        for table in self.suite.attack:
            if matches(victim.name, table.victims):
                _check_table(self.suite, table)
                for label in target_labels(table, self.class_names):
                    check_label(table.name, label, victim, self.class_names)
                for outline in outlines(table, victim):
                    for place in table.placement:
                        yield from self._patched(table, victim, outline, place)

    def _patched(
        self, table: config.AttackTable, victim: VictimStep, outline: Outline, place: str
    ) -> Iterator[JudgedCase]:
        classes = target_labels(table, self.class_names)
        pose = Pose(**table.pose.model_dump())
        placement.check_place(place, outline.px, victim.data.size, pose)
        crafted = list(self._crafted(table, victim, outline, place))
        controls = _controls(self.suite, victim, outline, classes)
        owners = crafted if place == "best" else [None]  # a control takes the place that each patch chose
        for patch, at in [*((patch, None) for patch in crafted), *product(controls, owners)]:
            others = _next_classes(classes, patch, self.suite.controls.other_class)
            for target_class, defence in product(classes, self.suite.defence):
                seed = table.placement_seed
                case = Case(victim.data, "evaluate", patch, outline.px, place, seed, at, pose, defence)
                if all(p.target_class in (None, target_class) for p in (patch, at or patch)):
                    yield JudgedCase(case, -1 if target_class is None else target_class)
                elif at is None and target_class in others:
                    yield JudgedCase(case, target_class, "other_class")

    def _crafted(
        self, table: config.AttackTable, victim: VictimStep, outline: Outline, place: str
    ) -> Iterator[PatchStep]:
        """Yield an attack's patches, each of the input size of the network that it is crafted on."""
        if attacks.is_control(table.name):
            return
        classes = target_labels(table, self.class_names)
        patch = PatchStep(
            attack=table.name,
            surrogate=None,
            target_class=None,
            seed=0,
            px=outline.px,
            shape=outline.shape,
            data=victim.data,
            options=table.options,
            label=table.label or table.name + ("-each" if table.per_image else ""),
            file=picture(table, victim),
            twin_equal=table.twin_equal,
            fill=outline.fill,
        )
        if table.name == IMPORTED:
            yield from (replace(patch, target_class=target_class) for target_class in classes)
            return
        if table.per_image or table.place_known or place == "best":
            seed = table.placement_seed if place == "random" else 0
            patch = replace(patch, per_image=table.per_image, placement=place, placement_seed=seed)
        targets = [target.target() for target in self.suite.target]
        resolver = Resolver(table.name, self.victims, self.artifacts, targets)
        for words in table.surrogate:
            surrogates = [resolver.resolve(replace(words, defence=defence), victim) for defence in table.defence]
            source = surrogates[0].victim
            _check_place(patch, victim, source)
            px = round(outline.px * math.sqrt(math.prod(source.data.size) / math.prod(victim.data.size)))
            placement.check_place("best", px, source.data.size, _expected_pose(table))
            for target_class, seed, surrogate in product(classes, table.seeds, surrogates):
                check_label(table.name, target_class, surrogate.victim, self.class_names)
                yield replace(patch, surrogate=surrogate, target_class=target_class, seed=seed, px=px, data=source.data)


def _check_table(suite: config.Suite, table: config.AttackTable) -> None:
    """Raise a `UserError` for an attack, a label, options or places that do not exist or do not fit each other."""
    if table.label in CONTROLS:
        raise UserError(f"attack {table.name!r}: label {table.label!r} is the name of a control; choose another")
    attacks.check_attack(table.name)
    if table.name == IMPORTED and any(table.defence):
        raise UserError(f"attack {table.name!r}: an imported patch expects no defence: leave defence out")
    options = attacks.options(table.name, table.options)
    attacks.check_per_image(table.name, table.per_image)
    members = [member for words in table.surrogate for member in words.members or (words,)]
    exact = [member for member in members if member.kind in EXACT]
    if exact and options.get("bfloat16"):
        raise UserError(f"attack {table.name!r}, option 'bfloat16', surrogate {str(exact[0])!r}: {IN_FLOAT32}")
    if table.name in attacks.QUERY_ATTACKS:
        _check_queries(table.name, options, suite.data.evaluate if table.per_image else options["batch"])
    for word in table.placement:
        placement.check_placement(word, (*placement.POSITIONS, "best"))
        if word == "best":
            attacks.check_best(table.name, table.per_image)
    if table.place_known and not table.per_image and set(table.placement) <= {"random", "best"}:
        raise UserError(f"attack {table.name!r}: place_known = true needs a fixed placement, such as center")


def _check_queries(attack: str, options: Options, images: int) -> None:
    """Raise a `UserError` unless a search can ask each of its images twice: for its start, and for one change."""
    if options["queries"] < 2 * images:
        raise UserError(
            f"attack {attack!r}, option 'queries': expected at least {2 * images}, two for each of {images} images, "
            f"got {options['queries']}"
        )


def _expected_pose(table: config.AttackTable) -> Pose:
    """Return the poses that the options of an attack of ours expect."""
    is_ours = attacks.needs_gradients(table.name)
    return Pose(**{name: value for name, value in table.options.items() if is_ours and name in Pose._fields})


def _check_place(patch: PatchStep, victim: VictimStep, source: VictimStep) -> None:
    if "," in patch.placement and source.data.size != victim.data.size:
        raise UserError(
            f"attack {patch.attack!r}: placement {patch.placement!r} is a place in images of {victim.name!r}, but the "
            f"patch is crafted on images of {source.name!r}, which have another size; give a word, such as center"
        )


def _controls(suite: config.Suite, victim: VictimStep, outline: Outline, classes: Classes) -> list[PatchStep]:
    """Return the controls of an outline: grey and noise for all classes, stickers for each."""
    wanted: list[tuple[str, int | None, int]] = [("grey", None, seed) for seed in range(suite.controls.grey)]
    wanted += [("noise", None, seed) for seed in range(suite.controls.noise)]
    wanted += [("sticker", target_class, seed) for target_class in classes for seed in range(suite.controls.sticker)]
    return [
        PatchStep(
            attack=name,
            surrogate=None,
            target_class=target_class,
            seed=seed,
            px=outline.px,
            shape=outline.shape,
            data=victim.data,
            file=outline.file,
            fill=outline.fill,
        )
        for name, target_class, seed in wanted
    ]


def _next_classes(classes: Classes, patch: PatchStep, n: int) -> list[int]:
    """Return the classes for which a patch is one of another class: the `n` that follow its own in the suite."""
    if patch.target_class is None or patch.attack == "sticker":
        return []
    own = classes.index(patch.target_class)
    return [c for c in (*classes[own + 1 :], *classes[:own]) if c is not None][:n]

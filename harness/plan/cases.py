"""The cases of an attack's table: its patches and their controls, and where they lie."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import NamedTuple

from backends.device.errors import UserError
from backends.hosts import Target
from harness import config
from harness.plan.cells import Case
from harness.plan.steps import ArtifactStep, PatchStep, VictimStep
from harness.plan.surrogates import asked_target, named
from harness.tables import matches
from patches.patch import CONTROLS, Pose


def cases(
    suite: config.Suite, victim: VictimStep, victims: Sequence[VictimStep], artifacts: Sequence[ArtifactStep]
) -> Iterator[tuple[Case, int, str]]:
    """The stacks that a victim's artifacts see, each with a target class to be judged against, and as which control."""
    from patches import attacks
    from patches import placement as places

    for defence in dict.fromkeys(["", *suite.defence]):  # undefended in any case: what the network itself can do
        yield Case(victim.data, "evaluate", defence=defence), -1, ""
    if suite.data.sanity:
        yield Case(victim.data, "all"), -1, ""
    for table in suite.attack:
        if not matches(victim.name, table.victims):
            continue
        if table.label in CONTROLS:
            raise UserError(f"attack {table.name!r}: label {table.label!r} is the name of a control; give another")
        attacks.check_name(table.name)
        _check_options(suite, table)
        for word in table.placement:
            places.check_placement(word, (*places.POSITIONS, "best"))
        classes: Sequence[int | None] = table.target_classes or (None,)
        pose = Pose(**table.pose.model_dump())
        for size, cut, placement in product(_sizes(table), _cuts(table, victim), table.placement):
            px = _side(table, size, cut, victim)
            cut = _at_side(table, cut, px)
            attacked = list(_attacked(suite, table, victim, victims, artifacts, px, cut, placement))
            controls = list(_controls(suite, victim, px, cut, classes))
            for patch, at in [*((patch, None) for patch in attacked), *_at(controls, attacked, placement)]:
                for target_class, defence in product(classes, suite.defence):
                    case = Case(victim.data, "evaluate", patch, px, placement, table.placement_seed, at, pose, defence)
                    if all(p.target_class in (None, target_class) for p in (patch, at or patch)):
                        yield case, -1 if target_class is None else target_class, ""
                    elif at is None and target_class in _others(classes, patch, suite.controls.other_class):
                        yield case, target_class, "other_class"


def _check_options(suite: config.Suite, table: config.AttackTable) -> None:
    """A `UserError` for options that the attack does not have, cannot take, or not with its surrogates."""
    from patches import attacks
    from patches.surrogates import EXACT, IN_FLOAT32

    if table.name == attacks.IMPORTED and any(table.through):
        raise UserError(f"attack {table.name!r}: its patch is made already, through whatever it was: leave through out")
    filled = attacks.options(table.name, table.options)
    attacks.check_per_image(table.name, table.per_image)
    members = [one for word in table.surrogate for one in (word if isinstance(word, tuple) else (word,))]
    exact = [word for word in members if word.partition(":")[0] in EXACT]
    if exact and filled.get("bfloat16"):
        raise UserError(f"attack {table.name!r}, option 'bfloat16', surrogate {exact[0]!r}: {IN_FLOAT32}")
    least = suite.data.evaluate if table.per_image else filled.get("batch", 1)
    if table.name in attacks.QUERY_ATTACKS and filled["queries"] < least:
        raise UserError(
            f"attack {table.name!r}, option 'queries': expected at least {least}, one for each "
            f"{'counted image' if table.per_image else 'image of a batch'}, got {filled['queries']}"
        )


def _attacked(
    suite: config.Suite,
    table: config.AttackTable,
    victim: VictimStep,
    victims: Sequence[VictimStep],
    artifacts: Sequence[ArtifactStep],
    px: int,
    cut: _Cut,
    placement: str,
) -> Iterator[PatchStep]:
    """The patches of an attack, each at the input size of the victim that it is made on; a control has none."""
    from patches.attacks import IMPORTED, is_control

    if is_control(table.name):
        return
    label = table.label or table.name + "-each" * table.per_image
    file = _picture(table, victim)
    if table.name == IMPORTED:
        for target_class in table.target_classes or (None,):
            yield PatchStep(
                table.name, None, "", target_class, 0, px, cut.shape, victim.data, table.options,
                label=label, file=file, fill=cut.fill,
            )  # fmt: skip
        return
    targets = [Target(**t.model_dump()) for t in suite.target]
    for surrogate in table.surrogate:
        target = asked_target(table.name, surrogate, artifacts, targets)
        if target and any(table.through):
            raise UserError(
                f"attack {table.name!r}: a target that is asked has no defence yet, and needs no stand-in: leave "
                "through out"
            )
        source, artifact, kind, words, members = named(table, surrogate, victim, victims, artifacts)
        made_px = round(px * math.sqrt(math.prod(source.data.size) / math.prod(victim.data.size)))
        known = table.per_image or table.place_known or placement == "best"
        if known and "," in placement and source.data.size != victim.data.size:
            raise UserError(
                f"attack {table.name!r}: placement {placement!r} is a place in images of {victim.name!r}, and the "
                f"patch is made on those of {source.name!r}, of another size; give a word, such as center"
            )
        for target_class, seed, through in product(table.target_classes or (None,), table.seeds, table.through):
            yield PatchStep(
                table.name, source, kind, target_class, seed, made_px, cut.shape, source.data, table.options,
                artifact=artifact, members=members, per_image=table.per_image,
                placement=placement if known else "",
                placement_seed=table.placement_seed if known and placement == "random" else 0,
                through=through, label=label, file=file, target=target, words=words, fill=cut.fill,
            )  # fmt: skip


def _at(
    controls: Sequence[PatchStep], attacked: Sequence[PatchStep], placement: str
) -> Iterator[tuple[PatchStep, PatchStep | None]]:
    """Controls, and in whose places each lies where those were an attack's choice: in every patch's."""
    yield from product(controls, attacked if placement == "best" else (None,))


def _others(classes: Sequence[int | None], patch: PatchStep, n: int) -> list[int]:
    """The classes for which an attack's patch is another class's: the `n` that follow its own in the suite."""
    if patch.target_class is None or patch.attack == "sticker":
        return []
    at = classes.index(patch.target_class)
    return [c for c in (*classes[at + 1 :], *classes[:at]) if c is not None][:n]


def _picture(table: config.AttackTable, victim: VictimStep) -> Path | None:
    """The file that an attack's options name, an imported patch or a disguise; one not there is a `UserError`."""
    from patches.attacks import IMPORTED

    name = str(table.options.get("file" if table.name == IMPORTED else "disguise", ""))
    file = (victim.data_dir or Path()) / name
    if table.name != IMPORTED and name in ("", "grey"):
        return None
    if not name:
        raise UserError(f'attack {IMPORTED!r}: give its file under --data, options = {{ file = "patches/theirs.png" }}')
    if not file.is_file():
        raise UserError(
            f"attack {table.name!r}: expected the option {'file' if table.name == IMPORTED else 'disguise'} to name a "
            f"picture under --data, found no file {file}"
        )
    return file


def _controls(
    suite: config.Suite,
    victim: VictimStep,
    px: int,
    cut: _Cut,
    classes: Sequence[int | None],
) -> Iterator[PatchStep]:
    for name, draws in (("grey", suite.controls.grey), ("noise", suite.controls.noise)):
        for seed in range(draws):
            yield PatchStep(name, None, "", None, seed, px, cut.shape, victim.data, file=cut.file, fill=cut.fill)
    for target_class, seed in product(classes, range(suite.controls.sticker)):
        yield PatchStep(
            "sticker", None, "", target_class, seed, px, cut.shape, victim.data, file=cut.file, fill=cut.fill
        )


def _sizes(table: config.AttackTable) -> tuple[float, ...]:
    if (table.area is None) == (table.pixels is None):
        raise UserError(
            f"attack {table.name!r}: give either area (a share of the image's) or pixels (the patch's side)"
        )
    return table.area or table.pixels or ()


class _Cut(NamedTuple):
    """What a patch covers of the square around it: a shape, its share, and the file whose mask it is, if any."""

    shape: str
    fill: float
    file: Path | None = None


def _cuts(table: config.AttackTable, victim: VictimStep) -> list[_Cut]:
    """The shapes of an attack's patches, or that of the file that is its patch."""
    from patches.attacks import IMPORTED
    from patches.attacks.imported import cutout

    fills = {"square": 1.0, "round": math.pi / 4}
    if table.name != IMPORTED:
        return [_Cut(shape, fills[shape]) for shape in table.shape]
    if "shape" in table.model_fields_set:
        raise UserError(f"attack {table.name!r}: the shape of a patch is its file's own; leave shape out")
    file = _picture(table, victim)
    assert file is not None
    shape, mask = cutout(file)
    return [_Cut(shape, fills[shape]) if shape in fills else _Cut(shape, float(mask.mean()), file)]


def _at_side(table: config.AttackTable, cut: _Cut, px: int) -> _Cut:
    """The cut as it is at a side in pixels; a file's mask that covers none there is a `UserError`."""
    from patches.attacks.imported import cutout
    from patches.placement import resize_mask

    if cut.file is None:
        return cut
    if not (fill := float(resize_mask(cutout(cut.file).mask, px).mean())):
        raise UserError(f"attack {table.name!r}: at {px} pixels nothing is left of the mask of {cut.file}")
    return cut._replace(fill=fill)


def _side(table: config.AttackTable, size: float, cut: _Cut, victim: VictimStep) -> int:
    from patches.placement import side

    if table.pixels:
        return int(size)
    return side(size / cut.fill, victim.data.size) if cut.file else side(size, victim.data.size, cut.shape)

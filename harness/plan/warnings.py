"""Warn of what a plan does but its author hardly meant: a line each, before any work."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from harness.plan.described import input_doubt
from harness.plan.plan import Plan
from patches import attacks

FEW_IMAGES = 32  # to set ranges by, or to make a patch for all images on
FEW_QUERIES = 100  # of one image, or of one batch; Croce et al. 2022 ask 10,000


def warnings(plan: Plan) -> Iterator[str]:
    """Yield a line for each doubt about a plan."""
    for artifact in plan.left_out:
        yield f"no target runs {artifact.name}: left out"
    yield from _idle_targets(plan)
    yield from _misfits(plan)
    yield from _few_images(plan)
    yield from _few_queries(plan)
    yield from _other_classes(plan)
    yield from _averaged(plan)
    yield from _defences(plan)


def _idle_targets(plan: Plan) -> Iterator[str]:
    busy = {replay.target.name for replay in plan.replays}
    for target in plan.targets:
        if target.name not in busy:
            yield f"target {target.name!r} runs none of the suite's files: left out"


def _misfits(plan: Plan) -> Iterator[str]:
    for artifact in plan.artifacts:
        if doubt := input_doubt(artifact):
            yield f"artifact {artifact.name!r}: {doubt}"


def _few_images(plan: Plan) -> Iterator[str]:
    data = plan.suite.data
    if data.calibration < FEW_IMAGES and any(artifact.quant for artifact in plan.artifacts):
        yield f"data.calibration = {data.calibration}: ranges set by fewer than {FEW_IMAGES} images are those of chance"
    universal = any(patch.surrogate and not patch.per_image for patch in plan.patches)
    if data.craft < FEW_IMAGES and universal:
        yield f"data.craft = {data.craft}: a patch made on fewer than {FEW_IMAGES} images is made for those alone"


def _few_queries(plan: Plan) -> Iterator[str]:
    for table in plan.suite.attack:
        if table.name in attacks.QUERY_ATTACKS:
            options = attacks.options(table.name, table.options)
            each = options["queries"] // (plan.suite.data.evaluate if table.per_image else options["batch"])
            if each < FEW_QUERIES:
                yield f"attack {table.name!r}, option 'queries': {each} for each image are few; searches take thousands"


def _other_classes(plan: Plan) -> Iterator[str]:
    wanted = plan.suite.controls.other_class
    targeted = [len(table.target_classes) for table in plan.suite.attack if table.target_classes]
    if wanted and wanted >= max(targeted, default=0):
        yield f"controls.other_class = {wanted}: needs an attack with at least {wanted + 1} target_classes"


def _averaged(plan: Plan) -> Iterator[str]:
    """Yield the attacks whose patches differ in their options and share a name, and so an average."""
    options: dict[tuple[object, ...], set[str]] = defaultdict(set)
    for cell in plan.cells:
        case = cell.replay.case
        patch = case.patch
        if patch and patch.surrogate and not cell.control:
            place = (cell.replay.artifact.name, cell.replay.target.name, case.px, case.place, case.defence)
            made = (patch.label, str(patch.surrogate.words), patch.shape, cell.target_class)
            options[*made, *place].add(str(sorted(patch.options.items())))
    averaged = {str(key[0]) for key, several in options.items() if len(several) > 1}
    for name in sorted(averaged):
        yield f"attack {name!r}: tables with other options share this name and are averaged: give each a label"


def _defences(plan: Plan) -> Iterator[str]:
    """Yield the defences that no patch expects, and those that patches expect and never meet."""
    expected = {patch.surrogate.words.defence for patch in plan.patches if patch.surrogate}
    for word in plan.suite.defence:
        if word and expected and word not in expected:
            yield f"defence {word!r}: no attack expects it, and its worth stays unknown: name it in an [[attack]] too"
    for word in sorted(expected - {"", *plan.suite.defence}):
        yield f"attack defence {word!r}: its patches never meet it: name it in the suite's defence too"

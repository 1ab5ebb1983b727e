"""Why baseline and run, or two of their cells, cannot be compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from harness.gate.causes import same_file, short_hash
from harness.results.frozen import Frozen, Stack
from harness.results.outcomes import ABSENT
from patches.surrogate import Surrogate

Cells = Sequence[tuple[int, int]]  # (row in the baseline, row in the run)


def run_faults(base: Frozen, run: Frozen) -> list[str]:
    """Return why two runs cannot be compared at all: other images, other labels, or other pixels of clean images."""
    old, new = (dict(zip(f.outcomes.images.tolist(), f.outcomes.labels.tolist(), strict=True)) for f in (base, run))
    faults = _other_images(base, run)
    common = old.keys() & new.keys()
    if relabelled := [image for image in common if old[image] != new[image]]:
        faults.append(
            f"{len(relabelled)} of {len(common)} images are labelled differently (first: {min(relabelled)!r})"
        )
    return faults or _clean_pixel_faults(base, run)


def _other_images(base: Frozen, run: Frozen) -> list[str]:
    """Return why the run was judged on other images than the baseline, if it was."""
    old, new = (set(frozen.outcomes.images.tolist()) for frozen in (base, run))
    if old == new:
        return []
    first = min(old ^ new)
    counts = (
        f"{base.source} is about {len(old)} images, {run.source} about {len(new)}, {len(old & new)} of them shared "
        f"(the first that is not: {first!r})"
    )
    if old < new or new < old:
        cause = "data.evaluate was changed, or --limit given"
    else:
        cause = "data.seed or data.name was changed, or files were added or removed"
    return [f"{counts}: {cause}; set it back, or freeze a new baseline"]


def missing_or_failed(base: Frozen, run: Frozen, cells: Cells, missing: Sequence[str]) -> list[str]:
    """Return which cells of a group the run lacks, and which failed on either side."""
    faults = []
    if missing:
        more = f" and {len(missing) - 2} more" if len(missing) > 2 else ""
        faults.append(f"missing from {run.source}: {'; '.join(missing[:2])}{more}")
    for frozen, side in ((base, 0), (run, 1)):
        failed = [pair[side] for pair in cells if not frozen.outcomes.whole(pair[side])]
        if failed:
            faults.append(_failure(frozen, failed))
    return faults


def patch_faults(base: Frozen, run: Frozen, columns: Mapping[str, Any], cells: Cells) -> tuple[bool, list[str]]:
    """Return whether a group's patches were recrafted for other weights, and what is wrong with them."""
    if columns["attack"] == "none" or not cells:
        return False, []
    surrogate = replace(Surrogate.parse(columns["surrogate"]), defence="")
    source = (surrogate.of or columns["victim"]) if surrogate.kind == "float" else str(surrogate)
    faults = []
    weights_changed = False
    patches_changed = []
    for pair in cells:
        names = [f.outcomes.cell(row)["patch"] for f, row in zip((base, run), pair, strict=True)]
        weights = [_made_of(f, name, source) for f, name in zip((base, run), names, strict=True)]
        hashes = [f.patch(name).sha256 for f, name in zip((base, run), names, strict=True)]
        weights_changed = weights[0] != weights[1]
        patches_changed.append(hashes[0] != hashes[1])
        if patches_changed[-1] and not weights_changed:
            faults.append(
                f"patch {names[1]} changed (sha256 {short_hash(hashes[0])} to {short_hash(hashes[1])}) although the "
                f"weights of {source} did not: replay the baseline's patch"
            )
        elif weights_changed and not patches_changed[-1]:
            faults.append(
                f"the weights of {source} changed but patch {names[1]} is still the baseline's: on new weights it is "
                "only a transfer attack, which a more vulnerable network could pass; craft new patches"
            )
        elif not weights_changed and _pixels(base, pair[0]) != _pixels(run, pair[1]):
            defence = columns["defence"]
            reason = f", or {defence} transforms them differently" if defence else ""
            faults.append(f"images with patch {names[1]} have different pixels: its placement changed{reason}")
    anew = weights_changed and all(patches_changed)
    if anew and all(same_file(base, run, pair) for pair in cells):
        faults.append(
            f"the file is the baseline's, but the weights of {source}, which its patches are made on, changed, and a "
            f"weaker network makes weaker patches: make them on twin:{columns['artifact']}, or freeze a new baseline"
        )
    if anew and len(cells) < 2:
        faults.append("a single new patch says nothing about how patches vary: use at least two seeds or classes")
    return anew, list(dict.fromkeys(faults))


def cell_name(frozen: Frozen, row: int) -> str:
    """Return what messages call a cell: ``ARTIFACT on TARGET with PATCH``."""
    cell = frozen.outcomes.cell(row)
    name = f"{cell['artifact']} on {cell['target']}"
    return f"{name} with {cell['patch']}" if cell["patch"] else name


def _clean_pixel_faults(base: Frozen, run: Frozen) -> list[str]:
    old, new = ({stack: pixels for stack, pixels in f.pixels.items() if not stack.patch} for f in (base, run))
    for case in sorted(old.keys() & new.keys()):
        if old[case] != new[case]:
            size, defence = case.size, case.defence
            reason = f"{defence} transforms them" if defence else "they were read or resized"
            return [f"clean images of {size[0]}x{size[1]} have different pixels: {reason} differently"]
    return []


def _failure(frozen: Frozen, rows: list[int]) -> str:
    outcomes, row = frozen.outcomes, rows[0]
    failed = row if (outcomes.preds[row] < 0).any() else int(outcomes.clean[row])
    if failed < 0:
        return f"{frozen.source}: {cell_name(frozen, row)} has no clean cell to compare with"
    count = int((outcomes.preds[failed] < 0).sum())
    what = "has no record of" if (outcomes.preds[failed] == ABSENT).any() else "failed on"
    more = f" (and {len(rows) - 1} more cells)" if len(rows) > 1 else ""
    cell = outcomes.cell(failed)
    place = (cell["artifact"], cell["target"])
    errors = (e.message for e in frozen.facts.errors if (e.artifact, e.target) == place)
    message = next(errors, "")
    text = f"{frozen.source}: {cell_name(frozen, failed)} {what} {count} images{more}"
    return f"{text}: {message}" if message else text


def _made_of(frozen: Frozen, patch: str, source: str) -> str:
    """Return the hash of what a patch was crafted on; old baselines record it for victims only."""
    return frozen.patch(patch).made_of or frozen.victim(source).sha256


def _pixels(frozen: Frozen, row: int) -> str | None:
    cell = frozen.outcomes.cell(row)
    place, _, seed = str(cell["placement"]).partition("@")
    size = frozen.victim(cell["victim"]).input_size
    return frozen.pixels.get(Stack(size, cell["patch"], cell["patch_px"], place, int(seed or 0), cell["defence"]))

"""Which cell of the run answers which of the baseline, what changed between them, and what forbids comparing them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.results.baseline import Frozen
from harness.results.outcomes import ABSENT
from patches.patch import CONTROLS

# What a group of patches shares; beside victim, artifact and target, which say where it was replayed.
ATTACK = ("surrogate", "attack", "patch_px", "shape", "placement", "defence")
ROLE = ("victim", "format", "precision")  # by which a file with other settings stands in for one that is gone


@dataclass(frozen=True)
class Pair:
    """An attack (or none) on an artifact on a target, in baseline and run.

    ``cells`` are (row in the baseline, row in the run), a pair for each patch. ``anew`` says that the patches were
    crafted anew for other weights; ``changes`` say what else differs, ``faults`` why the two can't be compared.
    """

    columns: Mapping[str, Any]
    cells: tuple[tuple[int, int], ...]
    anew: bool
    changes: tuple[str, ...]
    faults: tuple[str, ...]

    @property
    def name(self) -> str:
        """What messages call it."""
        attack = "" if self.columns["attack"] == "none" else f", {self.columns['attack']}"
        if attack and self.columns["surrogate"] not in ("", "float"):
            attack += f" made on {self.columns['surrogate']}"
        if attack:
            attack += f" {self.columns['patch_px']} px {self.columns['placement']}"
        if self.columns["defence"]:
            attack += f", after {self.columns['defence']}"
        return f"{self.columns['artifact']} on {self.columns['target']}{attack}"


def pairs(base: Frozen, run: Frozen) -> list[Pair]:
    """A pair for each group of the baseline's cells, controls apart; faults of the whole are `unlike`'s."""
    stand_ins = _stand_ins(base, run)
    known = {key: i for i, key in enumerate(_keys(run, {}))}
    out = []
    for columns, rows in _groups(base):
        keys = _keys(base, stand_ins)
        cells = tuple((row, known[keys[row]]) for row in rows if keys[row] in known)
        faults = []
        if gone := [row for row in rows if keys[row] not in known]:
            text = "; ".join(_cell(base, row) for row in gone[:2]) + (f" and {len(gone) - 2} more" * (len(gone) > 2))
            faults.append(f"not in {run.source}: {text}")
        for frozen, side in ((base, 0), (run, 1)):
            bad = [pair[side] for pair in cells if not frozen.outcomes.whole(pair[side])]
            if bad:
                faults.append(_failed(frozen, bad))
        differ = changes(base, run, cells[0]) if cells else []
        anew, reasons = _patches(base, run, columns, cells)
        out.append(Pair(columns, cells, anew, tuple(differ), tuple(faults + reasons)))
    return out


def unlike(base: Frozen, run: Frozen) -> list[str]:
    """Why two runs can't be compared at all: other images, labels, or pixels of the clean images."""
    a, b = (dict(zip(f.outcomes.images.tolist(), f.outcomes.labels.tolist(), strict=True)) for f in (base, run))
    faults = []
    for missing, where, other in ((a.keys() - b.keys(), run, base), (b.keys() - a.keys(), base, run)):
        if missing:
            first = min(missing)
            faults.append(f"{len(missing)} images of {other.source} are not in {where.source}, the first {first!r}")
    if relabelled := [image for image in a.keys() & b.keys() if a[image] != b[image]]:
        faults.append(f"{len(relabelled)} images have another label, the first {min(relabelled)!r}")
    mine, theirs = ({_case(c): _seen(c) for c in f.facts["cases"] if not c["patch"]} for f in (run, base))
    for case in sorted(mine.keys() & theirs.keys()):
        if mine[case] != theirs[case] and not faults:
            size, defence = case[0], case[-1]
            what = f"{defence} makes other pixels of them" if defence else "read or resized otherwise"
            faults.append(f"the clean images of {size[0]}x{size[1]} have other pixels: {what}")
    return faults


def environment_changes(base: Frozen, run: Frozen, target: str) -> list[str]:
    """What differs between the environments of a target: nothing means that predictions have to be the same."""
    before, after = (_environment(frozen.fact("targets", target)) for frozen in (base, run))
    found = [
        f"{name} {_short(before.get(name))} became {_short(after.get(name))}"
        for name in dict.fromkeys([*before, *after])
        if before.get(name) != after.get(name)
    ]
    old, new = (set(frozen.fact("targets", target).get("features", ())) for frozen in (base, run))
    for verb, names in (("lost", old - new), ("gained", new - old)):
        if names:
            more = f" and {len(names) - 5} more" if len(names) > 5 else ""
            found.append(f"CPU features {verb}: {', '.join(sorted(names)[:5])}{more}")
    return found


def same_file(base: Frozen, run: Frozen, pair: tuple[int, int]) -> bool:
    """Whether both cells ran the same artifact: the same bytes, in torch the same weights."""
    a, b = (f.outcomes.cells.iloc[row] for f, row in zip((base, run), pair, strict=True))
    files = [f.fact("artifacts", cell["artifact"]).get("sha256") for f, cell in ((base, a), (run, b))]
    weights = [f.fact("victims", cell["victim"]).get("sha256") for f, cell in ((base, a), (run, b))]
    return files[0] == files[1] if any(files) else weights[0] == weights[1]


def changes(base: Frozen, run: Frozen, pair: tuple[int, int]) -> list[str]:
    """What differs between two cells: weights, settings or bytes of the file, environment of the target."""
    a, b = (f.outcomes.cells.iloc[row] for f, row in zip((base, run), pair, strict=True))
    before, after = base.fact("artifacts", a["artifact"]), run.fact("artifacts", b["artifact"])
    victims = [f.fact("victims", a["victim"]).get("sha256") for f in (base, run)]
    found = (
        []
        if victims[0] == victims[1]
        else [f"weights of {a['victim']} {_short(victims[0])} became {_short(victims[1])}"]
    )
    old, new = (entry.get("quant") or {} for entry in (before, after))
    settings = [
        f"{name} {_short(old.get(name))} became {_short(new.get(name))}"
        for name in dict.fromkeys([*old, *new])
        if old.get(name) != new.get(name)
    ]
    found += settings
    if before.get("sha256") != after.get("sha256") and not found:
        versions = [f.facts["versions"] for f in (base, run)]
        of = [f"{k} {versions[0][k]} became {v}" for k, v in versions[1].items() if versions[0].get(k, v) != v]
        found.append(f"the bytes of the file, though not its settings ({', '.join(of) or 'no version changed'})")
    return found + environment_changes(base, run, str(a["target"]))


def order(base: Frozen, run: Frozen) -> NDArray[np.int64]:
    """Where in the run each image of the baseline is."""
    at = {image: i for i, image in enumerate(run.outcomes.images)}
    return np.array([at[image] for image in base.outcomes.images], np.int64)


def _groups(frozen: Frozen) -> Iterator[tuple[dict[str, Any], list[int]]]:
    table = frozen.outcomes.cells
    made = table[~table["attack"].isin([c for c in CONTROLS if c != "none"])]
    for _, rows in made.groupby(["victim", "artifact", "target", *ATTACK], sort=False, dropna=False):
        yield dict(rows.iloc[0]), list(rows.index)


def _keys(frozen: Frozen, stand_ins: Mapping[str, str]) -> list[tuple[Any, ...]]:
    table = frozen.outcomes.cells
    columns = ["victim", "artifact", "target", *ATTACK, "target_class", "seed"]
    named = table.assign(artifact=[stand_ins.get(name, name) for name in table["artifact"]])
    return list(named[columns].itertuples(index=False, name=None))


def _stand_ins(base: Frozen, run: Frozen) -> dict[str, str]:
    """For an artifact that is gone the one new one of its victim, format and precision, where that is unmistakable."""
    tables = [f.outcomes.cells.drop_duplicates("artifact").set_index("artifact")[list(ROLE)] for f in (base, run)]
    gone, new = tables[0].drop(tables[1].index, errors="ignore"), tables[1].drop(tables[0].index, errors="ignore")
    out = {}
    for role, old in gone.groupby(list(ROLE)):
        candidates = new.index[(new == list(role)).all(axis=1)]
        if len(old) == len(candidates) == 1:
            out[str(old.index[0])] = str(candidates[0])
    return out


def _failed(frozen: Frozen, rows: list[int]) -> str:
    known, row = frozen.outcomes, rows[0]
    broken = row if (known.preds[row] < 0).any() else int(known.clean[row])
    if broken < 0:
        return f"{frozen.source}: {_cell(frozen, row)} has no clean cell to be judged by"
    bad = int((known.preds[broken] < 0).sum())
    what = "no record" if (known.preds[broken] == ABSENT).any() else "an error"
    more = f" (and {len(rows) - 1} more cells)" if len(rows) > 1 else ""
    cell = known.cells.iloc[broken]
    where = (cell["artifact"], cell["target"])
    said = next((e["message"] for e in frozen.facts["errors"] if (e["artifact"], e["target"]) == where), "")
    return f"{frozen.source}: {_cell(frozen, broken)} has {what} on {bad} images{more}" + (f": {said}" if said else "")


def _patches(
    base: Frozen, run: Frozen, columns: Mapping[str, Any], cells: tuple[tuple[int, int], ...]
) -> tuple[bool, list[str]]:
    """Whether the patches were crafted anew, and what is wrong with them."""
    if columns["attack"] == "none" or not cells:
        return False, []
    surrogate = str(columns["surrogate"]).partition(" through ")[0]
    source = columns["victim"] if surrogate == "float" else surrogate.removeprefix("float:")
    faults, changed = list[str](), list[bool]()
    weights: list[str | None] = [None, None]
    for pair in cells:
        names = [f.outcomes.cells["patch"].iloc[row] for f, row in zip((base, run), pair, strict=True)]
        weights = [_made_of(f, name, source) for f, name in zip((base, run), names, strict=True)]
        hashes = [f.fact("patches", name).get("sha256") for f, name in zip((base, run), names, strict=True)]
        changed.append(hashes[0] != hashes[1])
        if hashes[0] != hashes[1] and weights[0] == weights[1]:
            faults.append(
                f"patch {names[1]} has other bytes (sha256 {_short(hashes[0])} became {_short(hashes[1])}) while the "
                f"weights of {source} are the same: replay the baseline's"
            )
        elif hashes[0] == hashes[1] and weights[0] != weights[1]:
            faults.append(
                f"the weights of {source} changed and patch {names[1]} is still the baseline's: on other weights it is "
                "only a transfer attack and would pass a more vulnerable network; craft patches anew"
            )
        elif hashes[0] == hashes[1]:
            pixels = [_pixels(f, row) for f, row in zip((base, run), pair, strict=True)]
            if pixels[0] != pixels[1]:
                faults.append(
                    f"the images with patch {names[1]} on them have other pixels: another placement"
                    + f", or {columns['defence']} makes others of them" * bool(columns["defence"])
                )
    anew = weights[0] != weights[1] and all(changed)
    if anew and len(cells) < 2:
        faults.append("one patch crafted anew says nothing of how patches vary: two seeds or classes are the least")
    return anew, list(dict.fromkeys(faults))


def _made_of(frozen: Frozen, patch: str, source: str) -> str | None:
    """Hash of what a patch was made on; an old baseline says it of victims alone."""
    return frozen.fact("patches", patch).get("made_of") or frozen.fact("victims", source).get("sha256")


def _environment(target: Mapping[str, Any]) -> dict[str, Any]:
    machine, info = target.get("machine", {}), target.get("info", {})
    options = {f"option {name}": value for name, value in (target.get("options") or {}).items()}
    named = {f"{target.get('runtime', 'runtime')} {name}": value for name, value in info.items()}
    own = {name: target.get(name) for name in ("runtime", "host", "threads", "batch", "emulated")}
    return own | options | named | {"arch": machine.get("arch")}


def _pixels(frozen: Frozen, row: int) -> str | None:
    cell = frozen.outcomes.cells.iloc[row]
    place, _, seed = str(cell["placement"]).partition("@")
    size = tuple(frozen.fact("victims", cell["victim"]).get("input_size", ()))
    wanted = (size, cell["patch"], cell["patch_px"], place, int(seed or 0), cell["defence"])
    return next((_seen(c) for c in frozen.facts["cases"] if _case(c) == wanted), None)


def _case(case: Mapping[str, Any]) -> tuple[Any, ...]:
    own = (case[name] for name in ("patch", "patch_px", "placement", "placement_seed"))
    return tuple(case["size"]), *own, case.get("defence", "")


def _seen(case: Mapping[str, Any]) -> str:
    """Hash of the pixels that a network saw."""
    return str(case.get("defended_sha256") or case["pixels_sha256"])


def _cell(frozen: Frozen, row: int) -> str:
    cell = frozen.outcomes.cells.iloc[row]
    return f"{cell['artifact']} on {cell['target']}" + (f" with {cell['patch']}" if cell["patch"] else "")


def _short(value: Any) -> str:
    text = str(value)
    return text[:12] if len(text) == 64 else text

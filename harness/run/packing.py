"""Packs: what a network gets, as raw files for a device without Python or a connection, and its answers taken back.

The format is described in ``docs/pages/how-to/pack.md``. An answer has the CRC-32 of the input that it belongs to, so
that no order, number or file is believed.
"""

from __future__ import annotations

import json
import shutil
import zlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from backends.device.artifact import SCHEMA
from backends.device.bundle import Bundle, chunk_images
from backends.device.checksums import verify, write_sums
from backends.device.defences import defend, many_passes
from backends.device.errors import UserError
from backends.device.files import replacing
from backends.device.json_types import read_as
from backends.device.names import inside
from backends.device.reading import DamagedFile, regular_file
from backends.device.runtimes import Tensor, engine, prepare, real
from backends.hosts import Target
from harness.plan.cells import ReplayStep
from harness.run import crafting
from harness.run.stages import Work
from harness.store import Store, write_json

CRC_BYTES = 4
DEVICE = "device.txt"
TOLD = ("version", "arch", "cpu")  # what a device has to say of itself
LINES = 1000


@dataclass(frozen=True)
class PackedCase:
    """A replay, by its key in the store: the files of its inputs and answers, and what they hold."""

    key: str
    model: str
    inputs: str
    answers: str
    images: int
    input_bytes: int
    outputs: int
    dtype: str
    scale: float
    zero_point: int
    pixels_sha256: str

    @property
    def output_bytes(self) -> int:
        """Bytes of one image's outputs."""
        return self.outputs * np.dtype(self.dtype).itemsize


@dataclass(frozen=True)
class Pack:
    """``pack.json``: the target, the run directory whose store the answers belong to, and the command that judges."""

    target: str
    version: str
    run_dir: str
    judged_by: str
    cases: tuple[PackedCase, ...]


def pack(work: Work, target: Target, into: Path, run_dir: Path, judged_by: str) -> Pack:
    """Write the inputs of all replays on a target into a new folder."""
    steps = [step for step in work.plan.replays if step.target == target]
    parts: dict[tuple[str, str], list[ReplayStep]] = {}
    for step in steps:
        parts.setdefault((step.artifact.name, step.case.split), []).append(step)
    with replacing(into) as draft:
        draft.mkdir()
        cases = [case for todo in parts.values() for case in _part(work, target, todo, draft)]
        found = Pack(target.name, target.version, str(run_dir), judged_by, tuple(cases))
        (draft / "pack.json").write_text(json.dumps({"schema": SCHEMA} | asdict(found), indent=1) + "\n")
        lines = (f"{c.model} {c.inputs} {c.answers} {c.images} {c.input_bytes} {c.output_bytes}\n" for c in found.cases)
        (draft / "list.txt").write_text("".join(lines))
        write_sums(draft)
    return found


def _part(work: Work, target: Target, todo: list[ReplayStep], folder: Path) -> Iterator[PackedCase]:
    """Write one artifact's file, and the inputs of its cases of one split."""
    artifact, split = todo[0].artifact, todo[0].case.split
    bundle = Bundle.read(crafting.bundle(work, artifact, [step.case for step in todo]))
    model = f"{artifact.name}{bundle.file.suffix}"
    shutil.copyfile(bundle.file, folder / model)
    chosen = engine(target.runtime)
    if bundle.artifact.format not in chosen.formats:
        raise UserError(f"{model}: {target.runtime} runs {', '.join(chosen.formats)}, not {bundle.artifact.format}")
    runtime = chosen()
    runtime.load(bundle.file, target.options, 1)
    one = prepare(runtime.input, bundle.artifact.preproc(np.array(bundle.pixels[:1])), bundle.file)
    outputs = runtime.run(one).shape[1]
    out = runtime.output
    for step in todo:
        name = f"{artifact.name}.{split}.{step.case.name}"
        with work.display.doing("pack", name), (folder / f"{name}.in").open("wb") as stream:
            _write_inputs(bundle, step.case.name, runtime.input, stream)
        yield PackedCase(
            step.key, model, f"{name}.in", f"{name}.out", bundle.n, one.nbytes, outputs, out.dtype.name, out.scale,
            out.zero_point, bundle.case(step.case.name).sha256,
        )  # fmt: skip


def _write_inputs(bundle: Bundle, name: str, entry: Tensor, stream: BinaryIO) -> None:
    defence = bundle.case(name).defence
    if many_passes(defence):
        raise UserError(f"{defence}: the network's own answers decide what it sees next; files alone cannot carry that")
    for pixels in bundle.batches(name, chunk_images(bundle.pixels[0].nbytes)):
        seen = defend(defence, pixels) if defence else pixels
        stream.write(prepare(entry, bundle.artifact.preproc(seen), bundle.file).tobytes())


def read_pack(root: Path) -> Pack:
    """Read a pack whose files are as they were written; anything else is a `UserError`."""
    verify(root, "pack it again")
    return read_as(Pack, inside(root, "pack.json"), SCHEMA)


def take(root: Path, found: Pack, answers: Path, store: Store) -> None:
    """Check a device's answers against a pack, and keep all of them as a run's replays; or raise a `UserError`."""
    facts = _device(answers / DEVICE, found)
    ran = {"info": facts, "machine": {name: facts[name] for name in ("arch", "cpu")} | {"emulated": False}}
    raws = [_answers(root, case, answers) for case in found.cases]
    if any(store.has("replay", case.key) for case in found.cases):
        shutil.rmtree(store.root / "arithmetic", ignore_errors=True)  # what earlier answers were held against
    for case, raw in zip(found.cases, raws, strict=True):
        shutil.rmtree(store.path("replay", case.key), ignore_errors=True)
        arrays: dict[str, Any] = {"logits": real(Tensor((), raw.dtype, case.scale, case.zero_point), raw)}
        if raw.dtype != np.float32:
            arrays["integers"] = raw
        with store.writing("replay", case.key) as beside:
            np.savez(beside / "answers.npz", **arrays)
            write_json(beside / "ran.json", {**ran, "pixels_sha256": case.pixels_sha256})


def _answers(root: Path, case: PackedCase, folder: Path) -> NDArray[Any]:
    """Return a case's outputs ``(images, outputs)`` of the file's own type, each of the input in its place."""
    file = inside(folder, case.answers)
    record = CRC_BYTES + case.output_bytes
    size = regular_file(file, 2 * case.images * record)
    if size != case.images * record:
        raise DamagedFile(
            f"{file}: expected {case.images} answers of {record} bytes, got {size / record:g}: run the case again"
        )
    data = np.frombuffer(file.read_bytes(), np.uint8).reshape(case.images, record)
    told = data[:, :CRC_BYTES].copy().view("<u4")[:, 0]
    wanted = _checksums(inside(root, case.inputs), case)
    if len(wrong := np.flatnonzero(told != wanted)):
        where = np.flatnonzero(wanted == told[wrong[0]])
        whose = f"that of image {where[0]}" if len(where) else "of no image of this case"
        raise DamagedFile(f"{file}: answer {wrong[0]} is {whose}, by the CRC-32 of its input: run the case again")
    raw = data[:, CRC_BYTES:].copy().view(np.dtype(case.dtype).newbyteorder("<")).astype(case.dtype)
    if not np.isfinite(raw).all():
        raise DamagedFile(f"{file}: expected numbers, found NaN or infinity")
    return raw


def _checksums(file: Path, case: PackedCase) -> NDArray[np.uint32]:
    with file.open("rb") as stream:
        return np.array([zlib.crc32(stream.read(case.input_bytes)) for _ in range(case.images)], np.uint32)


def _device(file: Path, found: Pack) -> dict[str, str]:
    """Read what a device says of itself: lines of ``name = value``, among them those that results rest on."""
    if not file.is_file():
        raise UserError(f"{file}: no such file; expected what ran, in lines {_template()}")
    regular_file(file, 1 << 16)
    pairs = [line.partition("=") for line in file.read_text(errors="replace").splitlines()[:LINES] if line.strip()]
    facts = {name.strip(): value.strip() for name, _, value in pairs}
    if missing := [name for name in TOLD if not facts.get(name)]:
        raise UserError(f"{file}: says no {', '.join(missing)}; expected lines {_template()}")
    if found.version not in ("", facts["version"]):
        raise UserError(f"{file}: the suite asks {found.target} for version {found.version}, {facts['version']} ran")
    return facts


def _template() -> str:
    return ", ".join(f"'{name} = ...'" for name in TOLD)

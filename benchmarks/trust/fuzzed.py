"""What is fuzzed: the files of each kind, how they are changed, and all of ours that reads them."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import tomllib
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import models
import mutations
import numpy as np
import pandas as pd
import talks
from campaign import SUITE
from hypothesis import strategies as some
from mutations import Draw, either
from PIL import Image

from backends.conformance import networks
from backends.device.bundle import Bundle
from backends.device.replay import Request, replay

Files = dict[str, bytes]
RULES = {"schema": 1, "confidence": 0.99, "drift": "report",
         "compare": [{"metric": "targeted_success", "worse": "higher", "margin": 0.02, "where": {"target": "ort*"}}],
         "limit": [{"rule": "clean_accuracy >= 0.1", "confidence": 0.95, "where": {"precision": "w8a8"}}]}  # fmt: skip
SUMS = "SHA256SUMS"
SEALED = ("run.json", "summary.json", "baseline.json")
PICTURES = ("png", "jpg", "bmp", "gif", "webp", "tiff")


class Subject(NamedTuple):
    """Files, how hypothesis changes some of them, and what reads them; `often` is its share of the processes.

    `read` gets the folder that they lie in. Where `trusted`, the file's author may name files and programs to use.
    """

    name: str
    often: int
    files: Files
    change: Callable[[Draw, Files], Files]
    read: Callable[[Path], object]
    trusted: bool = False
    most: int = 1000  # cases in one process


def subjects(fixture: Path) -> list[Subject]:
    """Return everything that is fuzzed; `fixture` is the folder that `make_fixture` filled."""
    return [*_bundles(fixture), *_models(fixture), *_patches(fixture), *_runs(fixture), *_suites(fixture),
            *(Subject(*one) for one in talks.subjects(fixture))]  # fmt: skip


def files_of(folder: Path) -> Files:
    """Read a folder's files."""
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def changing(**ways: Callable[[Draw, bytes], bytes]) -> Callable[[Draw, Files], Files]:
    """Return a function that changes one file that has one of these suffixes."""

    def change(draw: Draw, files: Files) -> Files:
        suffixes = sorted({name.rpartition(".")[2] for name in files} & ways.keys())
        suffix = draw(some.sampled_from(suffixes))
        name = draw(some.sampled_from([name for name in files if name.endswith(f".{suffix}")]))
        return {name: ways[suffix](draw, files[name])}

    return change


def resealed(draw: Draw, files: Files, changed: Files) -> Files:
    """Write the hashes of changed files where the old ones' stood, most of the time, to reach what reads them next."""
    if either(draw, (9, False), (1, True)):
        return changed
    whole = dict(changed)
    for name in sorted(files, key=lambda name: (name == SUMS, name in SEALED)):
        text = whole.get(name, files[name])
        for other, data in whole.items():
            text = text.replace(mutations.sha256(files[other]), mutations.sha256(data)) if other != name else text
        if name in SEALED:
            text = _sealed(text)
        if text != files[name]:
            whole[name] = text
    return whole


def _sealed(content: bytes) -> bytes:
    """Give a JSON object that holds its own hash the right one."""
    try:
        document = json.loads(content)
        if "sha256" in document:
            del document["sha256"]
            text = json.dumps(document, sort_keys=True, separators=(",", ":"))
            document["sha256"] = hashlib.sha256(text.encode()).hexdigest()
            return json.dumps(document).encode()
    except (ValueError, TypeError, RecursionError):
        pass
    return content


def _bundles(fixture: Path) -> Iterator[Subject]:
    """Bundles: the fuzzer gives a changed one the right list of hashes, most of the time."""

    def read(folder: Path) -> object:
        bundle = Bundle.read(folder / "files")
        request = Request("dummy", tuple(case.name for case in bundle.cases), {})
        return replay(bundle, folder / "out", request, lambda *_, **__: None)

    files = files_of(fixture / "onnx")
    change = changing(json=mutations.json_text, npy=mutations.npy)
    yield Subject("bundle", 18, files, lambda draw, files: resealed(draw, files, change(draw, files)), read)
    if SUMS in files:
        listed = {SUMS: files[SUMS]}
        yield Subject("list of hashes", 2, files, lambda draw, _: {SUMS: _lines(draw, listed)}, read)


def _lines(draw: Draw, listed: Files) -> bytes:
    lines = listed[SUMS].decode().splitlines()
    at = draw(some.integers(0, len(lines) - 1))
    match either(draw, (2, "bytes"), (2, "name"), (1, "remove"), (1, "repeat"), (1, "order")):
        case "name":
            lines[at] = lines[at][:66] + draw(mutations.words)
        case "remove":
            del lines[at]
        case "repeat":
            lines.insert(at, lines[at])
        case "order":
            lines.reverse()
        case "bytes":
            return mutations.raw_bytes(draw, listed[SUMS])
    return "\n".join(lines).encode("utf-8", "surrogatepass") + b"\n"


def _models(fixture: Path) -> Iterator[Subject]:
    """Model files, as `inspect` and `twin` read them; weights, as a victim is loaded from them."""

    def read(folder: Path) -> object:
        from exporters.files import require_integer
        from patches.twins import twin

        file = next((folder / "files").iterdir())
        require_integer(file)
        return twin(file)

    def load(folder: Path) -> object:
        from harness.networks.architectures import build
        from harness.networks.weights import load_weights, read_weights

        file = folder / "files" / "weights.pt"
        return load_weights(build("resnet8", 10, 0), read_weights(file), file)

    onnx = next((fixture / "run" / "artifacts").glob("*.onnx")).read_bytes()
    trained = next((fixture / "run" / "store" / "victim").rglob("weights.pt")).read_bytes()
    yield Subject("model (ONNX)", 3, {"model.onnx": onnx}, changing(onnx=models.onnx), read)
    small = {"model.tflite": networks.file("tflite").read_bytes()}
    yield Subject("model (TFLite)", 6, small, changing(tflite=models.tflite), read)
    yield Subject("weights", 1, {"weights.pt": trained}, changing(pt=models.weights), load)


def _patches(fixture: Path) -> Iterator[Subject]:
    """Patches of ours, patches that somebody brings as npz or picture, and images of a data set."""

    def read(folder: Path) -> object:
        from patches.patch import Patch
        from patches.placement import stamps_for

        return stamps_for(Patch.read(folder / "files" / "patch.npz"), "random", ["a", "b"], (32, 32))

    def bring(folder: Path) -> object:
        from patches.attacks.imported import load_patch

        file = next((folder / "files").iterdir())
        return load_patch(file, name="brought", target_class=1, px=8, image_size=(32, 32))

    def load(folder: Path) -> object:
        from harness import config
        from harness.data import datasets

        spec = config.DataTable(name="npz", path="data.npz", calibration=1, craft=1, evaluate=1)
        return datasets.load(spec, (8, 8), folder / "files", folder / "out")

    def load_folder(folder: Path) -> object:
        from harness import config
        from harness.data import datasets

        spec = config.DataTable(name="folder", path="files", calibration=1, craft=1, evaluate=1)
        return datasets.load(spec, (8, 8), folder, folder / "out")

    ours = files_of(fixture / "patch")
    yield Subject("patch", 14, ours, changing(npz=mutations.npz), read)
    yield Subject(
        "brought patch (npz)", 4, {"brought.npz": _npz(pixels=_pixels()[0])}, changing(npz=mutations.npz), bring
    )
    picture = dict.fromkeys(PICTURES, mutations.raw_bytes) | {"png": mutations.png}
    for kind in PICTURES:
        often = 3 if kind == "png" else 1
        yield Subject(f"brought patch ({kind})", often, {f"brought.{kind}": _picture(kind)}, changing(**picture), bring)
    data = {"data.npz": _npz(x=_pixels(), y=np.arange(4))}
    yield Subject("images (npz)", 3, data, changing(npz=mutations.npz), load)
    images = {f"{which}/{i}.{kind}": _picture(kind) for which in "ab" for i, kind in enumerate(PICTURES)}
    yield Subject("images (pictures)", 2, images, changing(**picture), load_folder)


def _runs(fixture: Path) -> Iterator[Subject]:
    """Run directories and baselines, through the gate and the report; a changed one gets the right hashes."""

    def judge(folder: Path) -> object:
        return verdict(fixture / "frozen" / "baseline.json", folder / "files")

    def compare(folder: Path) -> object:
        from harness.results.baseline import patches_of

        file = folder / "files" / "baseline.json"
        return verdict(file, fixture / "run"), patches_of(file)

    def tabulate(folder: Path) -> object:
        from harness.report.terminal import table
        from harness.results.run_directory import read_summary

        return table(pd.DataFrame(read_summary(folder / "files").over_patches))

    def report(folder: Path) -> object:
        from harness.run.run import write_results

        return write_results(folder / "files")

    run = {name: data for name, data in files_of(fixture / "run").items() if not name.startswith(("store/", "."))}
    yield Subject("run.json", 3, run, partial(_change_run, "run.json"), judge)
    yield Subject("records.parquet", 2, run, partial(_change_run, "records.parquet"), judge)
    yield Subject("summary.json", 3, run, partial(_change_run, "summary.json"), tabulate)
    yield Subject("run.json, to the report", 1, run, partial(_change_run, "run.json"), report, most=20)
    frozen = files_of(fixture / "frozen")
    yield Subject("baseline", 6, frozen, _baseline, compare)


def _change_run(which: str, draw: Draw, files: Files) -> Files:
    change = _parquet if which.endswith(".parquet") else mutations.json_text
    return resealed(draw, files, {which: change(draw, files[which])})


def _parquet(draw: Draw, content: bytes) -> bytes:
    """Change a column of a table, or the bytes of its file."""
    if either(draw, (1, False), (1, True)):
        return mutations.raw_bytes(draw, content)
    table = pd.read_parquet(io.BytesIO(content))
    column = draw(some.sampled_from(list(table)))
    match either(draw, (2, "values"), (1, "remove"), (1, "rename"), (1, "rows")):
        case "values":
            table[column] = [
                draw(mutations.scalars.filter(lambda one: not isinstance(one, int) or one.bit_length() < 63))
            ] * len(table)
        case "remove":
            del table[column]
        case "rename":
            table = table.rename(columns={column: draw(some.sampled_from(["", "x", "pred", "image"]))})
        case "rows":
            table = table.iloc[: draw(some.integers(0, 40))]
    out = io.BytesIO()
    try:
        table.to_parquet(out)
    except Exception:  # what it cannot write is no file
        return mutations.raw_bytes(draw, content)
    return out.getvalue()


def _baseline(draw: Draw, files: Files) -> Files:
    """Change a baseline, or what is packed in it."""
    content = files["baseline.json"]
    if either(draw, (3, False), (1, True)):
        document = json.loads(content)
        packed = draw(some.sampled_from([document["images"], document["labels"], document["preds"]]))
        data = zlib.decompress(base64.b64decode(packed["zlib"]))
        data = bytes(mutations.BOMB) if either(draw, (30, False), (1, True)) else mutations.raw_bytes(draw, data)
        packed["zlib"] = base64.b64encode(zlib.compress(data)).decode()
        return resealed(draw, files, {"baseline.json": json.dumps(document).encode()})
    return resealed(draw, files, {"baseline.json": mutations.json_text(draw, content)})


def _suites(fixture: Path) -> Iterator[Subject]:
    """Suites, up to their plan, and rules of a gate, up to the verdict."""

    def plan(folder: Path) -> object:
        from harness.config import read_suite
        from harness.plan.plan import make

        planned = make(read_suite(folder / "files" / "suite.toml"), folder / "files", folder / "out")
        return planned.key, planned.unused

    def judge(folder: Path) -> object:
        return verdict(fixture / "frozen" / "baseline.json", fixture / "run", folder / "files" / "rules.toml")

    suite = tomllib.loads(SUITE.read_text())
    suite["target"][0] |= {
        "version": "1.0",
        "host": "local",
        "arch": "x86_64",
        "image": "x",
        "address": "y",
        "threads": 1,
    }
    text: Files = {"suite.toml": mutations.toml_of(suite)}
    yield Subject(
        "suite", 8, text, lambda draw, _: {"suite.toml": mutations.toml_text(draw, suite)}, plan, trusted=True
    )
    rules: Files = {"rules.toml": mutations.toml_of(RULES)}
    yield Subject("rules", 2, rules, lambda draw, _: {"rules.toml": mutations.toml_text(draw, RULES)}, judge)


def verdict(baseline: Path, run: Path, rules: Path | None = None) -> str:
    """Judge a run, and write the verdict in all its forms."""
    from harness.gate import render
    from harness.gate.judge import judge
    from harness.gate.rules import read as read_rules
    from harness.results.baseline import read

    found = judge(read(baseline), read(run), read_rules(rules))
    return render.as_json(found) + render.markdown(found) + render.junit(found)


def _pixels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (4, 8, 8, 3), np.uint8)


def _npz(**arrays: np.ndarray) -> bytes:
    out = io.BytesIO()
    np.savez_compressed(out, **arrays)
    return out.getvalue()


def _picture(kind: str) -> bytes:
    out = io.BytesIO()
    Image.fromarray(_pixels()[0]).save(out, {"jpg": "jpeg"}.get(kind, kind))
    return out.getvalue()

"""Bundles, models, patches and pictures, as the fuzzer changes them."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import models
import mutations
import numpy as np
from hypothesis import strategies as some
from mutations import Draw, either
from PIL import Image
from subject import SUMS, Files, Subject, changing, files_of, resealed

from backends.conformance import networks
from backends.device.bundle import Bundle
from backends.device.replay import Request, replay

PICTURES = ("png", "jpg", "bmp", "gif", "webp", "tiff")


def bundles(made: Path) -> Iterator[Subject]:
    """Bundles: the fuzzer gives a changed one the right list of hashes, most of the time."""

    def read(folder: Path) -> object:
        bundle = Bundle.read(folder / "files")
        request = Request("dummy", tuple(case.name for case in bundle.cases), {})
        return replay(bundle, folder / "out", request, lambda *_, **__: None)

    files = files_of(made / "onnx")
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


def model_files(made: Path) -> Iterator[Subject]:
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

    onnx = next((made / "run" / "artifacts").glob("*.onnx")).read_bytes()
    trained = next((made / "run" / "store" / "victim").rglob("weights.pt")).read_bytes()
    yield Subject("model (ONNX)", 3, {"model.onnx": onnx}, changing(onnx=models.onnx), read)
    small = {"model.tflite": networks.file("tflite").read_bytes()}
    yield Subject("model (TFLite)", 6, small, changing(tflite=models.tflite), read)
    yield Subject("weights", 1, {"weights.pt": trained}, changing(pt=models.weights), load)


def patches(made: Path) -> Iterator[Subject]:
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

    ours = files_of(made / "patch")
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

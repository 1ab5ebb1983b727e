"""Inspect, replay and rebuild files that others made: ``python benchmarks/foreign/check.py FOLDER [--vendor DIR]``.

FOLDER holds what ``make.py``, ``make_with_torch.py`` and ``make_with_tensorflow.py`` wrote; DIR holds vendors' files.
Writes ``benchmarks/results/foreign.md``.
"""

from pathlib import Path
from typing import Annotated, Any

import numpy as np
import patchbench
import typer

from backends.device.errors import UserError
from exporters.files.image_input import guess_preproc, image_axes, image_layout
from harness.run.arithmetic import compare_in_batches
from patches.twins import KERNELS, twin

TABLE = Path(__file__).parents[1] / "results" / "foreign.md"
RUNTIMES = {".onnx": "onnxruntime", ".tflite": "litert"}
BATCHES = (1, 8, 5)
HEAD = """Files that others make, by `benchmarks/foreign/`: what `inspect` says of them, whether a replay gives the
predictions (top-1) of a plain session of the runtime on {images} real images, and whether all integers of the twin are
the kernels' on 16 of these, one by one, in batches of 8 and of 5 (TFLite: on all three of LiteRT). A refusal is one
line, which names the operator or the cause. Operators that the runtime computes in float are told by `inspect`; one
that only selects among numbers, such as Relu, Clip or MaxPool, leaves a twin exact. Of the files that Brevitas, NNCF
and PT2E write, onnxruntime computes so much in float that none has a twin.

| file | inspect | replay | twin |
|---|---|---|---|
"""


def main(
    folder: Path,
    vendor: Annotated[Path | None, typer.Option()] = None,
) -> None:
    """Check every file, then write the table."""
    with np.load(folder / "images.npz") as made:
        pixels = made["test"]
    files = [path for path in sorted(folder.iterdir()) if path.suffix in RUNTIMES]
    files += sorted(vendor.glob("*.tflite")) if vendor else []
    lines = [f"| {' | '.join((file.stem, *checked(file, pixels)))} |" for file in files]
    TABLE.write_text(HEAD.format(images=len(pixels)) + "\n".join(lines) + "\n")


def checked(file: Path, pixels: np.ndarray) -> tuple[str, str, str]:
    """Return what became of a file, in three cells."""
    found = patchbench.inspect(file)
    in_float = sorted({operator.name for operator in found.in_float})
    try:
        shown = fitting(pixels, found)
        replayed = _replayed(file, shown, found)
        twin_of_it = _rebuilt(file, shown)
    except UserError as error:
        replayed = twin_of_it = _reason(error, file)
    print(file.name, replayed, twin_of_it, flush=True)
    return f"in float: {', '.join(in_float)}" if in_float else "integer", replayed, twin_of_it


def fitting(pixels: np.ndarray, found: Any) -> np.ndarray:
    """Return images of the size that a file takes, repeated or cut."""
    height, width = image_axes(found, image_layout(found))
    times = -(-max(height, width, 1) // pixels.shape[1])
    larger = pixels.repeat(times, axis=1).repeat(times, axis=2)
    return larger[:, : max(height, 1), : max(width, 1)] if height > 0 else pixels


def _replayed(file: Path, pixels: np.ndarray, found: Any) -> str:
    is_wide = any(tensor.dtype == "int16" for operator in found.operators for tensor in operator.outputs)
    options = {"kernels": "builtin"} if is_wide and file.suffix == ".tflite" else {}  # XNNPACK takes no such operator
    try:
        ours = patchbench.replay(file, pixels, RUNTIMES[file.suffix], options=options, timed_runs=0).logits
    except UserError as error:
        return _reason(error, file)
    preproc = guess_preproc(found, image_layout(found))
    plain = _onnxruntime if file.suffix == ".onnx" else _litert
    same = (plain(file, preproc(pixels)).argmax(1) == ours.argmax(1)).mean()
    return f"{same:.0%} of predictions" if same < 1 else "same predictions"


def _onnxruntime(file: Path, x: np.ndarray) -> np.ndarray:
    import onnxruntime

    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return np.concatenate([session.run(None, {name: image[None]})[0] for image in x])


def _litert(file: Path, x: np.ndarray) -> np.ndarray:
    from ai_edge_litert.interpreter import Interpreter

    session = Interpreter(str(file))
    session.allocate_tensors()
    (entry,), (end,) = session.get_input_details(), session.get_output_details()
    scale, zero_point = entry["quantization"]
    if scale:
        limits = np.iinfo(entry["dtype"])
        x = (np.round(x / np.float32(scale)) + zero_point).clip(limits.min, limits.max).astype(entry["dtype"])
    answers = []
    for image in x:
        session.set_tensor(entry["index"], image[None])
        session.invoke()
        answers.append(session.get_tensor(end["index"]))
    return np.concatenate(answers)


def _rebuilt(file: Path, pixels: np.ndarray) -> str:
    some, said = pixels[:16], []
    for kernels in KERNELS[file.suffix]:
        try:
            equal = min(one.equal for one in compare_in_batches(twin(file, kernels), some, BATCHES))
        except UserError as error:
            return _reason(error, file)
        if equal < 1:
            said.append(f"{equal:.1%} of integers ({kernels})")
    return ", ".join(said) or "exact"


def _reason(error: UserError, file: Path) -> str:
    return "refused: " + " ".join(str(error).replace(f"{file}: ", "").split()).replace("|", "\\|")


if __name__ == "__main__":
    typer.run(main)

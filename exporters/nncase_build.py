"""Compile a network with nncase and run it on its simulator: a program for nncase's own Python.

``python -m exporters.nncase_build`` reads and writes files of its folder: the float network ``network.onnx``,
``asked.json`` (`Asked`) and ``images.npy``, float32 ``(n, 3, h, w)``; the compiled ``network.kmodel``, ``answer.json``
(range by name), ``simulated.npy``, what the held images give, and in ``dump`` what the compiler says of its passes.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypedDict

import numpy as np

from backends.device.runtimes.nncase import Engine

GIVEN, ASKED, FILE, ANSWER, SIMULATED = "network.onnx", "asked.json", "network.kmodel", "answer.json", "simulated.npy"
DUMP = "dump"
SCHEME, OWN = f"{DUMP}/QuantScheme.json", "scheme.json"


class Asked(TypedDict):
    """What to compile: with a calibration by nncase's name, and ranges by ONNX's names in place of those it finds.

    What only nncase makes keeps the range that its calibration finds. The ``unsigned`` weights, by ONNX's names, are
    those that it multiplies wrongly with a sign. ``held`` is how many images are simulated.
    """

    calibration: str
    ranges: dict[str, tuple[float, float]]
    unsigned: list[str]
    held: int


def main() -> None:
    """Compile, and run the compiled file."""
    asked = json.loads(Path(ASKED).read_text())
    images = np.load("images.npy", allow_pickle=False)
    _compiled(asked["calibration"], images)
    scheme = json.loads(Path(SCHEME).read_text())
    for one in scheme["Outputs"]:
        if one["Name"] in asked["ranges"]:
            low, high = asked["ranges"][one["Name"]]
            one["DataRange"] = [{"Min": min(low, 0.0), "Max": max(high, 0.0), "IsFull": False}]
        if one["Name"] in asked["unsigned"]:
            one["DataType"] = "u8"
    Path(OWN).write_text(json.dumps(scheme))
    shutil.rmtree(DUMP)
    content = _compiled(
        asked["calibration"], images, OWN
    )  # weights have a scale a channel only where a scheme is given
    Path(FILE).write_bytes(content)
    Path(ANSWER).write_text(json.dumps(_ranges(scheme)))
    chip = Engine()
    chip.load(Path(FILE).absolute(), {}, 1)
    np.save(SIMULATED, np.stack([chip.answer(image[None])[0] for image in images[: asked["held"]]]))


def _compiled(calibration: str, images: np.ndarray, scheme: str = "") -> bytes:
    """Return the compiled network; a network that it cannot take ends the process."""
    import nncase

    options = nncase.CompileOptions()
    options.target, options.dump_ir, options.dump_asm, options.dump_dir = "k230", True, False, DUMP
    compiler: Any = nncase.Compiler(options)
    compiler.import_onnx(Path(GIVEN).read_bytes(), nncase.ImportOptions())
    ptq = nncase.PTQTensorOptions()
    ptq.calibrate_method, ptq.quant_type, ptq.w_quant_type = calibration, "uint8", "int8"
    ptq.samples_count = len(images)
    ptq.set_tensor_data([[image[None]] for image in images])
    ptq.export_quant_scheme, ptq.quant_scheme = not scheme, scheme
    compiler.use_ptq(ptq)
    compiler.compile()
    content: bytes = compiler.gencode_tobytes()
    return content


def _ranges(scheme: Mapping[str, Any]) -> dict[str, tuple[float, float]]:
    rows = [one for one in scheme["Outputs"] if one["DataRangeMode"] == "by_tensor"]
    return {one["Name"]: (one["DataRange"][0]["Min"], one["DataRange"][0]["Max"]) for one in rows}


if __name__ == "__main__":
    main()

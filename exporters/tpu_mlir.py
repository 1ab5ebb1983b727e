"""Write a network for Sophgo's BM1684X (``.bmodel``) or CV181x (``.cvimodel``), by its compiler tpu-mlir."""

from __future__ import annotations

import json
import os
import re
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from torch import nn

from backends import environments
from backends.device import tpu_mlir
from backends.device.artifact import Layout, Pixels, QuantSpec
from backends.device.errors import UserError
from backends.device.reading import parse_json, read_whole_npz
from backends.device.toolchains import TPU_MLIR
from exporters.calibration import Range
from exporters.files import describe, require_integer
from exporters.files.description import Description, Operator
from exporters.files.tpu_mlir import graph
from exporters.onnx_float import float_model, ranges_of
from exporters.onnx_graph import tidy
from exporters.ranges import Learned
from exporters.toolchains import calibration_images, for_one_image, require_answers, taken
from exporters.tpu_mlir_proof import Thresholds, require_scales
from exporters.victim import Victim

LAYOUT: Layout = "nchw"
# with layer groups, CV181x's own model of the chip answers otherwise than the network that was compiled
CHIPS = {"bmodel": ("bm1684x", []), "cvimodel": ("cv181x", ["--disable_layer_group"])}
OPSET, IR_VERSION = 18, 8  # of ONNX, as tpu-mlir reads it
HELD = 32  # images
ANY = "0,-9"  # how near the first image's logits are to those in float: `require_answers` asks, of more images
LAYERS = Path(__file__).with_name("tpu_mlir_layers.py")
DIFFERS = re.compile(r"^\[(\S+) *\] .*\[FAILED\]", re.MULTILINE)
ENDED = re.compile(r'"top\.(\w+)".* loc\("(.*)"\)\n(.*)\nUNREACHABLE')
ERROR = re.compile(r"^\w+Error: (.{1,200})", re.MULTILINE)


class _Tools(NamedTuple):
    """The toolchain in its environment, for one network; every file lies in `folder`."""

    python: Path
    package: Path
    folder: Path
    victim: str

    def run(self, script: str | Path, *words: str) -> str:
        """Run one of its scripts and return what it prints; a failure is a `UserError`."""
        libraries = [str(self.package / "lib" / name) for name in ("", "capi", "third_party")]
        programs = (self.package / "bin", self.package / "python/tools", self.python.parent)
        more = {
            "TPUC_ROOT": str(self.package),
            "PYTHONPATH": os.pathsep.join(str(self.package / name) for name in ("", "python")),
            "PATH": os.pathsep.join([*map(str, programs), os.environ.get("PATH", os.defpath)]),
            "LD_LIBRARY_PATH": os.pathsep.join(libraries),
            "OMP_NUM_THREADS": "1",
        }
        command = [str(self.python), str(self.package / "python/tools" / script), *words]
        done = subprocess.run(
            command, cwd=self.folder, env=os.environ | more, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, errors="replace",
        )  # fmt: skip
        if done.returncode:
            raise UserError(f"{self.victim}: tpu-mlir's {Path(script).stem} failed: {_reason(done.stdout)}")
        return done.stdout


def write(
    network: nn.Module, victim: Victim, quant: QuantSpec | None, pixels: Pixels, path: Path, learned: Learned = ()
) -> Description:
    """Write the network to ``path``: from one image, float32 ``(1, 3, h, w)`` in [0, 1], to logits.

    The file is what tpu-mlir compiled for the chip, and behind it what its interpreter runs; Sophgo's C model of the
    chip has answered an image alike, and every layer is near the float network's on a few dozen. Its description is
    returned, once it is proven.
    """
    spec = taken(TPU_MLIR, quant, learned)
    with tempfile.TemporaryDirectory() as name:
        tools = _tools(Path(name), victim)
        model = tidy(float_model(network, victim, tools.folder))
        images = calibration_images(pixels, spec)
        _lower(tools, model, images)
        text = (tools.folder / "net.mlir").read_text()
        layers, _, _ = graph(text, read_whole_npz(tools.folder / "net_top_f32_all_weight.npz"))
        thresholds = _calibrated(tools, model, layers, pixels, spec)
        chip, options = CHIPS[path.suffix[1:]]
        tools.run(
            "model_deploy.py", "--mlir", "net.mlir", "--chip", chip, "--quantize", "INT8", "--calibration_table",
            "table", "--test_input", "net_in_f32.npz", "--tolerance", ANY, "--debug", "--model", f"net{path.suffix}",
            *options,
        )  # fmt: skip
        compiled = tools.folder / f"net_{chip}_int8_sym_tpu.mlir"
        np.save(tools.folder / "held.npy", images[:HELD])
        said = tools.run(LAYERS, "net.mlir", compiled.name, "held.npy")
        require_answers(path, TPU_MLIR, parse_json(said.splitlines()[-1], LAYERS.name))
        path.write_bytes((tools.folder / f"net{path.suffix}").read_bytes())
        weights = compiled.with_name(f"{compiled.stem}_weights.npz").read_bytes()
        tpu_mlir.append(path, compiled.read_text(), weights)
    file = require_integer(path, spec.allow_float)
    require_scales(file, layers, thresholds)
    return file


def _tools(folder: Path, victim: Victim) -> _Tools:
    """Return the toolchain, installed where it is not."""
    requirements = environments.pinned(TPU_MLIR.package)
    environments.make_environment(requirements, lambda word: None)
    package = environments.packages(requirements) / "tpu_mlir"
    return _Tools(environments.python(requirements), package, folder, victim.name)


def _reason(said: str) -> str:
    """Return why a script failed, in a line: the layer that differs, the operator that it lacks, or its last error."""
    if found := DIFFERS.search(said):
        return f"{found.group(1)!r} is not what the network computes"
    if found := ENDED.search(said):
        operator, name, why = found.groups()
        return f"{operator} ({name}): {why.strip()}"
    errors: list[str] = ERROR.findall(said)
    return errors[-1] if errors else "it says nothing"


def _lower(tools: _Tools, model: Any, images: np.ndarray) -> None:
    """Write the float network as tpu-mlir's own, ``net.mlir``, which has answered the first image as onnxruntime."""
    import onnx

    onnx.save(for_one_image(model, OPSET, IR_VERSION), tools.folder / "net.onnx")
    np.savez(tools.folder / "first.npz", pixels=images[:1])
    shape = json.dumps([[1, *images.shape[1:]]])
    tools.run(
        "model_transform.py", "--model_name", "net", "--model_def", "net.onnx", "--input_shapes", shape,
        "--test_input", "first.npz", "--test_result", "top.npz", "--mlir", "net.mlir",
    )  # fmt: skip


def _calibrated(tools: _Tools, model: Any, layers: Sequence[Operator], pixels: Pixels, quant: QuantSpec) -> Thresholds:
    """Write tpu-mlir's calibration table, with its own calibration or our ranges; return what it says."""
    table = tools.folder / "table"
    if quant.calibration in TPU_MLIR.calibrations:
        folder = tools.folder / "images"
        folder.mkdir()
        for number, image in enumerate(calibration_images(pixels, quant)):
            np.savez(folder / f"{number:06}.npz", pixels=image[None])
        words = ["--dataset", folder.name, "--input_num", str(quant.calibration_images)]
        tools.run("run_calibration.py", "net.mlir", *words, "--cali_method", quant.calibration, "-o", table.name)
        rows = (line.split() for line in table.read_text().splitlines() if not line.startswith("#"))
        return {name: (float(threshold), float(low)) for name, threshold, low, _ in rows}
    ranges = _ranges(tools, model, pixels, quant)
    found = {}
    for name in ("pixels", *(layer.outputs[0].name for layer in layers)):
        if name not in ranges:
            raise UserError(
                f"{tools.victim}: tpu-mlir makes a layer {name!r} of this network, of which no range is known"
            )
        low, high = ranges[name]
        found[name] = (max(-low, high), low)
    lines = (f"{name} {most!r} {low!r} {ranges[name][1]!r}" for name, (most, low) in found.items())
    table.write_text("\n".join(["# op_name threshold min max", *lines, ""]))
    return found


def _ranges(tools: _Tools, model: Any, pixels: Pixels, quant: QuantSpec) -> Mapping[str, Range]:
    """Return our ranges by tpu-mlir's names: those of ONNX with the operator's type behind."""
    import onnx

    file = tools.folder / "float.onnx"
    onnx.save(model, file)
    network = describe(file)
    ranges = ranges_of(network, model, pixels, quant)
    named = {f"{output}_{node.op_type}": ranges[output] for node in model.graph.node for output in node.output
             if output in ranges}  # fmt: skip
    return named | {name: ranges[name] for name in (tensor.name for tensor in network.inputs)}

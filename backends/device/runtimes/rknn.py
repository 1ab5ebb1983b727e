"""RKNN: Rockchip's toolkit for its RK3588, with the simulation that it makes of what it builds."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from backends.device import rknn
from backends.device.errors import UserError
from backends.device.files import working_in
from backends.device.one_at_a_time import OneAtATime
from backends.device.runtimes import Option, missing
from backends.device.toolchains import RKNN

Ranges = dict[str, tuple[float, float]]
NETWORK, TABLE = "network.onnx", "network.quantization.cfg"
GREY = 0.5


class Engine(OneAtATime):
    """Rockchip's simulation of an RK3588: one image at a time, on one thread, without options.

    It builds the network anew from what lies behind a file exported here, by the toolkit's hybrid quantization with
    the ranges that the file was built with. The package is under Rockchip's licence, to be accepted by its name.
    """

    formats: ClassVar[tuple[str, ...]] = RKNN.formats
    package: ClassVar[str] = RKNN.package
    brings: ClassVar[tuple[str, ...]] = ("onnx", "torch")
    options: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    integers_only: ClassVar[bool] = True

    def load(self, path: Path, options: Mapping[str, Option], threads: int) -> None:
        """Build the network behind a compiled file; one from elsewhere, which has none, is a `UserError`."""
        self.checked(options, threads)
        network, build = rknn.read(path)
        self.input, self.output = rknn.ends(path, build)
        self._folder = tempfile.TemporaryDirectory()
        folder = Path(self._folder.name)
        (folder / NETWORK).write_bytes(network)
        np.save(folder / "grey.npy", np.full(self.input.shape, GREY, np.float32))
        try:
            with working_in(folder):
                found = first_step("normal", ["grey.npy"])
                if found.keys() != build.ranges.keys():
                    raise UserError("it has other layers than those that it was exported with")
                self._kit = second_step(build.ranges)
                check(self._kit.init_runtime())
        except ImportError as error:
            raise missing(self.package, error) from error
        except Exception as error:  # the toolkit raises what it meets
            raise UserError(f"{path}: {self.package} cannot build it: {error}") from error
        self.facts = {"kernels": f"simulation {rknn.CHIP}", "chip": rknn.CHIP}

    def answer(self, image: NDArray[Any]) -> NDArray[Any]:
        """Return the logits of one image."""
        (answer,) = self._kit.inference(inputs=[image], data_format=["nchw"])
        return np.array(answer, np.float32)


def first_step(calibration: str, images: Sequence[str]) -> Ranges:
    """Let the toolkit calibrate ``network.onnx`` here on images; return the ranges that it finds, by its names.

    They are those of its table of activations (``.quantization.cfg``) that are 8-bit integers.
    """
    kit = _kit()
    check(kit.config(target_platform=rknn.CHIP, quantized_algorithm=calibration, quantized_method="channel"))
    Path("images.txt").write_text("".join(f"{name}\n" for name in images))
    check(kit.load_onnx(model=NETWORK))
    check(kit.hybrid_quantization_step1(dataset="images.txt", proposal=False))
    kit.release()
    rows = _table()["quantize_parameters"].items()
    found = {name: (float(*row["min"]), float(*row["max"])) for name, row in rows if row["dtype"] == "int8"}
    return {name: (min(low, 0.0), max(high, 0.0)) for name, (low, high) in found.items()}


def second_step(ranges: Ranges) -> Any:
    """Write ranges into the table of the first step and build the network with them; return the toolkit."""
    table = _table()
    for name, (low, high) in ranges.items():
        table["quantize_parameters"][name] |= {"min": [low], "max": [high]}
    with Path(TABLE).open("w") as stream:
        _yaml().dump(table, stream)
    kit = _kit()  # configured as in the first step
    names = (Path(NETWORK).with_suffix(suffix).name for suffix in (".model", ".data"))
    check(kit.hybrid_quantization_step2(*names, TABLE))
    return kit


def check(code: int) -> None:
    """Raise a `UserError` where the toolkit says that it failed; why, it has printed."""
    if code != 0:
        raise UserError(f"it failed with {code}")


def _kit() -> Any:
    from rknn.api import RKNN

    return RKNN()


def _table() -> Any:
    return _yaml().load(Path(TABLE))


def _yaml() -> Any:
    from ruamel.yaml import YAML

    return YAML(typ="safe")

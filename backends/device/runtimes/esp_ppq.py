"""esp-ppq: Espressif's quantizer for its ESP32-P4, with the simulation of what it quantized."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from math import log2
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from backends.device import esp_ppq
from backends.device.errors import UserError
from backends.device.one_at_a_time import OneAtATime
from backends.device.runtimes import Option, missing
from backends.device.toolchains import ESP_PPQ

CHIP = "esp32p4"
GIVEN = "given"  # as esp-ppq's registry calls our observer
TO_OUTPUT, APART = "Align to Output", "None"  # whose scale both sides of a sum get


class Engine(OneAtATime):
    """esp-ppq's simulation of an ESP32-P4: one image at a time, on one thread, without options.

    It quantizes the network behind a file exported here anew, with the exponents that the file was built with, and is
    refused where they are not those in the file that the chip gets. It takes and gives the file's own integers.
    """

    formats: ClassVar[tuple[str, ...]] = ESP_PPQ.formats
    package: ClassVar[str] = ESP_PPQ.package
    brings: ClassVar[tuple[str, ...]] = ("onnx", "torch")
    options: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    integers_only: ClassVar[bool] = True

    def load(self, path: Path, options: Mapping[str, Option], threads: int) -> None:
        """Quantize the network behind a compiled file; one from elsewhere, which has none, is a `UserError`."""
        self.checked(options, threads)
        file = esp_ppq.read(path)
        network, build = esp_ppq.behind(path)
        self.input, self.output = esp_ppq.ends(path, file, build)
        try:
            import torch
            from esp_ppq.executor import TorchExecutor
        except ImportError as error:
            raise missing(self.package, error) from error
        torch.set_num_threads(1)
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / esp_ppq.NETWORK).write_bytes(network)
            grey = np.full((2, *build.shape[1:]), 0.5, np.float32)
            try:
                graph = quantized(Path(folder) / esp_ppq.NETWORK, grey, GIVEN, build.exponents)
            except Exception as error:  # esp-ppq raises what it meets
                raise UserError(f"{path}: {self.package} cannot build it: {error}") from error
        for name, simulated in exponents_of(graph).items():
            if name in file.values and file.values[name].exponents != simulated:
                raise UserError(f"{path}: what {self.package} builds has another scale of {name!r} than the file")
        self._torch, self._executor = torch, TorchExecutor(graph, device="cpu")
        self.facts = {"kernels": f"simulation {CHIP}", "chip": CHIP}

    def answer(self, image: NDArray[Any]) -> NDArray[Any]:
        """Return the logits of one image, as integers."""
        pixels = self._torch.from_numpy(image.astype(np.float32) * np.float32(self.input.scale))
        (logits,) = self._executor.forward(pixels)
        integers: NDArray[np.int8] = np.rint(logits.numpy() / self.output.scale).astype(np.int8)
        return integers


def quantized(
    network: Path,
    images: NDArray[np.float32],
    calibration: str,
    exponents: Mapping[str, int] | None = None,
    sums: str = TO_OUTPUT,
) -> Any:
    """Quantize an ONNX network as Espressif's settings have it, but for its calibration and the scales of sums.

    By the calibration ``given`` an activation has the exponent of that name, and where there is none, esp-ppq's
    ``minmax`` of the images ``(n, 3, h, w)``. Return esp-ppq's graph.
    """
    import torch
    from esp_ppq.api.interface import quantize_onnx_model
    from esp_ppq.api.setting import QuantizationSettingFactory
    from esp_ppq.core import TargetPlatform
    from esp_ppq.quantization.observer import OBSERVER_TABLE

    OBSERVER_TABLE[GIVEN] = _given(exponents or {})  # its own function for this refuses every observer
    settings = QuantizationSettingFactory.espdl_setting()
    settings.quantize_activation_setting.calib_algorithm = calibration
    settings.fusion_setting.align_elementwise_to = sums
    singles: Sequence[Any] = [torch.from_numpy(image[None]) for image in images]
    return quantize_onnx_model(
        str(network), singles, len(singles), input_shape=None, inputs=singles[0], setting=settings,
        platform=TargetPlatform.ESPDL_INT8, device="cpu",
    )  # fmt: skip


def exponents_of(graph: Any) -> dict[str, tuple[int, ...]]:
    """Return the exponents of a quantized graph's values by name, one for each channel or a single one.

    An activation has those of the operator that gives it.
    """
    found: dict[str, tuple[int, ...]] = {}
    for operation in graph.topological_sort():
        for config, variable in operation.config_with_variable:
            gives = variable in operation.outputs or variable.is_parameter or variable.name in graph.inputs
            if gives and config.scale is not None and config.state.name != "FP32":
                found[variable.name] = tuple(round(log2(scale)) for scale in config.scale.reshape(-1).tolist())
    return found


def _given(exponents: Mapping[str, int]) -> type:
    """Return an observer for esp-ppq that knows the exponents of some activations beforehand."""
    import torch
    from esp_ppq.core import QuantizationStates
    from esp_ppq.quantization.observer import TorchMinMaxObserver

    class Given(TorchMinMaxObserver):  # type: ignore[misc]  # it has no types
        def render_quantization_config(self) -> None:
            name, config = self._watch_on.name, self._quant_cfg
            if name in exponents and config.state == QuantizationStates.INITIAL:
                config.scale, config.offset = torch.tensor(2.0 ** exponents[name]), torch.tensor(0.0)
                config.state = QuantizationStates.ACTIVATED
            else:
                super().render_quantization_config()

    return Given

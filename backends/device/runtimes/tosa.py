"""TOSA: Arm's reference model of the specification whose integers an Ethos-U computes."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Mapping
from importlib.metadata import distribution, version
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from backends.device import tflite_facts
from backends.device.errors import UserError
from backends.device.one_at_a_time import OneAtATime
from backends.device.runtimes import Option, missing

CONVERTER = "tosa-converter-for-tflite"
ACCELERATORS: tuple[str, ...] = (
    "none",
    "ethos-u55-32",
    "ethos-u55-64",
    "ethos-u55-128",
    "ethos-u55-256",
    "ethos-u65-256",
)
ACCELERATORS += ("ethos-u65-512", *(f"ethos-u85-{macs}" for macs in (128, 256, 512, 1024, 2048)))
VELA = "import sys; from ethosu.vela.vela import main; sys.exit(main())"  # of an environment, scripts do not work
LEFT = re.compile(r"operators\) operator: (\w+)")
MEMORY = re.compile(r"Total (.+) used +([\d.]+ \w+)")
OPEN_BATCH = "tensor<?x"
OPEN_SIZE = re.compile(r"(tosa\.const_shape +\{values = dense<\[)-1,")  # of a slice or a new shape
OPERATOR = re.compile(r"= tosa\.(?!const)(\w+)")
NOT_CONVERTED = re.compile(r'= "?tfl\.(\w+)')
ROUNDING = re.compile(r"rounding_mode = (\w+)")


class Engine(OneAtATime):
    """Arm's reference model of TOSA, for integer files: one image at a time, on one thread.

    A file is converted to TOSA's operators by Arm's converter; the specification says which integers each of them
    gives, and demands them of a conformant device. An open batch dimension is fixed at 1, and unsigned files compute
    with the signed integers that have the same bits, as on an Ethos-U.

    With an ``accelerator``, Arm's compiler Vela compiles the file too: ``on_cpu`` are the operators that it leaves to
    the CPU beside that Ethos-U, where other kernels compute them, and ``memory`` is what the network takes.
    """

    formats: ClassVar[tuple[str, ...]] = ("tflite",)
    package: ClassVar[str] = "tosa-tools"
    options: ClassVar[Mapping[str, tuple[str, ...]]] = {"accelerator": ACCELERATORS}
    integers_only: ClassVar[bool] = True
    twins: ClassVar[Mapping[str, str]] = {"tosa": "tosa"}

    def load(self, path: Path, options: Mapping[str, Option], threads: int) -> None:
        """Convert a file; one that is not integer throughout, or has operators that TOSA lacks, is a `UserError`."""
        accelerator = self.checked(options, threads)["accelerator"]
        try:
            import tosa_converter_for_tflite
            import tosa_reference_model
        except ImportError as error:
            raise missing(f"{self.package} {CONVERTER}", error) from error
        self._path = path
        self.input, self.output = tflite_facts.ends(path)
        if pools := tflite_facts.activated_pools(path):
            raise UserError(
                f"{path}: {CONVERTER} {version(CONVERTER)} drops the activation that is fused to {pools} of its pools: "
                "convert the network with the activation as an operator of its own"
            )
        text = _converted(path, tosa_converter_for_tflite)
        self._network = _serialized(path, text)
        self._model: Any = tosa_reference_model
        self.facts = {
            "converter": version(CONVERTER),
            "kernels": "tosa",
            "operators": _counts(OPERATOR.findall(text)),
            "rounding": _counts(ROUNDING.findall(text)),
        } | ({} if accelerator == "none" else _compiled(path, accelerator))

    def answer(self, image: NDArray[Any]) -> NDArray[Any]:
        """Return the output for one image, as integers."""
        signed = np.ascontiguousarray(image).view(_signed(image.dtype))
        try:
            outputs, status = self._model.run(self._network, [signed])
        except ValueError as error:
            raise UserError(f"{self._path}: {self.package} cannot run it: {error}") from error
        if status.name != "TOSA_VALID":
            raise UserError(f"{self._path}: {self.package} says that its result is {status.name}")
        return np.array(outputs[0]).view(self.output.dtype)


def _converted(path: Path, converter: Any) -> str:
    """Return a file's operators as text, for batches of one image."""
    sink = io.BytesIO()
    try:
        converter.tflite_flatbuffer_to_tosa_mlir(str(path), sink, converter.TosaConverterOutputFormat.Text)
    except Exception as error:  # its exceptions have no common base
        raise UserError(f"{path}: {CONVERTER} cannot convert it: {error}") from error
    text = sink.getvalue().decode()
    if OPEN_BATCH in text:
        text = OPEN_SIZE.sub(r"\g<1>1,", text.replace(OPEN_BATCH, "tensor<1x"))
    if left := NOT_CONVERTED.findall(text):
        raise UserError(f"{path}: TOSA has no operators for {_counts(left)}")
    if "f32>" in text:
        raise UserError(f"{path}: computes in float; {Engine.package} is for files that are integer throughout")
    return text


def _serialized(path: Path, text: str) -> bytes:
    """Return the flatbuffer that the reference model takes."""
    program = distribution(Engine.package).locate_file("bin/tosa-opt")
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "network.tosa"
        passes = ["--tosa-convert-integer-type-to-signless", f"--tosa-serialize=tosa-flatbuffer-filename={made}"]
        command = [str(program), "-", *passes, "-o", os.devnull]
        done = subprocess.run(command, input=text.encode(), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        if done.returncode or not made.is_file():
            reason = done.stderr.decode(errors="replace").strip().partition("\n")[0]
            raise UserError(f"{path}: {Engine.package} cannot serialize it: {reason}")
        return made.read_bytes()


def _compiled(path: Path, accelerator: str) -> dict[str, str]:
    """Return what an Ethos-U leaves to the CPU of a file, and the memory that it takes; Vela's times are none."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-c", VELA, str(path), "--accelerator-config", accelerator, "--output-dir", folder]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace")
    memory = ", ".join(f"{size} {kind}" for kind, size in MEMORY.findall(done.stdout))
    if done.returncode or not memory:
        reason = (done.stdout.strip().splitlines() or ["it says nothing"])[-1]
        raise UserError(f"{path}: Vela cannot compile it for {accelerator}: {reason}")
    return {"accelerator": accelerator, "on_cpu": _counts(LEFT.findall(done.stdout)) or "none", "memory": memory}


def _signed(dtype: np.dtype[Any]) -> np.dtype[Any]:
    return np.dtype(f"i{dtype.itemsize}")


def _counts(words: Iterable[str]) -> str:
    return ", ".join(f"{n} {word}" for word, n in Counter(words).most_common())

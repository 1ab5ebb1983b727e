"""tpu-mlir, in the environment that an export or a replay makes of it."""

from pathlib import Path

import numpy as np

from backends import environments
from backends.device.errors import UserError
from helpers import small_networks as small
from helpers.elsewhere import Elsewhere
from helpers.required import absent


def require() -> None:
    """Leave a test out where it is not installed: it takes 3.6 GB."""
    try:
        requirements = environments.pinned("tpu-mlir")
    except UserError as error:
        absent("tpu-mlir", str(error))
    if not environments.python(requirements).is_file():
        absent("tpu-mlir", "not installed: python -m backends.conformance tpu_mlir installs it")


def logits(file: Path, x: np.ndarray) -> np.ndarray:
    """What its interpreter makes of pixels."""
    runtime = Elsewhere("tpu_mlir")
    runtime.load(file, {}, 1)
    return runtime.run(small.as_input(x).numpy())

"""What plain patchbench does without: packages that an extra brings, as in ``patchbench[craft]``."""

from __future__ import annotations

from importlib.util import find_spec

from backends.device.errors import UserError

EXTRAS = {  # by module; pyproject.toml has the versions
    "torch": "craft",
    "torchvision": "craft",
    "onnxscript": "craft",
    "litert_torch": "craft",
    "ai_edge_quantizer": "craft",
    "onnx": "inspect",
    "onnxruntime": "inspect",
    "ai_edge_litert": "inspect",
    "flatbuffers": "inspect",
    "distributed": "cluster",
    "dask_jobqueue": "cluster",
    "asyncssh": "cluster",
    "dask_kubernetes": "kubernetes",
    "fsspec": "store",
    "s3fs": "store",
}

CPU_INDEX = "https://download.pytorch.org/whl/cpu"  # torch without several GB of CUDA


def require(module: str) -> None:
    """Raise a `UserError` that says what to install, unless a module of an extra is installed."""
    if not find_spec(module):
        raise UserError(missing(module))


def missing(module: str) -> str:
    """Return the error for a module of an extra that is not installed."""
    extra = EXTRAS[module]
    index = f" --extra-index-url {CPU_INDEX}" if extra == "craft" else ""
    return f"{module} is not installed: pip install 'patchbench[{extra}]'{index}"

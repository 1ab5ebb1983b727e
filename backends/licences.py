"""Licences of runtimes' packages that are installed only for a user who names them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import NamedTuple

from backends.device.errors import UserError, did_you_mean
from backends.device.runtimes import engine
from backends.target import Target

VARIABLE = "PATCHBENCH_ACCEPT_LICENCE"


class Licence(NamedTuple):
    """A licence, and what it says of what is done here."""

    title: str
    says: str


LICENCES = {
    "qualcomm": Licence(
        "the Qualcomm AI Stack licence, Qualcomm_LICENSE.pdf in it",
        "benchmarks are allowed; reverse engineering, and handing it on alone, are not",
    ),
    "rockchip": Licence(
        "the RKNN SDK licence, github.com/airockchip/rknn-toolkit2/blob/master/LICENSE",
        "for applications on Rockchip's chips; reverse engineering is not allowed",
    ),
}
OF_PACKAGES = {"onnxruntime-qnn": "qualcomm", "rknn-toolkit2": "rockchip"}


def accept(names: Sequence[str]) -> None:
    """Take licences as accepted, by their names, in this process and those that it starts."""
    for name in names:
        if name not in LICENCES:
            raise UserError(f"--accept-licence {name}: no such licence; {did_you_mean(name, LICENCES)}")
    if names:
        os.environ[VARIABLE] = " ".join(names)


def installed_for(target: Target) -> str:
    """Return the package that is installed for a target; empty where its owner has installed it."""
    package = engine(target.runtime).package
    by_its_owner = target.host in ("ssh", "packed") or (target.host == "local" and _is_here(package))
    return "" if by_its_owner else package


def unaccepted(package: str) -> str:
    """Return what is to be accepted before a package is installed; empty where nothing is, or it was."""
    name = OF_PACKAGES.get(package)
    if name is None or name in os.environ.get(VARIABLE, "").split():
        return ""
    title, says = LICENCES[name]
    return f"{package} is under {title}: {says}; to install it, add --accept-licence {name}"


def require(package: str) -> None:
    """Raise a `UserError` for a package whose licence is to be accepted, and was not."""
    if reason := unaccepted(package):
        raise UserError(reason)


def _is_here(package: str) -> bool:
    try:
        version(package)
    except PackageNotFoundError:
        return False
    return True

"""Attack libraries beside this Python's packages, without what they depend on: torchattacks wants an old requests."""

import platform
from pathlib import Path

from backends.device.errors import UserError
from backends.environments import make_site, site
from helpers.required import absent

PINS = (
    "eagerpy==0.30.0",
    "foolbox==3.3.4",
    "gitdb==4.0.12",
    "gitpython==3.2.1",
    "smmap==5.0.3",
    "torchattacks==3.5.1",
)


def peers() -> Path:
    """The folder to import them from; where they cannot be installed, the test is left out."""
    try:
        make_site(PINS, platform.machine(), lambda word: None, dependencies=False)
    except UserError as error:
        absent("environments", str(error))
    return site(PINS, platform.machine())

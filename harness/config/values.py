"""Kinds of values that several tables share."""

from typing import Annotated

from pydantic import AfterValidator, Field

from backends.device.defences import parse_defence
from backends.device.errors import UserError

Triple = tuple[float, float, float]
Size = tuple[int, int]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
Precision = Annotated[str, Field(pattern=r"^(fp32|w([2-8]|32)a([2-8]|32))$")]  # bits; 32 rounds nothing


def _known_defence(word: str) -> str:
    if word in ("none", ""):
        return ""
    try:
        parse_defence(word)
    except UserError as error:
        raise ValueError(str(error)) from error
    return word


Defence = Annotated[str, AfterValidator(_known_defence)]  # jpeg:QUALITY, median:SIDE; "none" becomes empty

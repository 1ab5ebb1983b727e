"""Kinds of values that several tables share."""

from typing import Annotated

from pydantic import AfterValidator, Field, PlainSerializer, PlainValidator

from backends.device.defences import parse_defence
from backends.device.errors import UserError
from patches.surrogate import PRECISION, Surrogate

Triple = tuple[float, float, float]
Size = tuple[int, int]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
Precision = Annotated[str, Field(pattern=f"^(fp32|{PRECISION.pattern})$")]


def _known_defence(word: str) -> str:
    if word in ("none", ""):
        return ""
    try:
        parse_defence(word)
    except UserError as error:
        raise ValueError(str(error)) from error
    return word


Defence = Annotated[str, AfterValidator(_known_defence)]  # jpeg:QUALITY, median:SIDE; "none" becomes empty


def _surrogate(words: object) -> Surrogate:
    if isinstance(words, Surrogate):
        return words
    if not isinstance(words, str | list | tuple) or not all(isinstance(word, str) for word in words):
        raise ValueError(f"expected text, or a list of at least 2 for an ensemble, got {words!r}")
    if not isinstance(words, str) and len(words) < 2:
        raise ValueError(f"expected at least 2 surrogates in an ensemble, got {words!r}")
    surrogate = Surrogate.parse(words)
    if any(one.defence for one in (surrogate, *surrogate.members)):
        raise ValueError(f"surrogate {words!r}: name the defence in the attack's own key `defence`")
    return surrogate


def _words(surrogate: Surrogate) -> str | tuple[str, ...]:
    return tuple(map(str, surrogate.members)) or str(surrogate)


# float, twin:ARTIFACT and the like; a list of at least two is an ensemble
SurrogateWords = Annotated[
    Surrogate,
    PlainValidator(_surrogate, json_schema_input_type=str | Annotated[tuple[str, ...], Field(min_length=2)]),
    PlainSerializer(_words),
]

"""Kinds of values that several tables share."""

import re
from collections.abc import Callable
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field, PlainSerializer, PlainValidator
from pydantic.fields import FieldInfo

from backends.device import defences
from backends.device.defences import parse_defence
from backends.device.errors import UserError
from backends.device.names import check_path, modules, shown
from backends.words import check_url
from patches import training_defences
from patches.surrogate import PRECISION, Surrogate
from patches.training_defences import parse_training_defence

FUNCTION = r"[^\W\d]\w*(?:\.[^\W\d]\w*)*:[^\W\d]\w*"

Triple = tuple[float, float, float]
Pixels = Annotated[int, Field(ge=1, le=10_000)]
Seed = Annotated[int, Field(ge=0)]


def _two(size: object) -> object:
    if not isinstance(size, list | tuple) or len(size) != 2:
        raise ValueError(f"expected height, width, such as [224, 224], got {size!r:.100}")
    return size


Size = Annotated[tuple[Pixels, Pixels], BeforeValidator(_two)]
Classes = Annotated[int, Field(ge=1, le=100_000)]


def _like(pattern: str, expected: str) -> tuple[AfterValidator, FieldInfo]:
    """Return a check that a word is of a pattern from end to end, and the pattern as a JSON schema has it."""

    def check(word: str) -> str:
        if not re.fullmatch(pattern, word, re.ASCII):
            raise ValueError(f"expected {expected}, got {shown(word)}")
        return word

    return AfterValidator(check), Field(json_schema_extra={"pattern": f"^({pattern})$"})


def _by(check: Callable[[str], str]) -> AfterValidator:
    """Return a check whose `UserError` becomes one of pydantic's."""

    def checked(word: str) -> str:
        try:
            return check(word)
        except UserError as error:
            raise ValueError(str(error)) from error

    return AfterValidator(checked)


Name = Annotated[str, *_like(r"[A-Za-z0-9][\w.-]{0,99}", "a name of at most 100 letters, digits, dots, - and _")]
Precision = Annotated[str, *_like(f"fp32|{PRECISION.pattern}", "fp32, or bits of weights and activations such as w8a8")]
Sha256 = Annotated[str, *_like("[0-9a-f]{64}", "64 hex digits in lower case")]
OperatorName = Annotated[str, *_like(r"\w{1,100}", "the name of an operator, such as Softmax or BATCH_MATMUL")]
HashStart = Annotated[str, *_like("[0-9A-Fa-f]{8,64}", "8 to 64 hex digits")]
DataPath = Annotated[str, _by(check_path)]  # relative to --data
Weights = Annotated[str, _by(lambda word: check_url(word) if "://" in word else check_path(word))]
Model = Annotated[str, *_like(r"\w+|" + FUNCTION, "the name of a network, or package.module:function")]


def _addresses(words: object) -> object:
    if not isinstance(words, list | tuple):
        return words
    if not words or not all(isinstance(word, str) for word in words):
        raise ValueError(f"expected an address, or a list of them, got {words!r:.100}")
    return words[0] if len(words) == 1 else tuple(words)


Addresses = Annotated[str | tuple[str, ...], BeforeValidator(_addresses)]  # of one board, or of several


def _known_defence(word: str) -> str:
    if word in ("none", ""):
        return ""
    try:
        parse_defence(word)
    except UserError:
        if word.partition(":")[0] not in training_defences.names():
            raise
        where = "name it in a victim's train, or in export.qat"
        raise UserError(f"defence {shown(word)} works in training: {where}") from None
    return word


Defence = Annotated[str, _by(_known_defence)]  # jpeg:QUALITY, median:SIDE; "none" becomes empty


def _known_training_defence(word: str) -> str:
    if word in ("none", ""):
        return ""
    try:
        parse_training_defence(word)
    except UserError:
        if word.partition(":")[0] not in modules(defences.__path__):
            raise
        where = "name it in the suite's defence, not in a training"
        raise UserError(f"defence {shown(word)} works on the device: {where}") from None
    return word


TrainingDefence = Annotated[str, _by(_known_training_defence)]  # pat, pat:PATCH_PX; "none" becomes empty


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

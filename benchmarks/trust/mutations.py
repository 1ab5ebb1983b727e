"""Change files by their structure, as hypothesis draws it: JSON, TOML, arrays, archives, pictures, models, bytes.

Every function takes hypothesis's `draw` and a file's bytes, and returns other bytes.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from copy import deepcopy
from functools import cache
from typing import Any, TypeVar

from hypothesis import strategies as some

T = TypeVar("T")
Draw = Callable[[some.SearchStrategy[Any]], Any]

WORDS = [
    "", " ", ".", "..", "../x", "../canary.json", "../canary.npy", "/../../../x", "/etc/passwd", "/", "~", "-o",
    "--help", "-oProxyCommand=touch x", "a" * 300, "é" * 130, "a\x00b", "\n", "a\nb", "\r", "\u202e", "\ud800",
    "[red]x[/]", ":warning:", "{}", "%s", "$(touch x)", "`touch x`", "'; touch x", "a/b", "a\\b", "1==2",
    "1.0; python_version < '4'", "__init__", "nan", "1e999", "-1", "x:y", "none", "float", "twin:a:b", "jpeg:75",
    "median:99", "<script>", "os:system", "w4a8", "99999999999",
]  # fmt: skip
NUMBERS = [0, 1, -1, 2, 255, 256, 65535, 1 << 31, -(1 << 31), 1 << 32, 1 << 40, 1 << 63, -(1 << 63), 1 << 64, 10**30,
           0.5, -0.0, 1e-300, 1e308, 1e30]  # fmt: skip
# Stand for what `json.dumps` does not write; replaced in its text.
RAW = {"<nan>": "NaN", "<infinity>": "-Infinity", "<huge>": "1e999", "<digits>": "1" * 5000, "<deep>": "[" * 100_000,
       "<nested>": '{"a":' * 500 + "1" + "}" * 500, "<twice>": '{"a": 1, "a": 2}'}  # fmt: skip
words = some.one_of(some.sampled_from(WORDS), some.text(max_size=8))
numbers = some.one_of(some.sampled_from(NUMBERS), some.integers(), some.floats(allow_nan=False, allow_infinity=False))
scalars = some.one_of(words, numbers, some.booleans(), some.none())
nests = some.sampled_from([[], {}, [[]], [{}], {"a": {}}, [0] * 5000])
values = some.one_of(scalars, nests, some.lists(scalars, max_size=3), some.dictionaries(words, scalars, max_size=2),
                     some.sampled_from(sorted(RAW)))  # fmt: skip
BOMB = 3 * (233 << 20)


def sha256(content: bytes) -> bytes:
    """Return the hash of some bytes, as it stands in a file."""
    return hashlib.sha256(content).hexdigest().encode()


def either(draw: Draw, *ways: tuple[int, T]) -> T:
    """Choose one of the ways, each as often as its number says."""
    turn = draw(some.integers(0, sum(often for often, _ in ways) - 1))
    for often, way in ways:
        turn -= often
        if turn < 0:
            return way
    raise AssertionError


def json_text(draw: Draw, content: bytes) -> bytes:
    """Change up to three places of a JSON document, or some of its bytes."""
    if either(draw, (9, False), (1, True)):
        return raw_bytes(draw, content)
    document = {"": json.loads(content)}
    for _ in range(draw(some.integers(1, 3))):
        change_tree(draw, document)
    return json_of(document[""])


def json_of(document: object) -> bytes:
    """Write JSON, with what its standard does not allow."""
    text = json.dumps(document)
    for word, raw in RAW.items():
        text = text.replace(json.dumps(word), raw)
    return text.encode()


def change_tree(draw: Draw, document: Any) -> None:
    """Replace, remove, repeat, exchange or add a value somewhere in nested dictionaries and lists."""
    places = list(_places(document))
    where, key = places[draw(some.integers(0, len(places) - 1))]
    match either(draw, (6, "replace"), (2, "remove"), (2, "add"), (1, "exchange"), (2, "nudge")):
        case "replace":
            where[key] = deepcopy(draw(values))
        case "remove" if key != "":
            del where[key]
        case "add" if isinstance(where[key], dict):
            where[key][draw(words)] = deepcopy(draw(values))
        case "add" if isinstance(where[key], list):
            where[key].extend(where[key] * 2 or [deepcopy(draw(values))])
        case "exchange":
            other, place = places[draw(some.integers(0, len(places) - 1))]
            where[key] = deepcopy(other[place])
        case _:
            where[key] = _nudged(draw, where[key])


def _places(document: Any) -> Iterator[tuple[Any, Any]]:
    pairs = document.items() if isinstance(document, dict) else enumerate(document)
    for key, value in list(pairs):
        yield document, key
        if isinstance(value, dict | list):
            yield from _places(value)


def _nudged(draw: Draw, value: Any) -> Any:
    if isinstance(value, str):
        at = draw(some.integers(0, len(value)))
        return value[:at] + draw(words) + value[at:]
    if isinstance(value, int | float):
        return draw(some.sampled_from([-value, value + 1, value - 1, value * 2, str(value), float(value), [value]]))
    return deepcopy(draw(values))


def toml_text(draw: Draw, document: dict[str, Any]) -> bytes:
    """Change up to three places of a TOML document, given as a dictionary, or some of its bytes."""
    if either(draw, (4, False), (1, True)):
        return raw_bytes(draw, toml_of(document))
    whole = {"": json.loads(json.dumps(document))}
    for _ in range(draw(some.integers(1, 3))):
        change_tree(draw, whole)
    return toml_of(whole[""])


def toml_of(document: object) -> bytes:
    """Write TOML, each table in one line."""
    lines = _toml(document) if isinstance(document, dict) else [str(document)]
    return "\n".join(lines).encode("utf-8", "surrogatepass")


def _toml(table: dict[str, Any]) -> Iterator[str]:
    for key, value in table.items():
        yield f"{json.dumps(key)} = {_inline(value)}"


def _inline(value: Any) -> str:
    match value:
        case dict():
            return "{" + ", ".join(_toml(value)) + "}"
        case list():
            return "[" + ", ".join(map(_inline, value)) + "]"
        case bool():
            return str(value).lower()
        case None:
            return "1979-05-27"
        case str():
            return {"<nan>": "nan", "<infinity>": "-inf", "<deep>": "[" * 5000}.get(value, json.dumps(value))
    return repr(value)


def raw_bytes(draw: Draw, content: bytes) -> bytes:
    """Flip, overwrite, cut out, repeat or cut off bytes."""
    changed = bytearray(content)
    for _ in range(draw(some.integers(1, 4))):
        at = draw(some.integers(0, max(0, len(changed) - 1)))
        size = draw(some.sampled_from([1, 2, 4, 8, 64, 1000]))
        match either(draw, (4, "flip"), (4, "overwrite"), (1, "remove"), (1, "repeat"), (1, "cut")):
            case "flip" if changed:
                changed[at] ^= 1 << draw(some.integers(0, 7))
            case "overwrite":
                changed[at : at + size] = draw(some.sampled_from([b"\xff", b"\0", b"\x7f", b"\x80", b"9", b"("])) * size
            case "remove":
                del changed[at : at + size]
            case "repeat":
                changed[at:at] = changed[at : at + size] * draw(some.sampled_from([1, 2, 1000]))
            case "cut":
                del changed[at:]
    return bytes(changed)


DTYPES = ["|u1", "<i4", "<f4", "<f8", "|b1", "|O", "<U100", "|S0", "<c16", "<M8[s]", ">i4", "|V8", "x", [("a", "|O")],
          "<U999999999", "("]  # fmt: skip
lengths = some.one_of(
    some.sampled_from([0, 1, -1, 3, 6, 1 << 20, 1 << 31, 1 << 40, 1 << 62, True, 1.5]), some.integers(0, 9)
)
shapes = some.one_of(some.lists(lengths, max_size=5).map(tuple), some.sampled_from([None, 3, "x", (0,) * 40, ((1,),)]))


def npy(draw: Draw, content: bytes) -> bytes:
    """Change the header of an ``.npy`` file, or its bytes."""
    head = re.match(rb"\x93NUMPY(.)\0(..)(\{[^\n]*\n)", content, re.S)
    if head is None or either(draw, (3, False), (1, True)):
        return raw_bytes(draw, content)
    fields: dict[str, Any] = eval(head[3], {"__builtins__": {}})  # the fixture's own
    match either(draw, (4, "shape"), (3, "descr"), (1, "order"), (1, "field"), (3, "text"), (1, "version")):
        case "shape":
            fields["shape"] = draw(shapes)
        case "descr":
            fields["descr"] = draw(some.sampled_from(DTYPES))
        case "order":
            fields["fortran_order"] = draw(some.sampled_from([True, 0, "x"]))
        case "field":
            fields.pop(draw(some.sampled_from(sorted(fields))))
        case "version":
            return content[:6] + bytes([draw(some.integers(0, 255))]) + content[7:]
        case "text":
            text = raw_bytes(draw, repr(fields).encode())
            return content[:8] + struct.pack("<H", len(text) % 65536) + text + content[head.end() :]
    text = repr(fields).encode()
    return content[:8] + struct.pack("<H", len(text) + 1) + text + b"\n" + content[head.end() :]


def npz(draw: Draw, content: bytes) -> bytes:
    """Change a member of an ``.npz`` file, its names, or the bytes of the archive; or let a member be a bomb."""
    if either(draw, (3, False), (1, True)):
        return raw_bytes(draw, content)
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    name = draw(some.sampled_from(sorted(members)))
    match either(draw, (60, "change"), (8, "remove"), (8, "rename"), (1, "bomb")):
        case "change" if name == "facts.npy":
            members[name] = _facts(draw, members[name])
        case "change":
            members[name] = npy(draw, members[name])
        case "remove":
            del members[name]
        case "rename":
            members[draw(some.sampled_from(["x", "../x.npy", "/x", "a" * 300, "pixels", "mask.npy"]))] = members.pop(
                name
            )
        case "bomb":
            return _bomb(name)
    return _zip(members)


def _facts(draw: Draw, member: bytes) -> bytes:
    """Change the JSON that a patch keeps as an array of one text."""
    start = 10 + struct.unpack("<H", member[8:10])[0]
    text = json_text(draw, member[start:].decode("utf-32-le").encode()).decode(errors="replace")
    header = repr({"descr": f"<U{len(text)}", "fortran_order": False, "shape": ()}).encode() + b"\n"
    return member[:8] + struct.pack("<H", len(header)) + header + text.encode("utf-32-le", "replace")


def _zip(members: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, member in members.items():
            archive.writestr(name, member)
    return out.getvalue()


@cache
def _bomb(name: str) -> bytes:
    header = repr({"descr": "|u1", "fortran_order": False, "shape": (BOMB // 3, 1, 3)}).encode() + b"\n"
    return _zip({name: b"\x93NUMPY\1\0" + struct.pack("<H", len(header)) + header + bytes(BOMB)})


CHUNKS = [b"tEXt", b"zTXt", b"iTXt", b"PLTE", b"tRNS", b"iCCP", b"fcTL", b"acTL", b"eXIf", b"IEND"]


@cache
def _zeros() -> bytes:
    return zlib.compress(bytes(80 << 20))


def png(draw: Draw, content: bytes) -> bytes:
    """Change a chunk of a PNG, and give it the right checksum; or change bytes."""
    if either(draw, (3, False), (1, True)):
        return raw_bytes(draw, content)
    chunks = []
    at = 8
    while at < len(content):
        size = struct.unpack(">I", content[at : at + 4])[0]
        chunks.append((content[at + 4 : at + 8], content[at + 8 : at + 8 + size]))
        at += size + 12
    which = draw(some.integers(0, len(chunks) - 1))
    kind, data = chunks[which]
    match either(draw, (4, "size"), (2, "change"), (1, "remove"), (1, "repeat"), (2, "insert")):
        case "size":
            sides = [draw(some.sampled_from([0, 1, 8, 9, 30_000, 65_535, 1 << 31, (1 << 32) - 1])) for _ in "wh"]
            rest = bytes(draw(some.sampled_from([(8, 2), (8, 6), (16, 6), (8, 3), (1, 0), (4, 7), (16, 0)])))
            chunks[0] = (b"IHDR", struct.pack(">II", *sides) + rest + b"\0\0" + bytes([draw(some.integers(0, 2))]))
        case "change":
            chunks[which] = (kind, raw_bytes(draw, data))
        case "remove":
            del chunks[which]
        case "repeat":
            chunks.insert(which, (kind, data))
        case "insert":
            name = draw(
                some.sampled_from([b"tEXt", b"zTXt", b"iTXt", b"PLTE", b"tRNS", b"iCCP", b"fcTL", b"acTL", b"eXIf"])
            )
            chunks.insert(
                which,
                (name, draw(some.sampled_from([b"", b"a\0\0" + zlib.compress(bytes(80 << 20)), b"a\0", b"\0" * 26]))),
            )
    return content[:8] + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )

"""Read a flatbuffer, field by field: fields are numbered as its schema lists them.

A table that is left out has no fields. An offset that leads out of the file is a `struct.error`.
"""

from __future__ import annotations

import struct
from typing import Any, NamedTuple, Union

Content = Union[bytes, memoryview]  # slices of the latter copy nothing


class Table(NamedTuple):
    """A table that lies at a byte of a flatbuffer."""

    content: Content
    at: int

    @classmethod
    def root(cls, content: Content) -> Table:
        """Return the table that holds all others."""
        return cls(content, struct.unpack_from("<I", content)[0])

    def number(self, field: int, code: str) -> Any:
        """Return a number, by its `struct` code; 0 where it is left out."""
        place = self._place(field)
        return struct.unpack_from(f"<{code}", self.content, place)[0] if place else 0

    def numbers(self, field: int, code: str) -> tuple[Any, ...]:
        """Return a vector of numbers, by their `struct` code."""
        n, first = self._vector(field)
        return struct.unpack_from(f"<{n}{code}", self.content, first) if n else ()

    def text(self, field: int) -> str:
        """Return a string; empty where it is left out."""
        return bytes(self.raw(field)).decode(errors="replace")

    def raw(self, field: int, size: int = 1) -> Content:
        """Return the bytes of a vector of bytes, or of structs of that size; empty where it is left out."""
        n, first = self._vector(field)
        if first + n * size > len(self.content):
            raise struct.error("bytes beyond the end of the file")
        return self.content[first : first + n * size]

    def length(self, field: int) -> int:
        """Return the length of a vector; 0 where it is left out."""
        return self._vector(field)[0]

    def tables(self, field: int) -> list[Table]:
        """Return a vector of tables."""
        n, first = self._vector(field)
        places = range(first, first + 4 * n, 4)
        return [Table(self.content, place + self._word(place)) for place in places]

    def texts(self, field: int) -> list[str]:
        """Return a vector of strings."""
        places = (one.at for one in self.tables(field))  # of their lengths
        return [bytes(self.content[at + 4 : at + 4 + self._word(at)]).decode(errors="replace") for at in places]

    def table(self, field: int) -> Table | None:
        """Return a table; None where it is left out."""
        place = self._place(field)
        return Table(self.content, place + self._word(place)) if place else None

    def union(self, field: int) -> tuple[int, Table | None]:
        """Return the number of a union's type, which is a field of its own, and the table in the next field."""
        return self.number(field, "B"), self.table(field + 1)

    def _word(self, place: int) -> int:
        word: int = struct.unpack_from("<I", self.content, place)[0]
        return word

    def _vector(self, field: int) -> tuple[int, int]:
        place = self._place(field)
        if not place:
            return 0, 0
        start = place + self._word(place)
        return self._word(start), start + 4

    def _place(self, field: int) -> int:
        listing = self.at - struct.unpack_from("<i", self.content, self.at)[0]
        (size,) = struct.unpack_from("<H", self.content, listing)
        if 4 + 2 * field >= size:
            return 0
        (offset,) = struct.unpack_from("<H", self.content, listing + 4 + 2 * field)
        return self.at + offset if offset else 0

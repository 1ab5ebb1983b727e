"""Names that others chose: what becomes of them as files and paths."""

from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from backends.device.errors import UserError, about
from backends.device.names import NAME_BYTES, check_name, check_path, plain_name

PATHS = st.text() | st.from_regex(r"[./a]{1,20}", fullmatch=True)


@given(words=st.text())
@example(words="../../x")
@example(words="é" * 300)
def test_words_become_a_name_that_stays_where_it_is(words: str) -> None:
    name = plain_name(words)
    assert check_name(name, Path("here")) == name
    assert Path("folder", name).parent == Path("folder")
    assert plain_name(name) == name


def test_long_names_stay_different() -> None:
    ones = {plain_name("x" * 300 + end) for end in ("a", "b", "c")}
    assert len(ones) == 3
    assert all(len(name) <= NAME_BYTES for name in ones)


@given(path=PATHS)
@example(path="/etc/passwd")
@example(path="a/../../b")
def test_a_path_stays_inside_or_is_refused(path: str) -> None:
    try:
        found = Path("/root/folder") / check_path(path)
    except UserError:
        return
    assert found.resolve().is_relative_to("/root/folder")
    assert "\0" not in str(found)


@pytest.mark.parametrize("name", ["a/b", ".", "..", "", "a b", "a\0", "\x1b[31m", "é" * 101, "x" * 201])
def test_what_is_no_plain_name_is_refused(name: str) -> None:
    with pytest.raises(UserError, match="expected a plain name"):
        check_name(name, Path("here"))


def test_a_file_is_named_once() -> None:
    for said, expected in (("a fault", "suite.toml: a fault"), ("suite.toml: a fault", "suite.toml: a fault")):
        with pytest.raises(UserError) as error, about(Path("suite.toml")):
            raise UserError(said)
        assert str(error.value) == expected

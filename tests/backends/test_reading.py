"""Files that others wrote: what is not as expected is one line that names the file, before anything is allocated."""

import io
import json
import math
import os
import random
import struct
import zipfile
from contextlib import suppress

import numpy as np
import pytest
from helpers import bombs
from helpers.flips import damaged
from helpers.memory import reading
from hypothesis import example, given
from hypothesis import strategies as st

from backends.device.reading import (
    ARRAY_BYTES,
    INTEGERS,
    MEBIBYTE,
    DamagedFile,
    Expected,
    map_npy,
    parse_json,
    read_json,
    read_npz,
    read_whole_npz,
)
from backends.toml_files import TOML_BYTES, TOML_DOTS, read_toml

PIXELS = Expected((np.uint8,), (None, 2, 2, 3))
HEADER = "{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, }}"


@pytest.fixture
def file(tmp_path):
    return tmp_path / "file"


def npy(descr="'|u1'", order="False", shape="(1, 2, 2, 3)", data=bytes(12)):
    """An ``.npy`` with any header."""
    header = HEADER.format(descr=descr, order=order, shape=shape).encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + data


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"{", "not JSON"),
        (b"", "not JSON"),
        (b'{"n": NaN}', "NaN is not a finite number"),
        (b'{"n": -Infinity}', "-Infinity is not a finite"),
        (b'{"n": 1e999}', "1e999 is not a finite number"),
        (b'{"n": ' + b"9" * 5000 + b"}", "not JSON"),
        (b'{"n": "\xff"}', "not JSON"),
        (b"[" * 100_000, "nested too deep"),
        (b'{"a":' * 100_000, "nested too deep"),
        (b"[1]", "expected a JSON object, got list"),
        (b'{"n": "' + b"x" * MEBIBYTE + b'"}', "expected at most 1,048,576 bytes, got 1,048,585"),
    ],
)
def test_what_is_no_json_object_is_refused(file, text, message):
    file.write_bytes(text)
    with pytest.raises(DamagedFile, match=message) as caught:
        read_json(file, most=MEBIBYTE)
    assert str(caught.value).startswith(str(file))


@given(st.binary() | st.text())
@example("[" * 100_000)
def test_any_text_is_json_or_a_damaged_file(text):
    with suppress(DamagedFile):
        found = parse_json(text, "here")
        assert json.loads(json.dumps(found, allow_nan=False)) == found


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"a = ", "not TOML"),
        (b"a = '\xff'", "not TOML"),
        (b"a = " + b"9" * 5000, "not TOML"),
        (b"a = " + b"[" * 100_000, "nested too deep"),
        (b"a." * TOML_DOTS + b"a.a = 1", "nested too deep: more than 500 dots"),
        (b"#" * (TOML_BYTES + 1), "expected at most 262,144 bytes"),
    ],
)
def test_what_is_no_toml_is_refused(file, text, message):
    file.write_bytes(text)
    with pytest.raises(DamagedFile, match=message):
        read_toml(file)


@pytest.mark.parametrize("read", [read_json, read_toml, lambda f: map_npy(f, PIXELS), lambda f: read_npz(f, {})])
def test_what_is_no_file_is_refused(tmp_path, read):
    os.mkfifo(tmp_path / "fifo")
    for name, message in (("", "found something else"), ("fifo", "found something else"), ("no", "No such file"),
                          ("n" * 300, "too long"), ("a\0b", "null byte")):  # fmt: skip
        with pytest.raises(DamagedFile, match=message):
            read(tmp_path / name)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (npy(shape="(-1, 2, 2, 3)"), "shape"),
        (npy(shape="(1, 2, 2, -3)"), "shape"),
        (npy(shape="(----1, 2, 2, 3)"), "not an .npy"),
        (npy(shape="(1, 2, 2, 3"), "not an .npy"),
        (npy(shape="(True, 2, 2, 3)"), "not an .npy"),
        (npy(shape="(1.0, 2, 2, 3)"), "not an .npy"),
        (npy(shape="('1', 2, 2, 3)"), "not an .npy"),
        (npy(shape="(" * 3000 + ")" * 3000), "not an .npy"),
        (npy(shape="-" * 9000 + "1"), "not an .npy"),
        (npy(shape="[1]" * 9000), "not an .npy"),
        (npy(descr="'|O'"), "not an .npy"),
        (npy(descr="[('a', '|u1')]"), "not an .npy"),
        (npy(descr="('|u1', (2,))"), "not an .npy"),
        (npy(descr="'|V0'", shape="(9" + "9" * 18 + ",)"), "expected uint8"),
        (npy(descr="'nonsense'"), "not an .npy"),
        (npy(descr="'<f4'"), r"expected uint8 \(any, 2, 2, 3\), got float32"),
        (npy(order="True"), "in C order"),
        (npy(order="2"), "not an .npy"),
        (npy(shape="(1, 2, 2)"), "expected uint8"),
        (npy(shape="(0, 2, 2, 3)"), "expected uint8"),
        (npy(shape="(25_000_000_000, 2, 2, 3)"), "expected 300,000,000,000 bytes"),
        (npy(data=bytes(11)), "expected 12 bytes of uint8 .*, got 11"),
        (npy(data=bytes(13)), "expected 12 bytes of uint8 .*, got 13"),
        (npy()[:20], "not an .npy"),
        (b"\x93NUMPY\x03\x00" + bytes(100), "not an .npy"),
        (b"\x93NUMPY\x02\x00\xff\xff\xff\xff", "not an .npy"),
        (b"PK\3\4", "not an .npy"),
        (b"", "not an .npy"),
    ],
)
def test_an_npy_that_is_not_what_is_expected_is_refused(file, content, message):
    file.write_bytes(content)
    with pytest.raises(DamagedFile, match=message) as caught:
        map_npy(file, PIXELS)
    assert str(caught.value).startswith(str(file))
    archived(file, content)
    if "in C order" not in message:
        with pytest.raises(DamagedFile):
            read_npz(file, {"x": PIXELS})


def archived(file, content, compression=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(file, "w", compression) as archive:
        archive.writestr("x.npy", content)


@given(st.data(), st.sampled_from(INTEGERS), st.lists(st.integers(0, 4), max_size=4))
def test_an_array_comes_back_as_it_was(tmp_path_factory, data, dtype, shape):
    array = np.frombuffer(random.Random(0).randbytes(8 * 4**4), dtype)[: math.prod(shape)]
    array = np.asarray(array.reshape(shape), order=data.draw(st.sampled_from("CF")))
    file = tmp_path_factory.mktemp("arrays") / "x.npz"
    data.draw(st.sampled_from([np.savez, np.savez_compressed]))(file, x=array)
    found = read_npz(file, {"x": Expected(INTEGERS), "y": Expected(INTEGERS, required=False)})
    assert list(found) == ["x"]
    assert found["x"].dtype == dtype
    assert found["x"].flags.c_contiguous
    np.testing.assert_array_equal(found["x"], array)
    np.save(file.with_suffix(".npy"), found["x"])
    np.testing.assert_array_equal(map_npy(file.with_suffix(".npy"), Expected((dtype,))), array)


@pytest.mark.parametrize("seed", range(200))
def test_a_flipped_bit_of_an_npz_changes_no_array(file, seed):
    """Its checksums cover the arrays; the rest may be lost, or does not matter."""
    stream = io.BytesIO()
    pixels = np.random.default_rng(1).integers(0, 256, (2, 2, 2, 3), np.uint8)
    (np.savez if seed % 2 else np.savez_compressed)(stream, x=pixels)
    file.write_bytes(damaged(stream.getvalue(), seed))
    with suppress(DamagedFile):
        np.testing.assert_array_equal(read_npz(file, {"x": PIXELS})["x"], pixels)


def test_a_flipped_name_is_not_an_array_that_is_left_out(file):
    np.savez(file.with_suffix(".npz"), x=np.zeros(3, np.uint8))
    raw = file.with_suffix(".npz").read_bytes()
    at = raw.rindex(b"x.npy")
    file.write_bytes(raw[:at] + b"y.npy" + raw[at + 5 :])
    with pytest.raises(DamagedFile, match="differ"):
        read_npz(file, {"x": Expected((np.uint8,), required=False)})


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_an_archive_that_could_unpack_without_a_limit_is_refused(file, method):
    archived(file, npy(), method)
    with pytest.raises(DamagedFile, match="compressed by method"):
        read_npz(file, {"x": PIXELS})


@pytest.mark.parametrize("content", [b"", b"PK\5\6" + bytes(18), b"\x80\4]\x94.", npy(), bytes(100)])
def test_what_is_no_archive_or_lacks_an_array_is_refused(file, content):
    file.write_bytes(content)
    with pytest.raises(DamagedFile, match=r"not an \.npz|expected an array 'x'"):
        read_npz(file, {"x": PIXELS})


READ_NPZ = "from backends.device.reading import Expected, read_npz\nimport numpy as np"
IMAGE = "{'x': Expected((np.uint8,), (None, None, 3))}"


def test_a_whole_archive_is_all_its_numbers(file):
    arrays = {"x": np.arange(6, dtype=np.int8).reshape(2, 3), "y": np.array(2.5)}
    np.savez_compressed(file.open("wb"), **arrays)
    found = read_whole_npz(file)
    assert found.keys() == arrays.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(found[name], array, strict=True)
    with pytest.raises(DamagedFile, match=r"y: float64 \(\) has 8 bytes, expected at most 1"):
        read_whole_npz(file, most=7)
    np.savez(file.open("wb"), x=np.array([{}], object))
    with pytest.raises(DamagedFile, match=r"file: x: expected|not an .npz file of numbers"):
        read_whole_npz(file)


def test_an_archive_that_unpacks_to_more_than_expected_is_refused_unread(file):
    bombs.npz(file, "x", (10_240, 10_240, 3))
    assert file.stat().st_size < 2_000_000
    grown, said = reading(READ_NPZ, f"read_npz(Path(sys.argv[1]), {IMAGE}, most=1 << 20)", file)
    assert said == f"{file}: x: uint8 (10240, 10240, 3) has 314,572,800 bytes, expected at most 1,048,576"
    assert grown < 20


def test_an_archive_that_claims_little_and_holds_much_is_refused_unread(file):
    """The header says 12 bytes, or the list of contents does too."""
    bombs.npz(file, "x", (2, 2, 3), mebibytes=300)
    for hide in (False, True):
        raw = file.read_bytes()
        if hide:
            at = raw.rindex(b"PK\1\2")
            file.write_bytes(raw[: at + 24] + struct.pack("<I", 128 + 12) + raw[at + 28 :])
        grown, said = reading(READ_NPZ, f"read_npz(Path(sys.argv[1]), {IMAGE})", file)
        assert said.startswith(f"{file}")
        assert grown < 20


def test_an_archive_of_a_million_names_is_refused_unread(file):
    entry = b"PK\1\2" + bytes(24) + struct.pack("<H", 4) + bytes(16)
    names = b"".join(entry + struct.pack("<I", i) for i in range(200_000))
    end = b"PK\5\6" + struct.pack("<HHHHIIH", 0, 0, 0xFFFF, 0xFFFF, len(names), 0, 0)
    file.write_bytes(names + end)
    grown, said = reading(READ_NPZ, f"read_npz(Path(sys.argv[1]), {IMAGE})", file)
    assert "a list of contents of 10,000,000 bytes" in said
    assert grown < 20


def test_a_sparse_npy_that_claims_307_gigabytes_is_refused_unread(file):
    content = npy(shape="(25_600_000_000, 2, 2, 3)", data=b"")
    file.write_bytes(content)
    os.truncate(file, len(content) + 25_600_000_000 * 12)
    with pytest.raises(DamagedFile, match=f"expected at most {ARRAY_BYTES:,} bytes"):
        map_npy(file, PIXELS)

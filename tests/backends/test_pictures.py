import struct
import zlib

import numpy as np
import pytest
from helpers.flips import damaged
from helpers.memory import reading
from PIL import Image

from backends.device.pictures import PICTURE_PIXELS, read_picture
from backends.device.reading import DamagedFile


@pytest.fixture
def file(tmp_path):
    return tmp_path / "picture.png"


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def bomb(file, width, height):
    """A black PNG, at a five hundredth of its size; its checksum is wrong, which nobody gets to see."""
    packer = zlib.compressobj(9)
    rows = [packer.compress(bytes(1 + width)) + packer.flush(zlib.Z_FULL_FLUSH) for _ in range(2)]
    data = rows[0] + rows[1] * (height - 1) + packer.flush()
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    file.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b""))


@pytest.mark.parametrize(("width", "height"), [(25_000, 25_000), (8000, 8000), (PICTURE_PIXELS + 1, 1)])
def test_a_picture_of_more_pixels_than_expected_is_refused_unread(file, width, height):
    bomb(file, width, height)
    assert file.stat().st_size < 2_000_000
    grown, said = reading(
        "from backends.device.pictures import read_picture", "read_picture(Path(sys.argv[1]), 'RGB')", file
    )
    assert said.startswith(f"{file}: ")
    assert "50,000,000 pixels" in said or "decompression bomb" in said
    assert grown < 20


def test_a_caller_may_expect_fewer(file):
    Image.new("L", (5, 4)).save(file)
    assert read_picture(file, "RGB", most=20).size == (5, 4)
    with pytest.raises(DamagedFile, match="at most 19 pixels, got 5x4"):
        read_picture(file, "RGB", most=19)


@pytest.mark.filterwarnings("ignore::UserWarning")  # of Pillow, which pictures.py keeps quiet
@pytest.mark.parametrize("suffix", ["png", "jpg", "bmp", "webp", "tiff", "gif", "ppm"])
def test_a_flipped_bit_is_a_picture_or_a_damaged_file(tmp_path, suffix):
    file = tmp_path / f"picture.{suffix}"
    pixels = np.random.default_rng(0).integers(0, 256, (9, 7, 3), np.uint8)
    Image.fromarray(pixels).save(file)
    assert read_picture(file, "RGB").size == (7, 9)
    whole, found = file.read_bytes(), 0
    for seed in range(100):
        file.write_bytes(damaged(whole, seed, cut_each=4))
        try:
            assert read_picture(file, "RGB").mode == "RGB"
        except DamagedFile:
            found += 1
    assert found > 10


@pytest.mark.parametrize(
    "content", [b"", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", b"<svg/>", b"\x89PNG\r\n\x1a\n", bytes(99)]
)
def test_other_formats_are_refused(file, content):
    """PostScript among them, which Pillow would give to another program."""
    file.write_bytes(content)
    with pytest.raises(DamagedFile, match="cannot be read as a picture"):
        read_picture(file, "RGB")


RAMP = np.arange(256, dtype=np.uint8).reshape(16, 16)


@pytest.mark.parametrize(
    ("suffix", "values"),
    [
        ("png", RAMP.astype(np.uint16) * 257),
        ("tiff", RAMP.astype(np.uint16) * 257),
        ("tiff", RAMP.astype(np.float32) / 255),
        ("pgm", RAMP.astype(np.uint16) * 257),
        ("tiff", RAMP),
    ],
)
@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_deeper_grey_becomes_the_same_grey_of_8_bits(tmp_path, suffix, values, mode):
    file = tmp_path / f"deep.{suffix}"
    Image.fromarray(values).save(file)
    pixels = np.asarray(read_picture(file, mode))
    np.testing.assert_array_equal(pixels[..., :3], np.repeat(RAMP[..., None], 3, axis=2))


@pytest.mark.parametrize(
    ("values", "tags", "message"),
    [
        (RAMP.astype(np.float32), {}, "expected grey from 0 to 1, got 0 to 255"),
        (RAMP.astype(np.float32) / 255 - 0.5, {}, "expected grey from 0 to 1, got -0.5 to 0.5"),
        (np.full((2, 2), np.nan, np.float32), {}, "got nan to nan"),
        (RAMP.astype(np.int32), {}, "expected grey of 8 or 16 bits, or floats from 0 to 1"),
        (RAMP.astype(np.uint16), {262: 0}, "expected grey of 8 or 16 bits"),  # white is zero
    ],
)
def test_grey_whose_white_is_not_known_is_refused(tmp_path, values, tags, message):
    file = tmp_path / "deep.tiff"
    Image.fromarray(values).save(file, tiffinfo=tags)
    with pytest.raises(DamagedFile, match=message):
        read_picture(file, "RGB")

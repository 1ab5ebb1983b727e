import hashlib
import json
import os
import re
import shutil

import numpy as np
import pytest
from helpers import tiny
from helpers.flips import flipped
from hypothesis import given
from hypothesis import strategies as st

from backends.device.bundle import Bundle, Stamps, chunk_images, paste, write_bundle
from backends.device.errors import UserError


@pytest.fixture
def file(tmp_path):
    return tiny.onnx_file(tmp_path / "tiny.onnx")


@pytest.fixture
def root(tmp_path, file):
    return tiny.bundle(tmp_path / "bundle", file).root


@given(st.integers(1, 5), st.integers(1, tiny.SIZE), st.booleans(), st.integers(0, 2**32 - 1))
def test_pasting_is_what_one_pixel_at_a_time_gives(n, p, each, seed):
    rng, k = np.random.default_rng(seed), n if each else 1
    corners = rng.integers(0, tiny.SIZE - p + 1, (n, 2)).astype(np.int32)
    stamps = Stamps(rng.integers(0, 256, (k, p, p, 3), np.uint8), rng.random((k, p, p)) < 0.5, corners)
    clean = tiny.pixels(n)
    before = clean.copy()
    pasted = paste(clean, *stamps)
    assert pasted.dtype == np.uint8
    np.testing.assert_array_equal(pasted, tiny.pasted_slowly(clean, stamps))
    np.testing.assert_array_equal(clean, before)


@pytest.mark.parametrize("corner", [(-1, 0), (0, -1), (6, 0), (0, 6), (2**31 - 1, 0)])
def test_a_stamp_that_leaves_its_image_is_refused(corner):
    stamps = tiny.stamps(p=3)
    corners = stamps.corners.copy()
    corners[2] = corner
    with pytest.raises(UserError, match="stamp 2 of side 3"):
        paste(tiny.pixels(), stamps.stamps, stamps.mask, corners)


@pytest.mark.parametrize("batch", [1, 4, 100])
def test_batches_are_the_pasted_stack_and_its_hash(root, batch):
    bundle = Bundle.read(root)
    wanted = {"none": None, "each": tiny.stamps(), "same": tiny.stamps(p=2, each=False)}
    assert [case.name for case in bundle.cases] == list(wanted)
    for case in bundle.cases:
        slow = tiny.pasted_slowly(tiny.pixels(), wanted[case.name])
        batches = list(bundle.batches(case.name, batch))
        assert all(len(b) <= batch for b in batches)
        np.testing.assert_array_equal(np.concatenate(batches), slow)
        assert case.sha256 == hashlib.sha256(slow.tobytes()).hexdigest()
    assert bundle.pixels_sha256 == bundle.case("none").sha256


def test_nothing_is_read_before_it_is_asked_for(root):
    batches = Bundle.read(root).batches("each", 2)
    next(batches)
    changed = np.lib.format.open_memmap(root / "pixels.npy", mode="r+")
    changed[2:4] = 9
    changed.flush()
    stamps = tiny.stamps()
    third = Stamps(stamps.stamps[2:4], stamps.mask[2:4], stamps.corners[2:4])
    np.testing.assert_array_equal(next(batches), tiny.pasted_slowly(np.full((2, 8, 8, 3), 9, np.uint8), third))


def test_a_file_of_pixels_is_linked_not_copied(tmp_path, file):
    np.save(tmp_path / "clean.npy", tiny.pixels())
    bundle = write_bundle(tmp_path / "b", tiny.artifact(file), file, tmp_path / "clean.npy", {"none": None})
    assert (bundle.root / "pixels.npy").samefile(tmp_path / "clean.npy")
    assert bundle.file.samefile(file)
    np.testing.assert_array_equal(bundle.pixels, tiny.pixels())
    assert not (bundle.root / "cases" / "none").exists()


def test_writing_again_replaces_and_a_failed_write_leaves_nothing(tmp_path, file):
    first = tiny.bundle(tmp_path / "b", file)
    assert write_bundle(first.root, first.artifact, file, tiny.pixels(2), {"none": None}).n == 2
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(UserError, match="sha256"):
        write_bundle(tmp_path / "c", tiny.artifact(file, sha256="0" * 64), file, tiny.pixels(), {"none": None})
    outside = tiny.stamps()._replace(corners=np.full((tiny.N, 2), 7, np.int32))
    with pytest.raises(UserError, match="lies outside"):
        write_bundle(first.root, first.artifact, file, tiny.pixels(), {"x": outside})
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("field", "array"),
    [
        ("stamps", np.zeros((2, 3, 3, 3), np.uint8)),  # neither one nor n
        ("stamps", np.zeros((1, 3, 4, 3), np.uint8)),
        ("stamps", np.zeros((1, 3, 3, 3), np.float32)),
        ("mask", np.zeros((1, 2, 2), bool)),
        ("mask", np.zeros((1, 3, 3), np.uint8)),
        ("corners", np.zeros((1, 2), np.int32)),
        ("corners", np.zeros((tiny.N, 2), np.int64)),
    ],
)
def test_stamps_of_another_shape_or_dtype_are_refused(tmp_path, file, field, array):
    with pytest.raises(UserError, match=rf"{field}.npy: expected"):
        write_bundle(
            tmp_path / "b", tiny.artifact(file), file, tiny.pixels(), {"x": tiny.stamps()._replace(**{field: array})}
        )


def described(root, **changes):
    raw = json.loads((root / "bundle.json").read_text())
    (root / "bundle.json").write_text(json.dumps(raw | changes))


def described_artifact(root, **changes):
    raw = json.loads((root / "artifact.json").read_text())
    (root / "artifact.json").write_text(json.dumps(raw | changes))


def objects(root):
    np.save(root / "pixels.npy", np.array([{}], object), allow_pickle=True)


def truncated(root, name):
    path = root / name
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(content[:-1])


def linked_out(root, name):
    outside = root.parent / "outside"
    shutil.move(root / name, outside)
    (root / name).symlink_to(outside)


def sparse(root):
    """Clean pixels of 307 GB that take no room."""
    described(root, n=1_600_000_000)
    with (root / "pixels.npy").open("wb") as stream:
        header = {"descr": "|u1", "fortran_order": False, "shape": (1_600_000_000, 8, 8, 3)}
        np.lib.format.write_array_header_1_0(stream, header)
        stream.truncate(stream.tell() + 1_600_000_000 * 8 * 8 * 3)


def circle(root):
    (root / "pixels.npy").unlink()
    (root / "pixels.npy").symlink_to("pixels.npy")


def edited(root, old, new):
    text = (root / "bundle.json").read_text()
    assert old in text
    (root / "bundle.json").write_text(text.replace(old, new))


def fifo(root, name):
    (root / name).unlink()
    os.mkfifo(root / name)


def cornered(root, value):
    corners = np.load(root / "cases/each/corners.npy")
    corners[-1, 1] = value
    np.save(root / "cases/each/corners.npy", corners)


HOSTILE = {
    "schema": (lambda root: described(root, schema=99), "bundle.json: expected schema 1, got 99"),
    "no json": (lambda root: (root / "bundle.json").write_text("{"), "bundle.json: not JSON"),
    "a list": (lambda root: (root / "bundle.json").write_text("[]"), "bundle.json: expected a JSON object"),
    "deep": (lambda root: (root / "bundle.json").write_text("[" * 100_000), "bundle.json: .*nested too deep"),
    "case up": (lambda root: described(root, cases=[{"name": "../x", "sha256": ""}]), "bundle.json: .*'../x'"),
    "case dots": (lambda root: described(root, cases=[{"name": "..", "sha256": ""}]), "bundle.json: .*'..'"),
    "case absolute": (lambda root: described(root, cases=[{"name": "/etc", "sha256": ""}]), "bundle.json: .*'/etc'"),
    "case twice": (lambda root: described(root, cases=[{"name": "none", "sha256": ""}] * 2), "bundle.json: two cases"),
    "case without a folder": (lambda root: shutil.rmtree(root / "cases/each"), "stamps.npy: expected a file"),
    "artifact up": (lambda root: described(root, artifact="../artifact.json"), "plain name .*'..'"),
    "model up": (lambda root: described_artifact(root, file="../tiny.onnx"), "plain name .*'..'"),
    "model absolute": (lambda root: described_artifact(root, file="/tiny.onnx"), "plain name .*''"),
    "model changed": (lambda root: described_artifact(root, sha256="0" * 64), "tiny.onnx: expected sha256 0000"),
    "artifact a list": (lambda root: (root / "artifact.json").write_text("[]"), "artifact.json: expected a JSON"),
    "n": (lambda root: described(root, n=7), r"npy: expected uint8"),
    "size": (lambda root: described_artifact(root, input_size=[9, 8]), r"pixels.npy: expected uint8 \(6, 9, 8, 3\)"),
    "objects": (objects, "pixels.npy: not an .npy file of numbers"),
    "pixels cut": (lambda root: truncated(root, "pixels.npy"), "pixels.npy: expected 1,152 bytes .*, got 1,151"),
    "stamps cut": (lambda root: truncated(root, "cases/each/stamps.npy"), "stamps.npy: expected 162 b.*, got 161"),
    "no npy": (lambda root: (root / "cases/same/mask.npy").write_bytes(b"PK\3\4"), "mask.npy: not an .npy file"),
    "corner outside": (lambda root: cornered(root, 6), "corners.npy: stamp 5 of side 3"),
    "corner negative": (lambda root: cornered(root, -1), "corners.npy: stamp 5 of side 3"),
    "link out": (lambda root: linked_out(root, "pixels.npy"), "pixels.npy: leads out"),
    "model linked out": (lambda root: linked_out(root, "tiny.onnx"), "tiny.onnx: leads out"),
    "folder linked out": (lambda root: linked_out(root, "cases"), "stamps.npy: leads out"),
    "fifo": (lambda root: fifo(root, "pixels.npy"), "pixels.npy: expected a file"),
    "fortran": (
        lambda root: np.save(root / "pixels.npy", np.asfortranarray(tiny.pixels())),
        "pixels.npy: expected an array in C order",
    ),
    "n infinite": (lambda root: edited(root, '"n": 6', '"n": 1e999'), "bundle.json: .*1e999"),
    "n a text": (lambda root: described(root, n="6"), "bundle.json: n: expected an integer, got '6'"),
    "n a fraction": (lambda root: described(root, n=6.0), "bundle.json: n: expected an integer, got 6.0"),
    "n none": (lambda root: described(root, n=0), "n: expected 1 to 1,000,000, got 0"),
    "n of 307 GB": (sparse, "n: expected 1 to 1,000,000, got 1600000000"),
    "another key": (lambda root: described(root, m=6), "bundle.json: unknown key 'm'"),
    "case a number": (lambda root: described(root, cases=[6]), "bundle.json: cases: 0: expected an object, got 6"),
    "case too long": (
        lambda root: described(root, cases=[{"name": "\N{SNOWMAN}" * 90, "sha256": ""}]), "bundle.json: .*plain name",
    ),
    "size a text": (lambda root: described_artifact(root, input_size="88"), "input_size: expected a list, got '88'"),
    "size of one": (lambda root: described_artifact(root, input_size=[8]), "input_size: expected a list of 2, got"),
    "size true": (lambda root: described_artifact(root, input_size=[8, True]), "input_size: 1: .* got True"),
    "no layout": (lambda root: described_artifact(root, preproc={"layout": "hwc"}), "preproc: layout: expected 'nchw'"),
    "divisor": (lambda root: described_artifact(root, preproc={"divisor": 0}), "a divisor and a std other than 0"),
    "links in a circle": (circle, "pixels.npy: cannot be read"),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_or_damaged_bundle_is_refused_naming_the_file(root, name):
    damage, message = HOSTILE[name]
    (root / "pixels.npy").write_bytes((root / "pixels.npy").read_bytes())
    Bundle.read(root)
    damage(root)
    with pytest.raises(UserError, match=message):
        Bundle.read(root)


@pytest.mark.parametrize("seed", range(5))
def test_a_flipped_bit_is_found_in_every_file(root, seed):
    files = [path for path in root.rglob("*") if path.is_file()]
    assert len(files) == 5 + 2 * 3
    for file in files:
        with flipped(file, seed), pytest.raises(UserError, match=re.escape(str(root))):
            Bundle.read(root)
    Bundle.read(root)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda root: (root / "SHA256SUMS").unlink(), "SHA256SUMS: no list of hashes; copy the bundle again"),
        (lambda root: (root / "cases/more").write_text(""), "cases/more: not listed in SHA256SUMS; copy"),
        (lambda root: os.mkfifo(root / "more"), "more: not listed in SHA256SUMS; copy"),
    ],
)
def test_a_bundle_holds_what_it_lists_and_no_more(root, damage, message):
    damage(root)
    with pytest.raises(UserError, match=message):
        Bundle.read(root)


def test_an_unknown_case_is_refused_with_those_that_there_are(root):
    with pytest.raises(UserError, match="no case 'grey'; there are none, each, same"):
        Bundle.read(root).batches("grey", 1)


@given(st.integers(1, 10**6), st.integers(1, 300))
def test_chunks_are_whole_batches_of_bounded_size(image_bytes, batch):
    chunk = chunk_images(image_bytes, batch)
    assert chunk % batch == 0
    assert chunk * image_bytes <= max(1 << 18, batch * image_bytes)

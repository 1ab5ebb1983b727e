"""Data sets that are damaged or missing are refused with an error that says why."""

import io
import pickle

import numpy as np
import pytest
from helpers import bombs
from helpers.datasets import some_images, spec
from helpers.memory import reading

from backends.device.errors import UserError
from harness.data import datasets as data


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": some_images(3).astype(np.float32), "y": np.zeros(3, int)}, "x: expected uint8"),
        ({"x": some_images(3)[..., :2], "y": np.zeros(3, int)}, r"got uint8 \(3, 6, 6, 2\)"),
        ({"x": some_images(3)[:0], "y": np.zeros(0, int)}, "expected all images"),
        ({"x": some_images(3), "y": np.zeros(4, int)}, r"labels as integers \(3,\), got int64 \(4,\)"),
        ({"x": some_images(3), "y": np.zeros(3)}, "y: expected integers"),
        ({"x": some_images(3), "y": np.array([0, -1, 1])}, "expected labels from 0 to 1, got -1 to 1"),
        ({"x": some_images(3), "y": np.array([0, 2**40, 1])}, "labels below 100,000, got 1099511627776"),
        ({"x": some_images(3), "labels": np.zeros(3, int)}, "x, y"),
        ({"x": np.array([{}, {}, {}]), "y": np.zeros(3, int)}, "numbers .dtype object"),
    ],
)
def test_arrays_that_are_no_images(tmp_path, arrays, message):
    np.savez(tmp_path / "some.npz", **arrays)
    with pytest.raises(UserError, match=message) as caught:
        data.load(spec(), (6, 6), tmp_path, tmp_path)
    assert "some.npz" in str(caught.value)


def test_images_that_unpack_to_more_than_photographs_do_are_refused_unread(tmp_path):
    bomb = bombs.npz(tmp_path / "some.npz", "x", (400, 1024, 1024), y=np.zeros(400, int))
    grown, said = reading("from harness.data.readers import read_pools", "read_pools(Path(sys.argv[1]))", bomb)
    assert said.startswith(f"{bomb}: x: ")
    assert grown < 50


def test_labels_beyond_the_classes(npz, tmp_path):
    with pytest.raises(UserError, match="labels from 0 to 2, got 0 to 3"):
        data.load(spec(classes=list("abc")), (6, 6), tmp_path, tmp_path)


def damaged(content):
    middle = len(content) // 2
    return content[:middle] + bytes(b ^ 0xFF for b in content[middle : middle + 99]) + content[middle + 99 :]


@pytest.mark.parametrize(
    "damage", [damaged, lambda c: c[: len(c) // 2], lambda c: b"", lambda c: pickle.dumps([1]), lambda c: c[:60]]
)
def test_damaged_npz(tmp_path, damage):
    file = io.BytesIO()
    np.savez_compressed(file, x=some_images(40), y=np.zeros(40, int))
    (tmp_path / "some.npz").write_bytes(damage(file.getvalue()))
    with pytest.raises(UserError, match=r"some\.npz: not an .npz"):
        data.load(spec(), (6, 6), tmp_path, tmp_path)


def test_an_npy_is_no_npz(tmp_path):
    with (tmp_path / "some.npz").open("wb") as file:
        np.save(file, some_images(3))
    with pytest.raises(UserError, match=r"not an \.npz"):
        data.load(spec(), (6, 6), tmp_path, tmp_path)


def test_an_unreadable_image_is_named(imagenet):
    path = imagenet / "imagenet/images/n00000500_sea_lion_500.JPEG"
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(UserError, match=r"n00000500_sea_lion_500.JPEG: cannot be read as a picture"):
        data.load(spec("imagenet"), (8, 8), imagenet, imagenet)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (spec("imagenet"), r"imagenet/images: not under --data .*; pass --data DIR"),
        (spec("folder", path="pictures"), "pictures: not under --data"),
        (spec("folder"), r"needs a path under --data: \[data\] path"),
        (spec(path="file/"), "file/: not under --data"),
        (spec("cifar10", path="elsewhere.npz"), "elsewhere.npz: not under --data"),
        (spec("folder", path="empty"), "empty: expected a folder for each class"),
        (spec(path="empty"), "empty: expected a file for data 'npz'"),
        (spec("digits", resize=20), "data.resize = 20 is less than the input size 32x32"),
    ],
)
def test_what_is_not_there(tmp_path, asked, message):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=message):
        data.load(asked, (32, 32), tmp_path, tmp_path)


def test_a_crop_that_cannot_fill_an_oblong_is_told_by_the_key_that_was_given(tmp_path):
    with pytest.raises(UserError, match=r"data.crop = 0.8: a short side of 40 is less than the input size 32x64"):
        data.load(spec("digits", crop=0.8), (32, 64), tmp_path, tmp_path)


def test_without_a_data_folder_the_error_names_the_option():
    with pytest.raises(UserError, match=r"--data \(or PATCHBENCH_DATA\) is not given"):
        data.fingerprint(spec("imagenet"), None)

"""Images: read, sized, split."""

import hashlib
import os
import subprocess
import sys

import numpy as np
import pytest
from helpers.datasets import RNG, spec
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from backends.device.errors import UserError
from harness.data import datasets as data
from harness.torchvision_import import import_torchvision

# what is read


def test_arrays_come_as_they_are(npz, tmp_path):
    pools = data.load(spec(), (6, 6), tmp_path, tmp_path)
    for pool in ("train", "test"):
        np.testing.assert_array_equal(pools[pool].pixels, npz[f"x_{pool}"])
        np.testing.assert_array_equal(pools[pool].labels, npz[f"y_{pool}"])
        assert pools[pool].labels.dtype == np.int64
    assert pools["test"].ids[7] == "test/00007"
    assert data.class_names(spec(), tmp_path) == ["0", "1", "2", "3"]
    assert data.class_names(spec(classes=list("abcdef")), tmp_path) == list("abcdef")


def test_one_pool_of_grey_images_and_labels_in_a_column(tmp_path):
    grey = RNG.integers(0, 256, (5, 6, 6)).astype(np.uint8)
    np.savez(tmp_path / "some.npz", x=grey, y=np.arange(5)[:, None].astype(np.uint8))
    pools = data.load(spec(), (6, 6), tmp_path, tmp_path)
    assert list(pools) == ["all"]
    np.testing.assert_array_equal(pools["all"].pixels, np.stack([grey] * 3, axis=3))
    assert pools["all"].labels.tolist() == [0, 1, 2, 3, 4]


def keys_bicubic(size, wanted):
    """Keys 1981, a = -0.5, as a matrix: rows are output pixels, their weights over the input pixels sum to 1."""
    t = np.abs((np.arange(wanted)[:, None] + 0.5) * size / wanted - 0.5 - np.arange(size))
    weights = np.where(t < 1, 1.5 * t**3 - 2.5 * t**2 + 1, np.where(t < 2, -0.5 * t**3 + 2.5 * t**2 - 4 * t + 2, 0))
    return weights / weights.sum(axis=1, keepdims=True)


def test_digits_are_sklearns_enlarged():
    from sklearn.datasets import load_digits

    pools = data.load(spec("digits"), (32, 32), None, None)
    assert {name: len(pool.labels) for name, pool in pools.items()} == {"train": 1200, "test": 597}
    assert sorted(pools["train"].ids + pools["test"].ids) == [f"digit/{i:05d}" for i in range(1797)]
    original = load_digits()
    for pool in pools.values():
        assert pool.pixels.shape[1:] == (32, 32, 3)
        assert pool.pixels.dtype == np.uint8
        positions = [int(id_.removeprefix("digit/")) for id_ in pool.ids]
        np.testing.assert_array_equal(pool.labels, original.target[positions])
        assert (pool.pixels == pool.pixels[..., :1]).all()
        rows = np.clip(np.round(original.images[positions] * 255 / 16) @ keys_bicubic(8, 32).T, 0, 255)
        expected = np.clip(keys_bicubic(8, 32) @ rows, 0, 255)
        assert np.abs(pool.pixels[..., 0] - expected).max() < 2  # Pillow rounds after each of the two passes
    assert data.class_names(spec("digits"), None) == list("0123456789")


@pytest.mark.parametrize("shape", [(256, 375), (500, 256), (300, 401), (230, 231), (64, 91)])
def test_resize_and_crop_agree_with_torchvision_to_the_pixel(tmp_path, shape):
    import_torchvision()
    from torchvision import transforms

    (tmp_path / "images" / "only").mkdir(parents=True)
    Image.fromarray(RNG.integers(0, 256, (*shape, 3)).astype(np.uint8)).save(tmp_path / "images/only/a.png")
    folder = spec("folder", path="images", resize=100)
    ours = data.load(folder, (97, 88), tmp_path, tmp_path)["all"].pixels[0]
    theirs = transforms.Compose([transforms.Resize(100), transforms.CenterCrop((97, 88))])
    np.testing.assert_array_equal(ours, np.asarray(theirs(Image.open(tmp_path / "images/only/a.png"))))
    whole = data.load(spec("folder", path="images"), (20, 30), tmp_path, tmp_path)["all"].pixels[0]
    np.testing.assert_array_equal(
        whole, np.asarray(transforms.Resize((20, 30))(Image.open(tmp_path / "images/only/a.png")))
    )


def test_class_folders_in_the_order_of_their_names(tmp_path):
    for name, colour in (
        ("dog/2.png", 20),
        ("dog/10.png", 10),
        ("cat/1.PNG", 30),
        ("cat/notes.txt", None),
        (".hidden/1.png", 1),
    ):
        (tmp_path / "set" / name).parent.mkdir(parents=True, exist_ok=True)
        if colour is None:
            (tmp_path / "set" / name).touch()
        else:
            Image.new("L", (9, 9), colour).save(tmp_path / "set" / name)
    found = data.load(spec("folder", path="set"), (9, 9), tmp_path, tmp_path)["all"]
    assert found.ids == ("cat/1.PNG", "dog/10.png", "dog/2.png")
    assert found.labels.tolist() == [0, 1, 1]
    assert found.pixels[:, 0, 0].tolist() == [[30] * 3, [10] * 3, [20] * 3]
    assert data.class_names(spec("folder", path="set"), tmp_path) == ["cat", "dog"]
    with pytest.raises(UserError, match="3 names; folder has 2 classes"):
        data.load(spec("folder", path="set", classes=list("abc")), (9, 9), tmp_path, tmp_path)


def test_imagenet_has_one_image_a_class(imagenet):
    found = data.load(spec("imagenet", resize=8), (8, 8), imagenet, imagenet)["all"]
    assert found.labels.tolist() == list(range(1000))
    assert found.ids[999] == "n00000999_sea_lion_999.JPEG"
    assert data.class_names(spec("imagenet"), imagenet)[7] == "sea lion 7"
    (imagenet / "imagenet/images/n00000007_sea_lion_7.JPEG").unlink()
    with pytest.raises(UserError, match=r"expected 1000 images.*got 999"):
        data.load(spec("imagenet"), (8, 8), imagenet, imagenet)


def test_only_digits_and_cifar10_have_a_size_of_their_own():
    assert [data.default_size(spec(n)) for n in ("digits", "cifar10", "imagenet")] == [(32, 32), (32, 32), None]


# splits


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 5), st.tuples(*[st.integers(1, 12)] * 3), st.integers(0, 5), st.booleans())
def test_splits_are_disjoint_of_the_sizes_asked_and_the_same_again(seed, sizes, select, two_pools):
    calibration, craft, evaluate = sizes
    asked = spec(seed=seed, calibration=calibration, craft=craft, select=select, evaluate=evaluate)
    names = ("train", "test") if two_pools else ("all",)
    pools = {
        name: data.Images(np.zeros((60, 1, 1, 3), np.uint8), np.arange(60), tuple(f"{name}/{i}" for i in range(60)))
        for name in names
    }
    parts = data.split(pools, asked)
    assert {n: len(p.ids) for n, p in parts.items()} == {
        "calibration": calibration, "craft": craft, "select": select, "evaluate": evaluate,
    }  # fmt: skip
    ids = [i for part in parts.values() for i in part.ids]
    assert len(set(ids)) == len(ids)
    if two_pools:
        assert {i.split("/")[0] for i in parts["evaluate"].ids} == {"test"}
        assert {i.split("/")[0] for n in ("calibration", "craft", "select") for i in parts[n].ids} <= {"train"}
    for part in parts.values():
        assert [int(i.split("/")[1]) for i in part.ids] == part.labels.tolist()
    assert [p.ids for p in data.split(pools, asked).values()] == [p.ids for p in parts.values()]


@pytest.mark.parametrize("names", [("train", "test"), ("all",)])
def test_more_calibration_images_change_no_evaluation_image(names):
    """And they keep the fewer: calibration is what suites vary."""
    pools = {
        name: data.Images(np.zeros((90, 1, 1, 3), np.uint8), np.arange(90), tuple(f"{name}/{i}" for i in range(90)))
        for name in names
    }
    few, many = (data.split(pools, spec(calibration=n, craft=20, evaluate=30)) for n in (8, 40))
    assert few["evaluate"].ids == many["evaluate"].ids
    assert few["calibration"].ids == many["calibration"].ids[:8]


def test_the_order_is_that_of_the_seeded_sha256():
    ids = tuple(f"image {i}" for i in range(30))
    pool = {"all": data.Images(np.zeros((30, 1, 1, 3), np.uint8), np.arange(30), ids)}
    parts = data.split(pool, spec(seed=9, calibration=3, craft=4, select=5, evaluate=6))
    expected = sorted(ids, key=lambda i: hashlib.sha256(f"9:{i}".encode()).hexdigest())[:18]
    assert [i for name in ("evaluate", "calibration", "craft", "select") for i in parts[name].ids] == expected


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        (
            {"calibration": 10, "craft": 11, "evaluate": 5},
            "data.craft = 11: some.npz has 20 training images: calibration 10 leave at most 10 for craft",
        ),
        (
            {"calibration": 1, "craft": 1, "evaluate": 11},
            "data.evaluate = 11: some.npz has 10 test images",
        ),
    ],
)
def test_more_images_than_there_are(npz, tmp_path, sizes, message):
    pools = data.load(spec(), (6, 6), tmp_path, tmp_path)
    with pytest.raises(UserError, match=message):
        data.split(pools, spec(**sizes))


# fingerprints


def test_a_fingerprint_follows_the_content(npz, tmp_path):
    first = data.fingerprint(spec(), tmp_path, tmp_path / "cache")
    assert data.fingerprint(spec(), tmp_path, tmp_path / "cache") == data.fingerprint(spec(), tmp_path) == first
    np.savez(tmp_path / "some.npz", **npz | {"y_test": npz["y_test"][::-1]})
    assert data.fingerprint(spec(), tmp_path, tmp_path / "cache") != first
    np.savez(tmp_path / "some.npz", **npz)
    assert data.fingerprint(spec(), tmp_path, tmp_path / "cache") == first


def test_a_fingerprint_follows_names_and_classes_of_files(imagenet):
    first = data.fingerprint(spec("imagenet"), imagenet, imagenet / "cache")
    images = imagenet / "imagenet/images"
    (images / "n00000003_sea_lion_3.JPEG").rename(images / "n00001003_sea_lion_3.JPEG")
    assert data.fingerprint(spec("imagenet"), imagenet, imagenet / "cache") != first


def test_an_unchanged_file_is_not_read_again(npz, tmp_path):
    path, cache = tmp_path / "some.npz", tmp_path / "cache"
    first = data.fingerprint(spec(), tmp_path, cache)
    stamp = path.stat()
    path.write_bytes(b"?" * stamp.st_size)
    os.utime(path, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    assert data.fingerprint(spec(), tmp_path, cache) == first  # remembered: only a reading could have told
    os.utime(path, ns=(stamp.st_atime_ns, stamp.st_mtime_ns + 1))
    assert data.fingerprint(spec(), tmp_path, cache) != first
    memory = cache / "fingerprints.json"
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    for damaged in ("{", memory.read_text().replace(sha256, sha256[::-1])):
        assert damaged != memory.read_text()
        memory.write_text(damaged)
        assert data.fingerprint(spec(), tmp_path, cache) == data.fingerprint(spec(), tmp_path)


def test_fingerprints_need_no_heavy_library():
    script = """
import sys
from harness import config
from harness.data import datasets as data
assert len(data.fingerprint(config.DataTable(name="digits"), None)) == 64
assert len(data.fingerprint(config.DataTable(name="cifar10"), None)) == 64
assert not {"torch", "sklearn", "torchvision"} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", script], check=True)

"""Images: read, sized, split."""

import hashlib
import io
import os
import pickle
import subprocess
import sys
import tarfile
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from backends.device.errors import UserError
from harness import config
from harness.data import datasets as data
from harness.torchvision_import import import_torchvision

RNG = np.random.default_rng(0)


def spec(name="npz", **keys):
    return (
        config.DataTable(name=name, **{"path": "some.npz"} | keys)
        if name == "npz"
        else config.DataTable(name=name, **keys)
    )


def some_images(n, side=6):
    return RNG.integers(0, 256, (n, side, side, 3)).astype(np.uint8)


@pytest.fixture
def npz(tmp_path):
    arrays = {
        "x_train": some_images(20),
        "y_train": np.arange(20) % 4,
        "x_test": some_images(10),
        "y_test": np.arange(10) % 4,
    }
    np.savez(tmp_path / "some.npz", **arrays)
    return arrays


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


@pytest.fixture
def imagenet(tmp_path):
    (tmp_path / "imagenet/images").mkdir(parents=True)
    for i in range(1000):
        Image.new("RGB", (8, 8), (i // 4, 0, 0)).save(tmp_path / f"imagenet/images/n{i:08d}_sea_lion_{i}.JPEG")
    return tmp_path


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


def test_the_order_is_that_of_the_seeded_sha256():
    ids = tuple(f"image {i}" for i in range(30))
    pool = {"all": data.Images(np.zeros((30, 1, 1, 3), np.uint8), np.arange(30), ids)}
    parts = data.split(pool, spec(seed=9, calibration=3, craft=4, select=5, evaluate=6))
    expected = sorted(ids, key=lambda i: hashlib.sha256(f"9:{i}".encode()).hexdigest())[:18]
    assert [i for name in ("calibration", "craft", "select", "evaluate") for i in parts[name].ids] == expected


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        (
            {"calibration": 10, "craft": 11, "evaluate": 5},
            "data.craft asks for 11 images; 10 are left of the 20 in pool 'train'",
        ),
        (
            {"calibration": 1, "craft": 1, "evaluate": 11},
            "data.evaluate asks for 11 images; 10 are left of the 10 in pool 'test'",
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
    (cache / "fingerprints.json").write_text("{")
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


# what is refused


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": some_images(3).astype(np.float32), "y": np.zeros(3, int)}, "expected all images as uint8"),
        ({"x": some_images(3)[..., :2], "y": np.zeros(3, int)}, r"got uint8 \(3, 6, 6, 2\)"),
        ({"x": some_images(3)[:0], "y": np.zeros(0, int)}, "expected all images"),
        ({"x": some_images(3), "y": np.zeros(4, int)}, r"labels as integers \(3,\), got int64 \(4,\)"),
        ({"x": some_images(3), "y": np.zeros(3)}, "labels as integers"),
        ({"x": some_images(3), "y": np.array([0, -1, 1])}, "expected labels from 0 to 1, got -1 to 1"),
        ({"x": some_images(3), "labels": np.zeros(3, int)}, "x, y"),
        ({"x": np.array([{}, {}, {}]), "y": np.zeros(3, int)}, "allow_pickle=False"),
    ],
)
def test_arrays_that_are_no_images(tmp_path, arrays, message):
    np.savez(tmp_path / "some.npz", **arrays)
    with pytest.raises(UserError, match=message) as caught:
        data.load(spec(), (6, 6), tmp_path, tmp_path)
    assert "some.npz" in str(caught.value)


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
    with pytest.raises(UserError, match=r"some\.npz: expected an npz"):
        data.load(spec(), (6, 6), tmp_path, tmp_path)


def test_an_npy_is_no_npz(tmp_path):
    with (tmp_path / "some.npz").open("wb") as file:
        np.save(file, some_images(3))
    with pytest.raises(UserError, match="expected an npz"):
        data.load(spec(), (6, 6), tmp_path, tmp_path)


def test_an_unreadable_image_is_named(imagenet):
    path = imagenet / "imagenet/images/n00000500_sea_lion_500.JPEG"
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(UserError, match=r"n00000500_sea_lion_500.JPEG: cannot be read as an image"):
        data.load(spec("imagenet"), (8, 8), imagenet, imagenet)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (spec("imagenet"), r"imagenet/images: not under --data .* put it there"),
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


def test_without_a_data_folder_the_error_names_the_option():
    with pytest.raises(UserError, match=r"--data \(or PATCHBENCH_DATA\) is not given"):
        data.fingerprint(spec("imagenet"), None)


# CIFAR-10


def test_cifar10_that_cannot_be_had_names_both_ways(tmp_path, monkeypatch):
    import_torchvision()
    from torchvision.datasets import CIFAR10

    monkeypatch.setattr(CIFAR10, "url", "http://127.0.0.1:9/cifar-10-python.tar.gz")
    with pytest.raises(UserError) as caught:
        data.load(spec("cifar10"), (32, 32), tmp_path, tmp_path / "cache")
    for words in ("cifar10/cifar10.npz", "under --data (or PATCHBENCH_DATA)", "go online", "Connection refused"):
        assert words in str(caught.value)


def test_cifar10_through_torchvisions_own_download(tmp_path, monkeypatch):
    """An archive of CIFAR-10's form, of ten images a batch, on a server on loopback."""
    import_torchvision()
    from torchvision.datasets import CIFAR10

    archive, sums, images = io.BytesIO(), {}, {}
    with tarfile.open(fileobj=archive, mode="w:gz") as tar:
        for name in [f"data_batch_{i}" for i in range(1, 6)] + ["test_batch", "batches.meta"]:
            images[name] = some_images(10, 32)
            batch = {"data": images[name].transpose(0, 3, 1, 2).reshape(10, -1), "labels": list(range(10))}
            content = pickle.dumps({"label_names": list(data.CIFAR10)} if name == "batches.meta" else batch)
            info = tarfile.TarInfo(f"cifar-10-batches-py/{name}")
            info.size, sums[name] = len(content), hashlib.md5(content).hexdigest()
            tar.addfile(info, io.BytesIO(content))
    (tmp_path / "www").mkdir()
    (tmp_path / "www/cifar.tgz").write_bytes(archive.getvalue())
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(SimpleHTTPRequestHandler, directory=tmp_path / "www"))
    Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    monkeypatch.setattr(CIFAR10, "url", f"http://127.0.0.1:{server.server_port}/cifar.tgz")
    monkeypatch.setattr(CIFAR10, "tgz_md5", hashlib.md5(archive.getvalue()).hexdigest())
    monkeypatch.setattr(CIFAR10, "train_list", [[f"data_batch_{i}", sums[f"data_batch_{i}"]] for i in range(1, 6)])
    monkeypatch.setattr(CIFAR10, "test_list", [["test_batch", sums["test_batch"]]])
    monkeypatch.setattr(CIFAR10, "meta", CIFAR10.meta | {"md5": sums["batches.meta"]})
    try:
        pools = data.load(spec("cifar10"), (32, 32), None, tmp_path / "cache")
    finally:
        server.shutdown()
        server.server_close()
    np.testing.assert_array_equal(
        pools["train"].pixels, np.concatenate([images[f"data_batch_{i}"] for i in range(1, 6)])
    )
    np.testing.assert_array_equal(pools["test"].pixels, images["test_batch"])
    assert pools["test"].labels.tolist() == list(range(10))
    assert data.class_names(spec("cifar10"), None)[9] == "truck"


@pytest.mark.data
def test_the_real_cifar10_has_all_classes(data_dir, tmp_path):
    pools = data.load(spec("cifar10"), (32, 32), data_dir, tmp_path)
    assert {name: len(pool.labels) for name, pool in pools.items()} == {"train": 4000, "test": 1000}
    assert np.bincount(pools["test"].labels).min() > 80

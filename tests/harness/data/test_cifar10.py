"""CIFAR-10: torchvision's download, and what is said without it."""

import hashlib
import io
import pickle
import tarfile
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import numpy as np
import pytest
from helpers.datasets import some_images, spec

from backends.device.errors import UserError
from harness.data import datasets as data
from harness.torchvision_import import import_torchvision


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

"""Fingerprints of images on disk."""

import os
import subprocess
import sys

import numpy as np
from helpers.images import spec

from harness.data import datasets as data

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

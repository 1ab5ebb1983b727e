"""Weights that are downloaded, and what is said where they cannot be."""

import hashlib
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest
import torch
from helpers.victims import prepared

from backends.device.errors import UserError
from harness.data.readers import read_digits
from harness.networks import architectures as networks
from harness.networks import victims
from harness.torchvision_import import import_torchvision


def test_the_weights_that_ship_classify_digits_that_they_have_not_seen(tmp_path):
    half = (0.5, 0.5, 0.5)
    victim = prepared(tmp_path, model="plain_cnn", weights="DIGITS_V1", data_dir=None, mean=half, std=half)
    images = read_digits((32, 32))["test"]
    pixels = torch.from_numpy(images.pixels).permute(0, 3, 1, 2).float() / 255
    with torch.no_grad():
        found = victims.load(victim)(pixels).argmax(1).numpy()
    assert (found == images.labels).mean() > 0.95


@pytest.fixture
def server(tmp_path):
    (tmp_path / "www").mkdir()
    httpd = ThreadingHTTPServer(("127.0.0.1", 0), partial(SimpleHTTPRequestHandler, directory=tmp_path / "www"))
    Thread(target=httpd.serve_forever, args=(0.02,), daemon=True).start()
    yield f"http://127.0.0.1:{httpd.server_port}"
    httpd.shutdown()
    httpd.server_close()


def test_weights_from_a_url(trained, tmp_path, server):
    content = (tmp_path / "weights.th").read_bytes()
    (tmp_path / "www/net.th").write_bytes(content)
    sha256 = hashlib.sha256(content).hexdigest()
    expected = victims.weights_digest(trained.state_dict())
    assert prepared(tmp_path, weights=f"{server}/net.th", weights_sha256=sha256, data_dir=None).sha256 == expected
    with pytest.raises(UserError, match="give weights_sha256 beside the URL"):
        prepared(tmp_path, weights=f"{server}/net.th")
    with pytest.raises(UserError, match=f'got "{sha256}".*under --data'):
        prepared(tmp_path, weights=f"{server}/net.th", weights_sha256="1" * 64)
    (tmp_path / "net.th").write_bytes(content)  # under --data, by the name that the URL ends in
    assert prepared(tmp_path, weights="http://127.0.0.1:9/net.th", weights_sha256=sha256).sha256 == expected


def test_torchvisions_weights_by_their_name(tmp_path, server, monkeypatch):
    weights = import_torchvision().models.get_model_weights("squeezenet1_0").IMAGENET1K_V1
    assert weights.url.startswith("https://download.pytorch.org/models/squeezenet1_0-")
    network = networks.build("squeezenet1_0", 1000, seed=1)
    torch.save(network.state_dict(), tmp_path / "w.pth")
    content = (tmp_path / "w.pth").read_bytes()
    name = f"squeezenet1_0-{hashlib.sha256(content).hexdigest()[:8]}.pth"
    (tmp_path / "www" / name).write_bytes(content)
    monkeypatch.setattr(weights.value, "url", f"{server}/{name}")
    squeezenet = partial(prepared, tmp_path, (64, 64), 1000, model="squeezenet1_0")
    assert squeezenet(weights="IMAGENET1K_V1").sha256 == victims.weights_digest(network.state_dict())
    with pytest.raises(UserError, match="no weights IMAGENET1K_V9 for squeezenet1_0; it has IMAGENET1K_V1"):
        squeezenet(weights="IMAGENET1K_V9")
    monkeypatch.setattr(weights.value, "url", f"{server}/squeezenet1_0-00000000.pth")
    (tmp_path / "www/squeezenet1_0-00000000.pth").write_bytes(content)
    with pytest.raises(UserError, match='expected "00000000'):
        squeezenet(weights="IMAGENET1K_V1")


@pytest.mark.parametrize(
    ("weights", "ways"),
    [
        (
            "IMAGENET1K_V1",
            ("squeezenet1_0-b66bff10.pth", "put the file under --data (or PATCHBENCH_DATA)", "go online"),
        ),
        ("http://127.0.0.1:9/w.pth", ("w.pth", "put the file under --data (or PATCHBENCH_DATA)", "go online")),
        (
            "nets/w.pth",
            ("nets/w.pth", "put the file under --data (or PATCHBENCH_DATA)", "a URL with its weights_sha256"),
        ),
    ],
)
@pytest.mark.parametrize("given", [True, False])
def test_weights_that_cannot_be_had_name_both_ways(tmp_path, monkeypatch, weights, ways, given):
    known = import_torchvision().models.get_model_weights("squeezenet1_0").IMAGENET1K_V1.value
    monkeypatch.setattr(known, "url", "http://127.0.0.1:9/squeezenet1_0-b66bff10.pth")  # nobody listens there
    sha256 = "0" * 64 if "://" in weights else None
    with pytest.raises(UserError) as caught:
        prepared(
            tmp_path, (64, 64), 1000, model="squeezenet1_0", weights=weights, weights_sha256=sha256,
            data_dir=tmp_path if given else None,
        )  # fmt: skip
    for way in (*ways, f"not under --data {tmp_path}" if given else "is not given"):
        assert way in str(caught.value)

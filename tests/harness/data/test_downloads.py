"""Downloads, against a real server on loopback."""

import hashlib
import resource
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from backends.device.errors import UserError
from harness.data import downloads as download

CONTENT = bytes(range(256)) * 5000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.asked.append(self.path)
        if self.path.startswith("/missing"):
            self.send_error(404)
            return
        if self.path.startswith("/moved"):
            self.send_response(302)
            self.send_header("Location", "/good.bin")
            self.end_headers()
            return
        if self.path.startswith("/silent"):
            self.server.closing.wait(10)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(CONTENT)))
        self.end_headers()
        self.wfile.write(CONTENT[:300_000] if self.path.startswith("/broken") else CONTENT)

    def log_message(self, *args):
        pass


@pytest.fixture
def server():
    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    httpd.asked, httpd.closing = [], threading.Event()
    httpd.url = f"http://127.0.0.1:{httpd.server_port}"
    thread = threading.Thread(target=httpd.serve_forever, args=(0.02,))
    thread.start()
    yield httpd
    httpd.closing.set()
    httpd.shutdown()
    httpd.server_close()
    thread.join()


def test_a_good_file_comes_once_and_prints_nothing(server, tmp_path, capfd):
    told = []
    path = download.fetch(f"{server.url}/a%20file.bin?x=1", SHA256, tmp_path / "new", lambda *now: told.append(now))
    assert path.read_bytes() == CONTENT
    assert path.name.endswith("a_file.bin")
    assert [p.name for p in path.parent.iterdir()] == [path.name]
    assert told == [(0, 0, "downloading a_file.bin")]
    assert download.fetch(f"{server.url}/a%20file.bin?x=1", SHA256.upper(), tmp_path / "new") == path
    assert len(server.asked) == 1
    assert capfd.readouterr() == ("", "")


def test_a_file_that_was_damaged_since_comes_again(server, tmp_path):
    path = download.fetch(f"{server.url}/good.bin", SHA256, tmp_path)
    path.write_bytes(CONTENT[:-1])
    assert download.fetch(f"{server.url}/good.bin", SHA256, tmp_path).read_bytes() == CONTENT


def test_the_first_digits_of_a_hash_are_enough_where_no_more_are_published(server, tmp_path):
    assert download.fetch(f"{server.url}/good.bin", SHA256[:8], tmp_path).read_bytes() == CONTENT
    with pytest.raises(UserError, match="expected a sha256"):
        download.fetch(f"{server.url}/good.bin", SHA256[:7], tmp_path)


def test_a_redirection_is_followed(server, tmp_path):
    assert download.fetch(f"{server.url}/moved", SHA256, tmp_path).read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("path", "sha256", "message"),
    [
        ("good.bin", "0" * 64, 'expected "' + "0" * 64 + f'", got "{SHA256}"'),
        ("missing.bin", SHA256, "answers 404"),
        ("broken.bin", SHA256, "the connection broke off"),
    ],
)
def test_what_fails_says_why_and_leaves_nothing(server, tmp_path, path, sha256, message):
    with pytest.raises(UserError, match=message):
        download.fetch(f"{server.url}/{path}", sha256, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_broken_download_starts_afresh(server, tmp_path):
    with pytest.raises(UserError):
        download.fetch(f"{server.url}/broken.bin", SHA256, tmp_path)
    assert download.fetch(f"{server.url}/good.bin", SHA256, tmp_path).read_bytes() == CONTENT


def test_a_server_that_says_nothing_is_given_up(server, tmp_path, monkeypatch):
    monkeypatch.setattr(download, "TIMEOUT_SECONDS", 0.2)
    with pytest.raises(UserError, match="cannot be reached"):
        download.fetch(f"{server.url}/silent", SHA256, tmp_path)


def test_no_server(tmp_path):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        with pytest.raises(UserError, match="cannot be reached"):
            download.fetch(f"http://127.0.0.1:{closed.getsockname()[1]}/x", SHA256, tmp_path)


@pytest.mark.parametrize("url", ["file:///etc/hostname", "ftp://host/x", "weights.pt"])
def test_only_http(url, tmp_path):
    with pytest.raises(UserError, match="http or https"):
        download.fetch(url, SHA256, tmp_path)


def test_no_space(server, tmp_path):
    """The kernel refuses to write beyond the limit, as a full disk does."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, before[1]))
    try:
        with pytest.raises(UserError, match="cannot be written"):
            download.fetch(f"{server.url}/good.bin", SHA256, tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot be written"):
        download.fetch("http://127.0.0.1:9/x", SHA256, tmp_path / "file" / "below")

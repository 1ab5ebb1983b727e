"""Pages in Chromium: what their scripts see, and how they look, in a window of any width."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from helpers.required import absent

FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--enable-logging=stderr",
    "--v=0",
]
PROBE = """<script>
const seen = {errors: []};
const told = () => parent.postMessage(JSON.stringify(seen), "*");
addEventListener("error", (e) => seen.errors.push(e.message || e.target.src), true);
addEventListener("securitypolicyviolation", (e) => seen.errors.push("blocked " + e.blockedURI));
addEventListener("load", async () => { await (async () => { %s })(); told(); });
</script>"""


class Seen(NamedTuple):
    """What a probe of a page put into ``seen``, and what the browser wrote about the page."""

    values: dict[str, Any]
    console: str


def probe(page: str, script: str, folder: Path, width: int, height: int = 900) -> Seen:
    """Run a script in a loaded page; it puts what it finds into the object ``seen``.

    The page lies in a frame of this width, for no window of Chromium is narrower than 500 pixels.
    """
    code = PROBE % script
    text = code.removeprefix("<script>").removesuffix("</script>")
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    probed = page.replace("script-src ", f"script-src 'sha256-{digest}' ").replace("<body>", "<body>" + code, 1)
    (folder / "page.html").write_text(probed)
    listen = '<script>addEventListener("message", (e) => { document.title = e.data; });</script>'
    frame = f'<iframe src="page.html" style="width: {width}px; height: {height}px; border: 0"></iframe>'
    (folder / "frame.html").write_text(f"<title></title><body>{listen}{frame}")
    done = _chromium(folder, "--dump-dom", "--virtual-time-budget=5000", f"file://{folder / 'frame.html'}")
    title = re.search(r"<title>(.*?)</title>", done.stdout)
    assert title, done.stderr
    assert title[1], f"the page told nothing: {done.stderr}"
    return Seen(json.loads(html.unescape(title[1])), done.stderr)


def screenshot(file: Path, folder: Path, width: int, height: int) -> NDArray[np.uint8]:
    """Return a file as Chromium shows it, as RGB."""
    target = folder / "shot.png"
    _chromium(folder, f"--window-size={width},{height}", f"--screenshot={target}", f"file://{file}")
    with Image.open(target) as picture:
        return np.asarray(picture.convert("RGB"))


def _chromium(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    program = shutil.which("chromium") or shutil.which("google-chrome")
    if not program:
        absent("browser", "chromium is not installed")
    command = [program, *FLAGS, f"--user-data-dir={folder / 'profile'}", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=180, check=True)

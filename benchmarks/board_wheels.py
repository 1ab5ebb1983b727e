"""Write the table of `docs/pages/how-to/ssh.md`: the newest wheels that pip finds for a board's Python and C library.

python benchmarks/board_wheels.py
"""

import json
import subprocess
import sys
from collections.abc import Iterator

PACKAGES = ("onnxruntime", "ai-edge-litert", "tflite-runtime", "numpy")
SYSTEMS = {  # Linux: its Python, and the minor version of its glibc
    "Debian 11": ("3.9", 31),
    "Ubuntu 22.04": ("3.10", 35),
    "Debian 12, Raspberry Pi OS 12": ("3.11", 36),
    "Ubuntu 24.04": ("3.12", 39),
    "Debian 13, Raspberry Pi OS 13": ("3.13", 41),
    "Debian 14": ("3.14", 43),
}
ARCHITECTURES = ("aarch64", "armv7l")


def newest(package: str, python: str, glibc: int, arch: str) -> str:
    """The newest version with a wheel, or a dash."""
    tags = [f"manylinux_2_{minor}_{arch}" for minor in range(glibc, 16, -1)] + [f"manylinux2014_{arch}"]
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--dry-run", "--ignore-installed", "--no-deps"]
    command += ["--ignore-requires-python", "--only-binary=:all:", "--implementation", "cp"]
    command += ["--python-version", python, "--target", "nowhere"]
    command += [word for tag in tags for word in ("--platform", tag)]
    found = subprocess.run([*command, "--report", "-", package], capture_output=True, text=True)
    if found.returncode:
        return "–"
    return json.loads(found.stdout)["install"][0]["metadata"]["version"]


def lines() -> Iterator[str]:
    """The lines of the table."""
    yield f"| Python, glibc | of | architecture | {' | '.join(PACKAGES)} |"
    yield "| --- " * (3 + len(PACKAGES)) + "|"
    for system, (python, glibc) in SYSTEMS.items():
        for arch in ARCHITECTURES:
            versions = [newest(package, python, glibc, arch) for package in PACKAGES]
            yield f"| {python}, 2.{glibc} | {system} | {arch} | {' | '.join(versions)} |"


if __name__ == "__main__":
    for line in lines():
        print(line, flush=True)

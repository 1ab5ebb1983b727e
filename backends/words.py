"""Words that others wrote, parsed before they become a requirement, an image, an address or an argument.

Each function returns its word, unchanged, or raises a `UserError` that says what was expected.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from math import isfinite
from urllib.parse import urlsplit

from packaging.requirements import Requirement
from packaging.version import Version

from backends.device.errors import UserError
from backends.device.names import shown
from backends.device.protocol import Option

LONGEST_VERSION = 64
LONGEST = 255
MOST = 2**63  # the largest integer of a TOML file
DOMAIN = r"[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?(?::[0-9]{1,5})?"
COMPONENT = r"[a-z0-9]+(?:(?:\.|__?|-+)[a-z0-9]+)*"
TAG = r"(?::[A-Za-z0-9_][\w.-]{0,127})?(?:@sha256:[0-9a-f]{64})?"
IMAGE = re.compile(rf"(?:{DOMAIN}/)?{COMPONENT}(?:/{COMPONENT})*{TAG}", re.ASCII)
USER = r"(?:[A-Za-z0-9_][\w.-]*@)?"
HOST = r"[A-Za-z0-9_][\w.-]*"
IPV6 = r"(?=[^:]*:[^:]*:)[0-9A-Fa-f:.]+(?:%[\w.-]+)?"
ADDRESS = re.compile(rf"{USER}(?:{HOST}|{IPV6})|ssh://{USER}(?:{HOST}|\[{IPV6}\])(?::[0-9]{{1,5}})?/?", re.ASCII)
ARCH = re.compile(r"[A-Za-z0-9_]{1,32}")
QEMU_CPU = re.compile(r"[A-Za-z0-9][\w.+-]*(?:,[+-]?[A-Za-z0-9][\w.-]*(?:=[\w.-]+)?)*", re.ASCII)


def check_version(word: str) -> str:
    """Check the version of a package, as packages write it."""
    try:
        found = str(Version(word[: LONGEST_VERSION + 1]))
    except ValueError:
        found = ""
    if found != word or not word.isascii() or len(word) > LONGEST_VERSION:
        hint = f"; write it {found}" if found and found.isascii() and found != word else ""
        raise UserError(f"version {shown(word)}: expected a version such as 1.23.2{hint}")
    return word


def check_pin(word: str) -> str:
    """Check a requirement: pip gets ``NAME==VERSION`` and nothing else."""
    try:
        parsed = Requirement(word)
    except ValueError as error:
        raise UserError(f"requirement {shown(word)}: expected NAME==VERSION") from error
    versions = [pin.version for pin in parsed.specifier]
    if [word] != [f"{parsed.name}=={version}" for version in versions]:
        raise UserError(f"requirement {shown(word)}: expected NAME==VERSION")
    check_version(versions[0])
    return word


def check_image(word: str) -> str:
    """Check the name of a container image, by the grammar of references."""
    if len(word) > LONGEST or not IMAGE.fullmatch(word):
        raise UserError(f"image {shown(word)}: expected a name like python:3.11-slim or registry/name@sha256:...")
    return word


def check_address(word: str) -> str:
    """Check the address of a machine, as ssh takes it."""
    if len(word) > LONGEST or not ADDRESS.fullmatch(word):
        url = f"ssh://{word}"  # user@machine:port is not one of ssh's forms
        hint = f"; write it {url}" if len(word) <= LONGEST and ADDRESS.fullmatch(url) else ""
        raise UserError(
            f"address {shown(word)}: expected user@machine, ssh://user@machine:port or a name from ~/.ssh/config{hint}"
        )
    return word


def check_url(word: str) -> str:
    """Check the address of a file to download."""
    try:
        url = urlsplit(word)
        is_fine = url.scheme in ("http", "https") and bool(url.hostname) and url.port != 0
    except ValueError:
        is_fine = False
    if not is_fine or not word.isprintable() or " " in word:
        raise UserError(f"{shown(word)}: expected an http or https address")
    return word


def check_arch(word: str) -> str:
    """Check an architecture, as ``uname -m`` says it."""
    if not ARCH.fullmatch(word):
        raise UserError(f"arch {shown(word)}: expected an architecture such as x86_64, aarch64 or armv7l")
    return word


def check_cpu(word: str) -> str:
    """Check a CPU model as a machine describes itself, which may hold spaces."""
    if len(word) > LONGEST or not word.isprintable() or word.startswith("-"):
        raise UserError(f"cpu {shown(word)}: expected a CPU model, such as cortex-a53")
    return word


def check_qemu_cpu(word: str) -> str:
    """Check a CPU model as QEMU takes it, with features."""
    if not QEMU_CPU.fullmatch(word):
        raise UserError(f"cpu {shown(word)}: expected a CPU model, such as cortex-a53, or max,pauth=off with features")
    return word


def check_debian(word: str) -> str:
    """Check the name of a release of Debian."""
    if not re.fullmatch(r"[a-z]{1,32}", word):
        raise UserError(f"debian {shown(word)}: expected the name of a release, such as bookworm")
    return word


def check_options(options: Mapping[str, Option]) -> None:
    """Check that options can be sent to a device: words of one line, and finite numbers."""
    for key, value in options.items():
        words = [key, value] if isinstance(value, str) else [key]
        if not all(len(word) <= LONGEST and word.isprintable() for word in words):
            raise UserError(f"option {shown(key)}: expected at most {LONGEST} printable characters")
        if isinstance(value, int | float) and not (isfinite(value) and abs(value) < MOST):
            raise UserError(f"option {shown(key)}: expected a finite number, got {value}")

"""A real sshd on loopback, with its own keys and configuration, that stands for a board."""

import getpass
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from helpers.required import absent

CONFIG = """
Host board
  IdentityFile {folder}/key
  UserKnownHostsFile {folder}/known_hosts
Host denied
  IdentityFile {folder}/other
  UserKnownHostsFile {folder}/known_hosts
Host stranger
  IdentityFile {folder}/key
  UserKnownHostsFile /dev/null
Host gone
  Port {closed}
Host *
  HostName 127.0.0.1
  Port {port}
  User {user}
  IdentitiesOnly yes
"""
ONE_OF_SEVERAL = """
Host {name}
  IdentityFile {folder}/key
  UserKnownHostsFile {folder}/known_hosts
  Include {folder}/config
"""
SSHD = """
Port {port}
ListenAddress 127.0.0.1
HostKey {folder}/host
AuthorizedKeysFile {folder}/key.pub
PidFile none
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin yes
SetEnv {environment}
"""


@dataclass(frozen=True)
class Board:
    """``home`` is where patchbench keeps its files there; ``bin`` has the user's ``ssh``, which knows its addresses."""

    home: Path
    bin: Path
    process: psutil.Process

    def sessions(self) -> list[psutil.Process]:
        """The processes of sshd that hold a connection each."""
        found = []
        with suppress(psutil.NoSuchProcess):
            for child in self.process.children(recursive=True):
                with suppress(psutil.NoSuchProcess):
                    if child.name().startswith("sshd"):
                        found.append(child)
        return found

    def switch_off(self) -> None:
        """Ends the board: what is connected breaks, and nobody answers any more."""
        self.process.kill()
        self.drop()

    def drop(self) -> None:
        """Breaks every connection."""
        for session in self.sessions():
            with suppress(psutil.NoSuchProcess):
                session.kill()

    def freeze(self) -> None:
        """Makes every connection go silent."""
        for session in self.sessions():
            session.suspend()

    def devices(self) -> list[psutil.Process]:
        """What runs there of the device side."""
        found = []
        for process in psutil.process_iter(["cmdline"]):
            line = process.info["cmdline"] or []
            if "backends.device.replay" in line and any(part.startswith(str(self.home)) for part in line):
                found.append(process)
        return found


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def programs() -> tuple[str, str, str]:
    """Return the paths of sshd, ssh and ssh-keygen; where one is absent, leave the test out."""
    sshd, ssh, keygen = map(shutil.which, ("sshd", "ssh", "ssh-keygen"))
    if not (sshd and ssh and keygen):
        absent("ssh", "PATH lacks sshd, ssh or ssh-keygen: apt-get install openssh-server openssh-client; /usr/sbin")
    return sshd, ssh, keygen


@contextmanager
def running(
    folder: Path, python: Path | None = Path(sys.prefix), environment: Mapping[str, str] | None = None, force: str = ""
) -> Iterator[Board]:
    """A board whose environment is `python`'s, with more variables, and a command that replaces every session's own."""
    sshd, ssh, keygen = programs()
    cache = folder / "a board's cache"
    home = cache / "patchbench"
    home.mkdir(parents=True)
    if python:
        (home / "venv").symlink_to(python)
    for name in ("host", "key", "other"):
        subprocess.run([keygen, "-q", "-t", "ed25519", "-N", "", "-f", folder / name], check=True)
    facts = {"port": free_port(), "closed": free_port(), "folder": folder, "user": getpass.getuser()}
    facts["environment"] = " ".join(f'"{k}={v}"' for k, v in {"XDG_CACHE_HOME": cache, **(environment or {})}.items())
    (folder / "known_hosts").write_text(f"[127.0.0.1]:{facts['port']} {(folder / 'host.pub').read_text()}")
    (folder / "config").write_text(CONFIG.format(**facts))
    (folder / "sshd").write_text(SSHD.format(**facts) + (f"ForceCommand {force}\n" if force else ""))
    (folder / "bin").mkdir()
    (folder / "bin/ssh").write_text(f'#!/bin/sh\nexec {ssh} -F "{folder}/config" "$@"\n')
    (folder / "bin/ssh").chmod(0o755)
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([sshd, "-D", "-e", "-f", folder / "sshd"], stderr=log)
    board = Board(home, folder / "bin", psutil.Process(process.pid))
    try:
        _await(facts["port"], folder / "log")
        yield board
    finally:
        board.drop()
        for device in board.devices():
            with suppress(psutil.NoSuchProcess):
                device.kill()
        process.kill()
        process.wait()


def together(folder: Path, boards: Mapping[str, Board]) -> Path:
    """A folder with an ``ssh`` that knows several boards, by these names, and ``gone``, where nobody answers."""
    ssh = shutil.which("ssh")
    facts = [ONE_OF_SEVERAL.format(name=name, folder=board.bin.parent) for name, board in boards.items()]
    gone = f"Host gone\n  HostName 127.0.0.1\n  Port {free_port()}\n"
    (folder / "config").write_text("".join([*facts, gone]))
    (folder / "ssh").write_text(f'#!/bin/sh\nexec {ssh} -F "{folder}/config" "$@"\n')
    (folder / "ssh").chmod(0o755)
    return folder


def _await(port: int, log: Path) -> None:
    until = time.monotonic() + 10
    while time.monotonic() < until:
        with socket.socket() as probe:
            if not probe.connect_ex(("127.0.0.1", port)):
                return
        time.sleep(0.05)
    raise AssertionError(f"sshd does not listen: {log.read_text()}")

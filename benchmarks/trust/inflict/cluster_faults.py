"""Faults of a cluster and of its store, each for some seconds or for good."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import NamedTuple

from campaign import Running
from inflict.dask_cluster import Cluster, kill_with_children

sys.path.append(str(Path(__file__).parents[3] / "tests"))
from helpers import s3

INTERRUPTED = 130


@dataclass
class Scene:
    """A run on a cluster, its store, and a source of chance; ``second`` is another run in the same store."""

    folder: Path
    cluster: Cluster
    store: s3.Proxy
    chance: Random
    run: Running
    start: Callable[[str], Running]
    second: Running | None = None

    def seconds(self, least: float, most: float) -> float:
        """Draw how long a fault lasts."""
        return self.chance.uniform(least, most)


class OnCluster(NamedTuple):
    """A fault: what it does, the exit codes that will do, what the run has to say of it, whether it is the store's.

    It is inflicted when ``latest`` steps are done at the latest.
    """

    inflict: Callable[[Scene], None]
    codes: tuple[int, ...]
    says: str = ""
    is_of_store: bool = False
    latest: int = 12


def worker_killed(scene: Scene) -> None:
    """A worker gets SIGKILL; its nanny starts another."""
    scene.cluster.worker(scene.chance.choice(scene.cluster.nannies)).kill()


def machine_lost(scene: Scene) -> None:
    """A worker and its nanny are gone at once, for good."""
    kill_with_children(scene.chance.choice(scene.cluster.nannies))


def all_lost(scene: Scene) -> None:
    """All workers and their nannies are gone at once; others come."""
    for nanny in scene.cluster.nannies:
        kill_with_children(nanny)
    time.sleep(scene.seconds(0, 5))
    scene.cluster.refresh()


def scheduler_again(scene: Scene) -> None:
    """The scheduler gets SIGKILL; another one comes at the same address, and knows of nothing."""
    kill_with_children(scene.cluster.scheduler)
    time.sleep(scene.seconds(0, 10))
    scene.cluster.refresh()


def scheduler_stopped(scene: Scene) -> None:
    """The scheduler stands still for some seconds."""
    scene.cluster.scheduler.send_signal(signal.SIGSTOP)
    time.sleep(scene.seconds(1, 15))
    scene.cluster.scheduler.send_signal(signal.SIGCONT)


def network_cut(scene: Scene) -> None:
    """A worker's connections to the scheduler break, and it finds no other for some seconds."""
    link = scene.chance.choice(scene.cluster.links)
    link.cut()
    time.sleep(scene.seconds(1, 10))
    link.mend()


def network_silent(scene: Scene) -> None:
    """What a worker and the scheduler say to each other is late by some seconds."""
    link = scene.chance.choice(scene.cluster.links)
    link.silence()
    time.sleep(scene.seconds(1, 15))
    link.mend()


def other_version(scene: Scene) -> None:
    """A third worker comes, with another numpy."""
    old = scene.folder / "old/numpy-0.1.dist-info"
    old.mkdir(parents=True)
    (old / "METADATA").write_text("Metadata-Version: 2.1\nName: numpy\nVersion: 0.1\n")
    path = os.pathsep.join([str(old.parent), os.environ.get("PYTHONPATH", "")])
    scene.cluster.start_worker(scene.cluster.links[0], {"PYTHONPATH": path})


def store_fails(scene: Scene, answer: s3.Answer, *, is_for_good: bool) -> None:
    """The store gives this answer to every request, for some seconds or from now on."""
    scene.store.fault = lambda request: answer
    if not is_for_good:
        time.sleep(scene.seconds(1, 10))
        scene.store.fault = lambda request: None


def store_full(scene: Scene) -> None:
    """The store takes no more objects."""
    scene.store.fault = lambda request: s3.full if request.is_of_result and request.method == "PUT" else None


def two_at_once(scene: Scene) -> None:
    """A second run of the suite, on the same cluster and in the same store."""
    scene.second = scene.start("second")


def interrupted(scene: Scene) -> None:
    """Ctrl-C."""
    os.killpg(scene.run.process.pid, signal.SIGINT)


NOT_USED = "is not used: numpy: 0.1 there"
FAULTS: dict[str, OnCluster] = {
    "worker killed": OnCluster(worker_killed, (0,)),
    "worker's machine lost": OnCluster(machine_lost, (0,)),
    "all workers lost, others come": OnCluster(all_lost, (0,)),
    "scheduler killed, another comes": OnCluster(scheduler_again, (0, 2)),
    "scheduler stands still": OnCluster(scheduler_stopped, (0,)),
    "network cut": OnCluster(network_cut, (0,)),
    "network silent": OnCluster(network_silent, (0,)),
    "worker of another version": OnCluster(other_version, (0,), says=NOT_USED, latest=3),  # it takes seconds to come
    "store slow": OnCluster(lambda scene: store_fails(scene, s3.slow, is_for_good=True), (0,), is_of_store=True),
    "store answers 503 for a while": OnCluster(
        lambda scene: store_fails(scene, s3.busy, is_for_good=False), (0, 2), is_of_store=True
    ),
    "store answers 503 for good": OnCluster(
        lambda scene: store_fails(scene, s3.busy, is_for_good=True), (0, 2), is_of_store=True
    ),
    "store full": OnCluster(store_full, (0,), is_of_store=True),
    "two runs at once": OnCluster(two_at_once, (0,), is_of_store=True),
    "Ctrl-C": OnCluster(interrupted, (INTERRUPTED,)),
}

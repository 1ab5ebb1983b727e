"""Where a cluster comes from: a word of ``--cluster``, and Dask's own deployments."""

from __future__ import annotations

import logging
import os
import re
import shlex
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from pydantic import Field

from backends import licences
from backends.device.errors import UserError
from backends.device.names import shown
from backends.device.reading import first_line
from harness.extras import require
from harness.tables import Table, read_toml

if TYPE_CHECKING:
    from distributed import Client

ADDRESS = re.compile(r"[a-z]+://[^\s/]+:\d+|[^\s/:]+:\d+")
EXPECTED = "expected ADDRESS (tcp://HOST:PORT), local:N, slurm:FILE, ssh:FILE or kubernetes:FILE"
NO_CERTIFICATES = "expected distributed.comm.tls.ca-file, .client.cert and .client.key in Dask's configuration"
MOST_WORKERS = 10_000
PROGRAMS = "distributed.cli.dask_"  # of the scheduler and of a worker, for `python -m`
OPENING_SECONDS = 60
IDLE = "10 minutes"  # after which a scheduler elsewhere ends by itself, should the process that started it be gone
# what a scheduler and workers do all the time, on the cores that the steps are for
AT_REST = {"distributed.worker.profile.enabled": False, "distributed.admin.tick.interval": "1s"}


class Local(NamedTuple):
    """Workers on this machine, one core each."""

    expected: int

    def cluster(self) -> Any:
        """Start them."""
        import dask
        from distributed import LocalCluster

        with dask.config.set(AT_REST):
            return LocalCluster(
                n_workers=self.expected, threads_per_worker=1, processes=True, dashboard_address="127.0.0.1:0",
                silence_logs=logging.ERROR,
            )  # fmt: skip


class Address(NamedTuple):
    """A scheduler that runs; nobody knows how many workers are to come."""

    address: str
    expected: int = 0

    def cluster(self) -> Any:
        """Return the address; for ``tls://`` Dask's own configuration has to name the certificates."""
        from distributed import Security

        if self.address.startswith("tls:") and not Security().get_connection_args("client").get("ssl_context"):
            raise RuntimeError(NO_CERTIFICATES)
        return self.address


class Slurm(Table):
    """Jobs that each start one worker or several; see ``dask_jobqueue.SLURMCluster``."""

    jobs: int = Field(ge=1, le=MOST_WORKERS)
    """How many jobs to ask for."""

    cores: int = Field(default=1, ge=1)
    """Cores of a job, shared out evenly to its workers."""

    workers: int = Field(default=1, ge=1)
    """Workers of a job: each does one thing that computes with torch at a time."""

    memory: str = "8 GB"
    """Memory of a job."""

    walltime: str | None = None
    """Longest time of a job, such as `04:00:00`."""

    queue: str | None = None
    """Partition."""

    account: str | None = None
    """Account."""

    directives: tuple[str, ...] = ()
    """More lines for `#SBATCH`, such as `--gres=gpu:1`."""

    prologue: tuple[str, ...] = ()
    """Lines of shell before the worker starts, such as `module load cuda`."""

    python: str | None = None
    """Python of the workers; by default the path of this one."""

    interface: str | None = None
    """Network interface that workers and this process reach each other by, such as `eth0`."""

    @property
    def expected(self) -> int:
        """How many workers are to come."""
        return self.jobs * self.workers

    def cluster(self) -> Any:
        """Queue the jobs."""
        require("dask_jobqueue")
        from dask_jobqueue import SLURMCluster

        chosen = {"queue": self.queue, "account": self.account, "walltime": self.walltime, "python": self.python,
                  "interface": self.interface, "memory": self.memory, "cores": self.cores, "processes": self.workers,
                  "job_extra_directives": list(self.directives),
                  "job_script_prologue": [*_environment(), *self.prologue]}  # fmt: skip
        made = SLURMCluster(**{name: value for name, value in chosen.items() if value is not None})
        made.scale(jobs=self.jobs)
        return made


class Ssh(Table):
    """Machines that ssh reaches without a password; see ``distributed.SSHCluster``."""

    hosts: tuple[str, ...] = Field(min_length=2)
    """The scheduler's machine, then those of the workers; one may stand there twice."""

    workers: int = Field(default=1, ge=1)
    """Workers on each machine."""

    cores: int = Field(default=1, ge=1)
    """Cores of each worker."""

    python: str | None = None
    """Python there; by default the path of this one."""

    connect: dict[str, Any] = Field(default_factory=dict)
    """What `asyncssh.connect` takes, such as `username` and `port`."""

    @property
    def expected(self) -> int:
        """How many workers are to come."""
        return (len(self.hosts) - 1) * self.workers

    def cluster(self) -> Any:
        """Start the scheduler and the workers."""
        require("asyncssh")
        from distributed import SSHCluster

        python = shlex.join(["env", *_variables(), self.python or sys.executable])
        workers = {"n_workers": self.workers, "nthreads": self.cores}
        return SSHCluster(
            list(self.hosts), connect_options=self.connect, worker_options=workers, remote_python=python,
            scheduler_options={"idle_timeout": IDLE},
        )  # fmt: skip


class Kubernetes(Table):
    """Pods that the Dask operator starts; see ``dask_kubernetes.operator.KubeCluster``."""

    name: str
    """Name of the cluster."""

    image: str
    """Image with patchbench and its extra `cluster`."""

    workers: int = Field(ge=1, le=MOST_WORKERS)
    """How many pods."""

    namespace: str | None = None
    """Namespace; by default that of the current context."""

    resources: dict[str, Any] = Field(default_factory=dict)
    """Requests and limits of a pod."""

    env: dict[str, str] = Field(default_factory=dict)
    """Environment variables of a pod."""

    volumes: dict[str, str] = Field(default_factory=dict)
    """Persistent volume claims, and the path where workers have each."""

    @property
    def expected(self) -> int:
        """How many workers are to come."""
        return self.workers

    def manifest(self) -> dict[str, Any]:
        """Return the custom resource `DaskCluster` that the operator is given."""
        require("dask_kubernetes")
        from dask_kubernetes.operator import make_cluster_spec

        made: dict[str, Any] = make_cluster_spec(
            name=self.name, image=self.image, n_workers=self.workers, resources=dict(self.resources),
            env=dict(self.env), worker_command=f"{PROGRAMS}worker",
        )  # fmt: skip
        for role in ("scheduler", "worker"):
            (container,) = made["spec"][role]["spec"]["containers"]
            container["command"] = ["python3", "-m"]  # whatever the image starts by itself
            container["args"][0] = f"{PROGRAMS}{role}"
        container["volumeMounts"] = [{"name": claim, "mountPath": path} for claim, path in self.volumes.items()]
        made["spec"]["worker"]["spec"]["volumes"] = [
            {"name": claim, "persistentVolumeClaim": {"claimName": claim}} for claim in self.volumes
        ]
        return made

    def cluster(self) -> Any:
        """Ask the operator for pods."""
        manifest = self.manifest()
        import kr8s
        from dask_kubernetes.operator import KubeCluster

        try:
            kr8s.api().version()  # a KubeCluster that finds no server says so once more as Python exits
            return KubeCluster(
                namespace=self.namespace, n_workers=self.workers, custom_cluster_spec=manifest, quiet=True
            )
        except Exception as error:  # of the libraries below it, whose errors have no base of their own
            raise RuntimeError(f"{type(error).__name__}: {first_line(error)}") from error


Deployment = Local | Address | Slurm | Ssh | Kubernetes
FILES: dict[str, type[Slurm | Ssh | Kubernetes]] = {"slurm": Slurm, "ssh": Ssh, "kubernetes": Kubernetes}


def read(word: str) -> Deployment:
    """Read a word of ``--cluster``, and the file that it names; anything else is a `UserError`."""
    kind, _, rest = word.partition(":")
    if kind in FILES:
        found: Deployment = read_toml(Path(rest), FILES[kind], f"a cluster by {kind}")
    elif kind == "local":
        if not rest.isdecimal() or not 1 <= int(rest[:6]) <= MOST_WORKERS:
            raise UserError(f"--cluster {word}: expected local:N, N workers on this machine")
        found = Local(int(rest))
    elif ADDRESS.fullmatch(word):
        found = Address(word)
    else:
        raise UserError(f"--cluster {shown(word)}: {EXPECTED}")
    require("distributed")
    return found


@contextmanager
def opened(deployment: Deployment, word: str) -> Iterator[Client]:
    """Start a cluster, or connect to it, and end what was started; what cannot be is a `UserError`."""
    from distributed import Client

    logging.getLogger("distributed").setLevel(logging.ERROR)  # what it tells of its own doings; we say what matters
    with ExitStack() as stack:
        try:
            made = deployment.cluster()
            if not isinstance(made, str):
                stack.callback(made.close)
            client = stack.enter_context(Client(made, timeout=OPENING_SECONDS, set_as_default=False))
        except (OSError, RuntimeError) as error:
            raise UserError(f"--cluster {word}: {first_line(error)}") from error
        yield client


def _variables() -> list[str]:
    """Return what workers need of this process's environment to find the same code."""
    return [f"{name}={os.environ[name]}" for name in ("PYTHONPATH", licences.VARIABLE) if os.environ.get(name)]


def _environment() -> list[str]:
    return [f"export {shlex.quote(variable)}" for variable in _variables()]

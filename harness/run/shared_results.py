"""What a run has in common with others: which machine's results they are, and the exchange at its start."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor

from backends.device.machine import describe
from harness.plan.plan import Plan
from harness.run.stages import Work
from harness.run.tasks import Task, tasks
from harness.shared_store import Place, SharedStore

AT_ONCE = 16  # objects on their way


def machine(plan: Plan, device: str) -> dict[str, str]:
    """Return what decides the last bits of a run's results beside their keys."""
    here = describe()
    found = {
        "architecture": here.arch,
        "CPU": here.cpu,
        "CPU features": " ".join(here.detected),
        "C library": " ".join(platform.libc_ver()),
        "Python": here.python,
    }
    if plan.needs_torch:
        import torch

        found["threads"] = str(torch.get_num_threads())
        if device != "cpu":
            found["GPU"] = torch.cuda.get_device_name(device)
    return found


def connect(work: Work, place: Place) -> None:
    """Share a run's results from now on, and first those that it has and the shared store lacks.

    Answers that were taken of a packed target stay here. A store that cannot be reached is a `UserError`.
    """
    shared = work.store.shared = SharedStore(place, machine(work.plan, work.device), work.display.warn)
    shared.introduce()
    taken = {step.key for step in work.plan.replays if step.target.is_packed}
    here = (task for task in tasks(work.plan) if task.key not in taken and work.store.path(*_name(task)).is_dir())
    lacking = [task for task in here if not shared.lists(*_name(task))]
    _side_by_side(work, "upload", shared, lacking, work.store.offer)


def download(work: Work) -> None:
    """Take from the shared store what it has of a plan and the run directory lacks; or it is a `UserError`."""
    if not (shared := work.store.shared):
        return
    lacking = (task for task in tasks(work.plan) if not work.store.path(*_name(task)).is_dir())
    _side_by_side(work, "fetch", shared, [one for one in lacking if shared.lists(*_name(one))], work.store.fetch)


def _name(task: Task) -> tuple[str, str]:
    return task.stage, task.key


def _side_by_side(
    work: Work, verb: str, shared: SharedStore, several: Iterable[Task], do: Callable[[str, str], object]
) -> None:
    todo = list(several)
    if not todo:
        return
    with work.display.doing(verb, f"{len(todo)} results, {shared.url}") as tick, ThreadPoolExecutor(AT_ONCE) as pool:
        for done, _ in enumerate(pool.map(lambda task: do(*_name(task)), todo), 1):
            tick(done, len(todo), "")

"""The stages of a run, one function each: it runs the stages it depends on, and keeps its result in the store."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from backends.device.artifact import Artifact, QuantSpec
from backends.device.errors import UserError
from backends.device.reading import Expected, map_npy, read_json
from exporters.victim import Victim
from harness import config
from harness.data.readers import Images
from harness.display import Display
from harness.plan.described import brought_artifact
from harness.plan.plan import Plan
from harness.plan.steps import TORCH, ArtifactStep, DataStep, TrainingStep, VictimStep
from harness.run.tasks import verb
from harness.store import UNLIMITED, Store, Took, place, write_json
from patches.patch import Patch

if TYPE_CHECKING:
    from torch import nn

    from exporters.files.description import Description
    from patches.fake_quant import Source
    from patches.fake_quant.network import Trained

DTYPES = {"pixels": np.uint8, "labels": np.int64, "ids": np.str_}  # of `Images`


@dataclass
class Work:
    """A run in progress: its plan, its store, its display, and what has failed so far."""

    plan: Plan
    store: Store
    display: Display
    device: str = "cpu"
    frozen: Mapping[str, Patch] = field(default_factory=dict)  # a baseline's patches, by name
    errors: dict[str, str] = field(default_factory=dict)  # by replay or latency key
    _networks: dict[str, nn.Module] = field(default_factory=dict)

    def simulated(self, step: ArtifactStep) -> nn.Module:
        """Return the network of an artifact that torch runs: the victim's, or the fake-quantized one."""
        from patches.surrogates import build

        if step.quant is None:
            return self.network(step.victim)
        if step.key not in self._networks:
            self._networks[step.key] = build("fake_quant", source(self, step))
        return self._networks[step.key]

    def network(self, step: VictimStep) -> nn.Module:
        """Return a victim's network, loaded once."""
        from harness.networks.victims import load

        if step.key not in self._networks:
            self._networks[step.key] = load(victim(self, step))
        return self._networks[step.key]


def check_device(device: str) -> None:
    """Check that patches can be crafted on a device, ``cpu``, ``cuda`` or ``cuda:N``; else a `UserError`."""
    if device == "cpu":
        return
    import torch

    kind, _, number = device.partition(":")
    if kind != "cuda" or not (number or "0").isdigit():
        raise UserError(f"device {device}: expected cpu, cuda, or cuda:N")
    if int(number or 0) >= torch.cuda.device_count():
        built = f"is built for CUDA {torch.version.cuda}" if torch.version.cuda else "is built without CUDA"
        raise UserError(
            f"device {device}: torch {torch.__version__} {built} and finds {torch.cuda.device_count()} GPUs here; "
            "leave it out, or install a torch with CUDA and its driver (pytorch.org/get-started)"
        )


def images(work: Work, step: DataStep, split: str) -> Images:
    """Return the images of a split, memory-mapped: calibration, craft, select, evaluate, all, or train."""
    from harness.data import datasets as data

    spec = work.plan.suite.data
    if not work.store.has("data", step.key):
        with work.display.doing(verb(step), f"{spec.name} at {step.size[0]}x{step.size[1]}"):
            pools = data.load(spec, step.size, work.plan.data_dir, work.store.root / "downloads")
            splits = data.split(pools, spec)
            pixels, labels, ids = (np.concatenate(parts) for parts in zip(*pools.values(), strict=True))
            every = Images(pixels, labels, tuple(map(str, ids)))
            with work.store.writing("data", step.key, Took(verb(step), spec.name)) as folder:
                for name, part in {**splits, "all": every, "train": data.training_images(pools, splits)}.items():
                    for what, array in part._asdict().items():
                        np.save(folder / f"{name}.{what}.npy", np.asarray(array, DTYPES[what]), allow_pickle=False)
    pixels, labels, ids = (
        map_npy(images_file(work, step, split, what), Expected((dtype,)), UNLIMITED) for what, dtype in DTYPES.items()
    )
    return Images(pixels, labels, tuple(map(str, ids)))


def images_file(work: Work, step: DataStep, split: str, what: str = "pixels") -> Path:
    """Return the ``.npy`` file of a split's pixels, labels or ids."""
    return work.store.path("data", step.key) / f"{split}.{what}.npy"


def victim(work: Work, step: VictimStep) -> Victim:
    """Return a victim with its weights: from a file, a download or training."""
    from harness.networks import victims

    assert isinstance(step.table, config.VictimTable)
    folder = work.store.path("victim", step.key)
    if not work.store.has("victim", step.key):
        train = step.table.train
        checkpoint = work.store.root / "checkpoints" / f"{step.key}.pt"
        checkpoint.parent.mkdir(parents=True, exist_ok=True)
        seen = images(work, step.data, "train") if train else None
        teacher = _teacher(work, step.teacher) if step.teacher else None
        with (
            work.display.doing(verb(step), step.name) as tick,
            work.store.writing("victim", step.key, Took(verb(step), step.name)) as beside,
        ):
            victims.prepare(
                step.table, data_dir=work.plan.data_dir, images=seen, size=step.data.size,
                classes=classes(work, step),
                folder=beside, cache=work.store.root / "downloads", checkpoint=checkpoint, progress=tick,
                teacher=teacher,
            )  # fmt: skip
        checkpoint.unlink(missing_ok=True)
    return victims.read(folder)


def check_victim(work: Work, step: VictimStep) -> None:
    """Load a victim that is not trained, and try the network of one that is: a fault in either is a `UserError`."""
    from harness.networks import victims

    assert isinstance(step.table, config.VictimTable)
    if step.table.train and not work.store.has("victim", step.key):
        victims.check(step.table, classes(work, step), step.data.size)
    else:
        victim(work, step)


def _teacher(work: Work, step: VictimStep) -> nn.Module:
    """Return a victim's network as a teacher: folded, which is faster and gives the same outputs."""
    import torch

    from patches.fake_quant.network import folded

    return folded(work.network(step)).to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def classes(work: Work, step: VictimStep) -> int:
    """Return the number of a victim's classes: as its table says, else that of the data."""
    from harness.data.datasets import class_names

    return step.table.classes or len(class_names(work.plan.suite.data, work.plan.data_dir))


def artifact(work: Work, step: ArtifactStep) -> tuple[Artifact, Path]:
    """Return a victim as a file, and that file's folder; an INT8 file has been proven to compute in integers.

    A partly integer file computes in float what its suite allows, and its precision says so.
    """
    folder = work.store.path("artifact", step.key)
    if step.brought and not work.store.has("artifact", step.key):
        from exporters.brought import bring

        with (
            work.display.doing(verb(step), step.name),
            work.store.writing("artifact", step.key, Took(verb(step), step.name)) as beside,
        ):
            described = brought_artifact(step, classes(work, step.victim))
            found = bring(step.victim.brought_file(), described, beside, step.brought.allow_float)
            _write_contents(found, beside)
    if not work.store.has("artifact", step.key):
        from exporters.export import export
        from exporters.files import describe
        from patches.fake_quant.network import folded, learned_weights

        known, made = victim(work, step.victim), source(work, step)
        network = folded(made.network, made.trained) if made.trained else made.network
        with (
            work.display.doing(verb(step), step.name),
            work.store.writing("artifact", step.key, Took(verb(step), step.name)) as beside,
        ):
            export(
                network, name=step.name, victim=known, format=step.format, quant=step.quant,
                calibration_pixels=made.pixels, folder=beside, learned=learned_weights(made.trained),
            )  # fmt: skip
            _write_contents(describe(beside / f"{step.name}.{step.format}"), beside)
    return Artifact.read(folder / f"{step.name}.json"), folder


def precision(work: Work, step: ArtifactStep) -> str:
    """Return the precision of an artifact: that of a partly integer file says so."""
    return step.precision if step.format == TORCH else artifact(work, step)[0].precision


def trained(work: Work, step: TrainingStep) -> Trained:
    """Return a victim after quantization-aware training."""
    from harness.networks import quantization_aware_training as qat

    if not work.store.has("qat", step.key):
        checkpoint = work.store.root / "checkpoints" / f"{step.key}.pt"
        network = work.network(step.victim)
        seen, ranged = (images(work, step.victim.data, split) for split in ("train", "calibration"))
        with (
            work.display.doing(verb(step), step.name) as tick,
            work.store.writing("qat", step.key, Took(verb(step), step.name)) as beside,
        ):
            made = qat.train(network, step.quant, seen, np.array(ranged.pixels), step.table, checkpoint, tick)
            qat.write(made, beside)
        checkpoint.unlink(missing_ok=True)
    return qat.read(work.store.path("qat", step.key))


def source(work: Work, step: ArtifactStep) -> Source:
    """Return what an artifact is exported from: network, calibration images, quantization-aware training."""
    from patches.fake_quant import Source

    pixels = np.array(images(work, step.victim.data, "calibration").pixels)
    made = trained(work, step.training) if step.training else None
    return Source(work.network(step.victim), step.quant or QuantSpec(), pixels, made)


class Contents(NamedTuple):
    """What a model file holds: how often each operator is executed, and scales and zero points, None for float.

    ``but_for`` are the operators that a partly integer file computes in float.
    """

    operators: dict[str, int]
    output_scale: float | None
    input_scale: float | None
    input_zero_point: int | None
    but_for: str = ""


def contents(work: Work, step: ArtifactStep) -> Contents:
    """Return what an artifact's file holds."""
    _, folder = artifact(work, step)
    return Contents(**read_json(folder / "found.json"))


def _write_contents(file: Description, folder: Path) -> None:
    takes = file.inputs[0]
    gives = file.outputs[0]
    contents = Contents(
        file.counts,
        gives.scale[0] if gives.scale else None,
        takes.scale[0] if takes.scale else None,
        takes.zero_point[0] if takes.zero_point else None,
        file.but_for if file.is_quantized else "",
    )
    write_json(folder / "found.json", contents._asdict())


def place_artifact(work: Work, step: ArtifactStep, into: Path) -> Path:
    """Copy an artifact and its description to where a user looks for them; return the file."""
    described, folder = artifact(work, step)
    place(folder / f"{step.name}.json", into / f"{step.name}.json")
    place(folder / described.file, into / described.file)
    return into / described.file

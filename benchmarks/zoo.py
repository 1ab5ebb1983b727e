"""Export a zoo of networks, prove, twin and time them: ``python benchmarks/zoo.py FOLDER --data DIR [--only PATTERN]``.

Each network is trained on CIFAR-10 at its size, for minutes, not for accuracy; SqueezeNet 1.0 has its ImageNet weights.
It is exported to both formats, its INT8 answers are held against the float ones on images it was not trained on, and
its twins against the runtimes on ImageNet images. FOLDER keeps the weights and files. What is known is added to
``benchmarks/results/zoo.csv`` at once, a fact a line, so that a second run continues where the first stopped;
``zoo.md`` is written from it. Networks of timm need timm.
"""

import csv
import time
from collections.abc import Iterator
from fnmatch import fnmatch
from importlib.resources import files
from pathlib import Path
from typing import Annotated, NamedTuple

import numpy as np
import typer
from torch import Tensor, nn

from backends.device.artifact import Preproc, QuantSpec
from backends.device.errors import UserError
from backends.device.runtimes import engine
from backends.device.runtimes import prepare as quantize_input
from benchmarks.speed.twin import FLOAT, costs, fit
from benchmarks.zoo_networks import ZOO, Entry, Pretrained
from exporters.export import export
from exporters.files import require_integer
from exporters.victim import Victim
from harness import config
from harness.data import datasets as data
from harness.networks import architectures, victims, weights
from harness.run.arithmetic import compare_in_batches, first_difference
from patches.twins import KERNELS, twin

RESULTS = Path(__file__).parent / "results"
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
FORMATS = ("onnx", "tflite")
CALIBRATED = 256
FITTED = 2000  # images that batch normalisations are fitted to
JUDGED = 300
COMPARED = 100  # photographs: ImageNet images
SPEED_BATCH = 8
LARGE = 250  # pixels: fewer of such images are timed


HEAD = """\
Networks of torchvision and timm, exported to INT8 by `benchmarks/zoo.py`. EfficientNet-Lite0 and SqueezeNet 1.0 have
their ImageNet weights. The others learned for minutes, from so many CIFAR-10 images so many times. *Top-1* is that of
the float network on 300 other images, which for ImageNet may be of its training. *Agreement* is how often the INT8 file
gives its class there, calibrated by `minmax` on 64 or 256 images. Networks that learned for minutes decide by small
margins, and a few of their activations lie far beyond the others: where agreement is low, it is for the ranges that
these give (with `moving_average` it is 77 % for ResNet-50 and for Wide ResNet, in ONNX). Chance gives a top-1 of 10 %,
so little is to be made of the agreement of those that learned least.

*Proof* names the operators that onnxruntime computes in float. *Export* is in seconds of one CPU core. *Twin equals* is
the share of all output integers that twin and kernels have in common, on 100 ImageNet images. *Time* and *memory* are
those of the twin's forward and backward pass, of XNNPACK or onnxruntime, as a multiple of the float network's, on 8
images (2 of 299 pixels) and one core.

"""
Facts = dict[tuple[str, str, str], str]  # network, format or nothing, what is measured


class Images(NamedTuple):
    """What a network is made of and judged by: to learn from, to calibrate on, others with labels, and photographs."""

    train: data.Images
    calibration: np.ndarray
    judged: data.Images
    photographs: np.ndarray


def main(
    folder: Path,
    data_dir: Annotated[Path, typer.Option("--data")],
    only: Annotated[str, typer.Option()] = "*",
    facts_file: Annotated[Path, typer.Option("--facts")] = RESULTS / "zoo.csv",
) -> None:
    """Measure what is not known yet, network by network, then write the table."""
    facts = read(facts_file)
    for entry in ZOO:
        if fnmatch(entry.name, only) and not is_complete(entry, facts):
            for name, value in measure(entry, facts, folder, data_dir):
                facts[(entry.name, *name)] = value
                write(facts, facts_file)
                print(entry.name, *name, value, flush=True)
    (RESULTS / "zoo.md").write_text(table(facts))


def is_complete(entry: Entry, facts: Facts) -> bool:
    """Whether all of a network is known."""
    known = [of(facts, entry, kind) for kind in FORMATS]
    return all("seconds" in one or "refused" in "".join(one.values()) for one in known)


def measure(entry: Entry, facts: Facts, folder: Path, data_dir: Path) -> Iterator[tuple[tuple[str, str], str]]:
    """Yield what is not known yet of a network, fact by fact."""
    images = load(entry, folder, data_dir)
    network, victim = prepare(entry, images, folder, data_dir)
    judged = images.judged.pixels[:JUDGED]
    answers = victims.logits(network, judged, 20).argmax(1)
    networks: dict[str, nn.Module] = {}

    def missing(kind: str, what: str) -> bool:
        return (entry.name, kind, what) not in facts

    if missing("", "top-1"):
        yield ("", "parameters"), str(sum(p.numel() for p in network.parameters()))
        yield ("", "weights"), entry.origin
        yield ("", "size"), str(entry.size)
        yield ("", "top-1"), f"{(answers == images.judged.labels).mean():.4f}"
    for kind in FORMATS:
        file = folder / f"{entry.name}.{kind}"
        if missing(kind, "proof") or not file.is_file():
            begun = time.process_time()
            try:
                proof = write_file(entry, network, victim, kind, images.calibration, folder)
            except UserError as error:
                yield (kind, "proof"), f"refused: {error}"
                continue
            yield (kind, "export seconds"), f"{time.process_time() - begun:.0f}"
            yield (kind, "proof"), proof
        if missing(kind, "agreement"):
            yield (kind, "agreement"), f"{(integer_answers(file, judged) == answers).mean():.4f}"
        for kernels in KERNELS[file.suffix]:
            if missing(kind, f"equal:{kernels}"):
                yield (kind, f"equal:{kernels}"), equal(file, kernels, images.photographs)
        first = KERNELS[file.suffix][0]
        if missing(kind, "seconds") and not facts.get((entry.name, kind, f"equal:{first}"), "").startswith("refused"):
            networks[kind] = twin(file, first)
    if networks:
        found = costs(
            {FLOAT: network.requires_grad_(False)} | networks,
            images.photographs[: 2 if entry.size > LARGE else SPEED_BATCH],
            3,
        )
        for kind in networks:
            yield (kind, "seconds"), f"{found[kind].seconds / found[FLOAT].seconds:.2f}"
            yield (kind, "memory"), f"{found[kind].memory / found[FLOAT].memory:.2f}"


def load(entry: Entry, folder: Path, data_dir: Path) -> Images:
    """Load a network's images at its size; FOLDER keeps the photographs."""
    size = (entry.size, entry.size)
    imagenet = config.DataTable(name="imagenet", calibration=CALIBRATED, craft=1, evaluate=JUDGED)
    kept = folder / f"photographs-{entry.size}.npy"
    own = data.load(imagenet, size, data_dir, folder) if entry.weights or not kept.is_file() else {}
    if not kept.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        np.save(kept, own["all"].pixels[:: len(own["all"].pixels) // COMPARED])
    spec = imagenet
    if not entry.weights:
        spec = config.DataTable(name="cifar10", calibration=CALIBRATED, craft=1, evaluate=JUDGED)
        own = data.load(spec, size, data_dir, folder)
    splits = data.split(own, spec)
    learned = data.training_images(own, splits)
    learned = learned.take(range(min(entry.images, len(learned.pixels))))
    return Images(learned, splits["calibration"].pixels, splits["evaluate"], np.load(kept)[:COMPARED])


def prepare(entry: Entry, images: Images, folder: Path, data_dir: Path) -> tuple[nn.Module, Victim]:
    """Train a network, or load its weights; what FOLDER has is loaded."""
    kept = folder / entry.name
    kept.mkdir(parents=True, exist_ok=True)
    given: dict[str, object]
    if entry.weights:
        classes = 1000
        state = architectures.build(entry.model, classes).state_dict()
        state = dict(zip(state, pretrained(entry.weights, data_dir).values(), strict=True))
        weights.write_tensors(state, kept / "given.pt")
        given = {"weights": "given.pt", "mean": entry.weights.mean, "std": entry.weights.std}
        given["channel_order"] = entry.weights.channel_order
    else:
        classes = 10
        train = {"epochs": entry.epochs, "learning_rate": entry.rate, "batch": 32, "flips": True}
        given = {"train": train, "mean": MEAN, "std": STD}
    if not (kept / victims.FILE).is_file():
        victims.prepare(
            config.VictimTable(name=entry.name, model=entry.model, **given),
            data_dir=kept, images=images.train, classes=classes, size=(entry.size, entry.size), folder=kept,
            cache=folder, checkpoint=kept / "checkpoint.pt",
        )  # fmt: skip
    victim = victims.read(kept)
    network = victims.load(victim)
    return network if entry.weights else fit(network, images.train.pixels[:FITTED]), victim


def pretrained(of: Pretrained, data_dir: Path) -> dict[str, Tensor]:
    """Read weights of the data folder or of an installed package, in the order of the network's."""
    package, _, rest = of.file.partition("/")
    file = data_dir / of.file
    if not file.is_file():
        file = files(package).joinpath(rest)
    return weights.read_weights(file)


def write_file(entry: Entry, network: nn.Module, victim: Victim, kind: str, pixels: np.ndarray, folder: Path) -> str:
    """Export a network, prove that the file computes in integers, and return but for which operators."""
    quant = QuantSpec(calibration_images=len(pixels), allow_float=entry.allow_float)
    export(network, name=victim.name, victim=victim, format=kind, quant=quant, calibration_pixels=pixels, folder=folder)
    found = require_integer(folder / f"{victim.name}.{kind}", entry.allow_float)
    return f"integer but for {found.but_for}" if found.in_float else "integer"


def integer_answers(file: Path, pixels: np.ndarray) -> np.ndarray:
    """Return the classes that a runtime gives with a file."""
    is_onnx = file.suffix == ".onnx"
    runtime = engine("onnxruntime" if is_onnx else "litert")()
    runtime.load(file, {}, 1)
    preproc = Preproc(layout="nchw" if is_onnx else "nhwc")
    found = [runtime.run(quantize_input(runtime.input, preproc(batch), file)) for batch in np.array_split(pixels, 20)]
    return np.concatenate(found).reshape(len(pixels), -1).argmax(1)


def equal(file: Path, kernels: str, pixels: np.ndarray) -> str:
    """Return the share of the outputs that a twin and a runtime have in common, or why there is no twin."""
    try:
        made = twin(file, kernels)
        (found,) = compare_in_batches(made, pixels, (None,))
    except UserError as error:
        return f"refused: {error}"
    return f"{found.equal:.6f}" + (f" {first_difference(made, pixels[:4], (None,))}" if found.equal < 1 else "")


def read(file: Path) -> Facts:
    """Read what is known."""
    if not file.is_file():
        return {}
    with file.open(newline="") as stream:
        return {(row["network"], row["format"], row["measure"]): row["value"] for row in csv.DictReader(stream)}


def write(facts: Facts, file: Path) -> None:
    """Write what is known."""
    with file.open("w", newline="") as stream:
        rows = csv.writer(stream, lineterminator="\n")
        rows.writerow(["network", "format", "measure", "value"])
        rows.writerows((*name, value) for name, value in facts.items())


def table(facts: Facts) -> str:
    """Return the facts as a Markdown table."""
    lines = [
        "| network | parameters | image | weights | top-1 | format | export, s | proof | agreement | twin equals "
        "| time | memory |",
        "|---|---:|---:|---|---:|---|---:|---|---:|---|---:|---:|",
    ]
    for entry in ZOO:
        about = of(facts, entry, "")
        if not about:
            continue
        known = [f"{int(about['parameters']):,}", about["size"], about["weights"], percent(about["top-1"])]
        for kind in FORMATS:
            found = of(facts, entry, kind)
            shares = [
                f"{kernels} {percent(found[f'equal:{kernels}'])}"
                for kernels in KERNELS[f".{kind}"]
                if f"equal:{kernels}" in found
            ]
            cells = [found.get(what, "") for what in ("export seconds", "proof")]
            cells += [percent(found.get("agreement", "")), ", ".join(shares)]
            cells += [f"{found[what]} x" if what in found else "" for what in ("seconds", "memory")]
            lines.append(f"| {' | '.join([entry.name, *known, kind, *cells])} |")
    return HEAD + "\n".join(lines) + "\n"


def of(facts: Facts, entry: Entry, kind: str) -> dict[str, str]:
    """Return what is known of a network, or of its file of a format."""
    return {what: value for (name, format, what), value in facts.items() if (name, format) == (entry.name, kind)}


def percent(share: str) -> str:
    """Return a share in per cent; of how many images, and refusals, stay."""
    number, _, rest = share.partition(" ")
    return f"{100 * float(number):.1f} %" + (f" {rest}" if rest else "") if number[:1].isdigit() else share


if __name__ == "__main__":
    typer.run(main)

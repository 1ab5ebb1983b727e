"""Sparse-RS on networks whose best patch is known, its budget, and its way from a suite to a target and back."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from helpers import tiny
from helpers.judged_patches import success
from helpers.suites import QUICK, write
from rich.console import Console

from backends.device.artifact import Preproc
from backends.device.bundle import Stamps, paste, write_bundle
from backends.device.errors import UserError
from backends.hosts import Target
from backends.query_client import session
from harness.config import read_suite
from harness.networks.victims import logits
from harness.plan.plan import make
from harness.run.queries import AnswerLog
from harness.run.run import run_suite
from patches.attacks.controls import control
from patches.attacks.sparse_rs import losses
from patches.craft import craft
from patches.patch import Patch
from patches.problem import Problem
from patches.surrogates.device import Device

PIXELS = np.random.default_rng(0).integers(0, 256, (40, 8, 8, 3), np.uint8)
LABELS = np.arange(40) % 4
WEIGHTS = np.random.default_rng(1).normal(size=(3, 3, 3, 4))  # of a patch's pixels, to four classes


class Linear:
    """Scores that are linear in what is pasted, wherever it is; remembers what it was asked."""

    def __init__(self):
        self.images, self.places = [], []

    def __call__(self, stamps, mask, corners, images):
        self.images.append(images)
        self.places.append(corners)
        pasted = paste(PIXELS[images], stamps, mask, corners)
        seen = [image[r : r + 3, c : c + 3] for image, (r, c) in zip(pasted, corners, strict=True)]
        return np.tensordot(np.array(seen) / 255, WEIGHTS, 3).astype(np.float32)


def crafted(ask, target_class=2, px=3, options=None, **problem):
    given = {"queries": 3000, "batch": 4} | (options or {})
    return craft("sparse_rs", Problem(Device(ask), PIXELS, LABELS, target_class, px, **problem), given)


def margin(patch, target_class):
    scores = np.tensordot(patch.pixels[..., :, :, :] / 255, WEIGHTS, 3)
    return scores[target_class] - np.delete(scores, target_class).max()


@pytest.mark.parametrize("target_class", [0, 1, 2, 3])
def test_it_finds_the_best_patch_of_a_linear_network(target_class):
    """The best margin over one rival is the sum of the positive weights' differences; over three it is less."""
    bound = min(
        np.maximum(WEIGHTS[..., target_class] - WEIGHTS[..., rival], 0).sum() for rival in {0, 1, 2, 3} - {target_class}
    )
    found, noise = crafted(Linear(), target_class), control("noise", 3)
    assert margin(noise, target_class) < 0.3 * bound
    assert 0.6 * bound < margin(found, target_class) <= bound
    assert set(np.unique(found.pixels)) == {0, 255}


def test_through_a_session_it_finds_the_best_patch_of_the_dummy(tmp_path):
    """The dummy's scores are the first four reds of the first row; the patch covers all of the image."""
    artifact = replace(tiny.artifact(file := tiny.onnx_file(tmp_path / "tiny.onnx")), preproc=Preproc())
    bundle = write_bundle(tmp_path / "b", artifact, file, PIXELS, {"none": None})
    with session(Target("doll", "dummy"), bundle.root, tmp_path / "o") as held:

        def ask(stamps, mask, corners, images):
            return held.scores(Stamps(stamps, mask, corners), images)[:, :4]

        made = crafted(ask, px=8, options={"queries": 2000, "batch": 1})
        assert made.pixels[0, :4, 0].tolist() == [0, 0, 255, 0]
        assert made.checks["asked"]["calls"] == held.asked == made.checks["queries"]


@pytest.mark.parametrize("options", [{"queries": 100, "batch": 7}, {"queries": 33, "batch": 33}, {"period": 1}])
def test_queries_are_counted_and_never_more_than_the_limit(options):
    ask = Linear()
    made = crafted(ask, options=options)
    asked, limit = sum(map(len, ask.images)), made.checks["options"]["queries"]
    assert limit - made.checks["options"]["batch"] < asked <= limit
    assert made.checks["queries"] == asked
    assert made.checks["steps"] == 0, "queries are no gradient steps"
    assert made.checks["zero_gradient_share"] is None
    assert not {2} & {int(LABELS[i]) for images in ask.images for i in images}, "none of the target class is asked"


def test_an_attack_cannot_ask_more_than_its_limit():
    device = Device(Linear()).over(np.arange(40), 10)
    stamps, mask = np.zeros((1, 3, 3, 3), np.uint8), np.ones((1, 3, 3), bool)
    device.scores(stamps, mask, np.zeros((8, 2)), np.arange(8))
    with pytest.raises(UserError, match="8 queries used: 3 more would exceed the limit of 10"):
        device.scores(stamps, mask, np.zeros((3, 2)), np.arange(3))


def test_the_same_seed_gives_the_same_bytes():
    one, same, other = (crafted(Linear(), seed=seed, options={"queries": 400}) for seed in (0, 0, 1))
    assert one.sha256 == same.sha256 != other.sha256
    assert one.checks["loss"] == same.checks["loss"]


@pytest.mark.parametrize("target_class", [None, 2])
def test_a_patch_for_each_image_at_its_place_or_where_it_finds_one(target_class):
    options, ids = {"queries": 8000}, tuple(map(str, range(40)))
    known = np.random.default_rng(3).integers(0, 6, (40, 2)).astype(np.int32)
    for corners, best in ((known, False), (None, True)):
        ask = Linear()
        problem = Problem(Device(ask), PIXELS, LABELS, target_class, 3, per_image=True, corners=corners)
        made = craft("sparse_rs", problem, options, images=ids, best=best)
        lie = made.corners if best else known
        scores = Linear()(made.pixels, np.ones((1, 3, 3), bool), lie, np.arange(40))
        won = scores.argmax(1) != LABELS if target_class is None else scores.argmax(1) == 2
        clean = Linear()(np.zeros((1, 3, 3, 3), np.uint8), np.zeros((1, 3, 3), bool), lie, np.arange(40))
        before = clean.argmax(1) != LABELS if target_class is None else clean.argmax(1) == 2
        assert won.mean() > max(0.95, before.mean())
        assert made.checks["queries"] == sum(map(len, ask.images)) < 8000, "what is won is asked no more"
        moved = {tuple(place) for places in ask.places for place in places.tolist()}
        if not best:
            assert moved == {tuple(place) for place in known.tolist()}
        elif target_class is not None:  # or it is won before anything has to move
            assert (made.corners != ask.places[0]).any()


@pytest.mark.parametrize("target_class", [None, 1])
@pytest.mark.parametrize("kind", ["margin", "cross_entropy"])
def test_the_losses_are_those_of_the_paper(kind, target_class):
    scores, labels = np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32), np.arange(50) % 4
    wanted = torch.from_numpy(labels if target_class is None else np.full(50, target_class))
    sign = -1 if target_class is None else 1
    found = losses(scores, labels, target_class, kind)
    if kind == "cross_entropy":
        expected = sign * torch.nn.functional.cross_entropy(torch.from_numpy(scores), wanted, reduction="none")
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    else:
        np.testing.assert_array_equal(found < 0, (scores.argmax(1) == wanted.numpy()) == (sign == 1))


@pytest.mark.parametrize("damaged", [lambda log: log[:-5], lambda log: log[:-1] + bytes([log[-1] ^ 1])])
def test_answers_are_kept_and_not_asked_again(tmp_path, damaged):
    """A device that breaks, and a last answer that is cut or damaged: the patch is that of a run without."""
    whole = crafted(Linear(), options={"queries": 400})
    path, fine = tmp_path / "checkpoints/a", Linear()

    def breaks(*query):
        if len(fine.images) == 30:
            raise UserError("doll: crash")
        return fine(*query)

    with AnswerLog(path) as known, pytest.raises(UserError, match="doll: crash"):
        crafted(known.first(breaks), options={"queries": 400})
    assert known.images == 30 * 4
    path.write_bytes(damaged(path.read_bytes()))
    ask = Linear()
    with AnswerLog(path) as known:
        assert crafted(known.first(ask), options={"queries": 400}).sha256 == whole.sha256
    assert len(ask.images) == 100 - 29
    with AnswerLog(path) as known:  # another search: nothing of it fits
        ask.images.clear()
        crafted(known.first(ask), seed=1, options={"queries": 400})
    assert len(ask.images) == 100


@pytest.mark.parametrize(
    ("options", "says"),
    [({"queries": 3}, "at least 4 queries"), ({"loss": "hinge"}, "margin or cross_entropy"),
     ({"batch": 0}, "'batch': .* at least 1"), ({"square": 1.5}, "'square': .* from 0 to 1"),
     ({"steps": 3}, "no option 'steps'")],
)  # fmt: skip
def test_options_that_cannot_be_are_said(options, says):
    with pytest.raises(UserError, match=says):
        crafted(Linear(), options=options)


def test_what_a_device_cannot_do_is_said():
    with pytest.raises(UserError, match="scores and no gradients"):
        craft("gap", Problem(Device(Linear()), PIXELS, LABELS, 2, 3))
    with pytest.raises(UserError, match="queries a target"):
        craft("sparse_rs", Problem(torch.nn.Flatten(), PIXELS, LABELS, 2, 3))
    with pytest.raises(UserError, match="per_image = true"):
        craft("sparse_rs", Problem(Device(Linear()), PIXELS, LABELS, 2, 3), best=True)
    nan = Device(lambda stamps, mask, corners, images: np.full((len(images), 4), np.nan, np.float32))
    with pytest.raises(UserError, match="finite scores"):
        craft("sparse_rs", Problem(nan, PIXELS, LABELS, 2, 3))


@pytest.mark.slow
@pytest.mark.usefixtures("one_thread")
def test_it_beats_the_control_on_a_trained_network(digits):
    pixels, labels = digits.craft

    def ask(stamps, mask, corners, images):
        return logits(digits.network, paste(pixels[images], stamps, mask, corners))

    problems = [Problem(Device(ask), pixels, labels, 3, 8, seed=seed) for seed in range(3)]
    made = [craft("sparse_rs", problem, {"queries": 5000}) for problem in problems]
    noise = [control("noise", 8, seed=seed) for seed in range(3)]
    found, expected = (np.mean([success(digits, one, 3) for one in some]) for some in (made, noise))
    assert found > expected + 0.07


SUITE = QUICK.replace('name = "gap"', 'name = "sparse_rs"\nsurrogate = "device:resnet8-onnx-s8s8-minmax:ort"')
SUITE = SUITE.replace("steps = 3", "queries = 64")


def plan(folder, text, **more):
    return make(read_suite(write(folder, text)), None, folder / "cache", **more)


def test_a_plan_asks_the_target_that_is_named(tmp_path):
    made = next(p for p in plan(tmp_path, SUITE).patches if p.attack == "sparse_rs")
    assert (made.surrogate.target.name, made.surrogate.artifact.name) == ("ort", "resnet8-onnx-s8s8-minmax")
    assert made.name == "sparse_rs-device-ort-resnet8-onnx-s8s8-minmax-c3-s0-8px-queries=64"
    other = SUITE.replace('runtime = "onnxruntime"', 'runtime = "onnxruntime"\noptions = { optimization = "disabled" }')
    assert made.key != next(p for p in plan(tmp_path, other).patches if p.attack == "sparse_rs").key


DEFENDED = ["jpeg:60", "patchcleanser:8"]
BEHIND = SUITE.replace("[data]", f'defence = ["none", "{DEFENDED[0]}", "{DEFENDED[1]}"]\n[data]', 1)
BEHIND = BEHIND.replace("evaluate = 40", "evaluate = 4").replace('["minmax", "moving_average"]', '"minmax"')
BEHIND = BEHIND.replace('"sparse_rs"', f'"sparse_rs"\ndefence = ["{DEFENDED[0]}", "{DEFENDED[1]}"]')


def test_a_patch_is_another_where_the_device_that_it_asks_has_a_defence(tmp_path):
    made = [p for p in plan(tmp_path, BEHIND).patches if p.attack == "sparse_rs"]
    assert [p.surrogate.words.defence for p in made] == DEFENDED
    (plain,) = (p for p in plan(tmp_path, SUITE).patches if p.attack == "sparse_rs")
    assert len({p.key for p in made} | {plain.key}) == 3


@pytest.mark.slow
def test_a_suite_asks_the_device_behind_its_defence(quick, tmp_path):
    """Each attack meets the defence that it expects, and the report calls it adaptive."""
    suite, out = write(tmp_path, BEHIND), tmp_path / "out"
    shutil.copytree(quick / "out/quick/store", out / "store")
    assert run_suite(suite, None, out, console=Console(quiet=True))
    cells = pd.read_csv(out / "cells.csv").fillna({"defence": "", "surrogate": ""})
    mine = cells[cells["attack"] == "sparse_rs"]
    words = {f"device:resnet8-onnx-s8s8-minmax:ort with defence {word}" for word in DEFENDED}
    assert set(mine["surrogate"]) == words
    assert set(mine["defence"]) == {"", *DEFENDED}
    for word in DEFENDED:
        (file,) = (out / "patches").glob(f"sparse_rs*defence-{word.replace(':', '')}*.npz")
        made = Patch.read(file)
        assert made.checks["queries"] == 64
        assert made.checks["asked"]["target"] == "ort"
    page = (out / "report.html").read_text()
    section = page[page.index('<section id="defences">') :]
    section = section[: section.index("</section>")]
    assert "success, adaptive, %" in section
    assert '<span class="bad">only naively' not in section


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        (
            ':ort"',
            ':moon"',
            r'not an artifact on a target of this suite; there is "device:resnet8-onnx-s8s8-minmax:ort", "dev',
        ),
        ('surrogate = "device:resnet8-onnx-s8s8-minmax:ort"', "", 'give it a surrogate of "device:resnet8-onnx'),
        ('"sparse_rs"', '"gap"', "needs gradients, and 'device:.*float or twin:ARTIFACT, or use sparse_rs"),
    ],
)
def test_an_attack_and_a_surrogate_that_do_not_fit_are_told_apart_before_anything_runs(tmp_path, old, new, says):
    with pytest.raises(UserError, match=says):
        plan(tmp_path, SUITE.replace(old, new, 1).replace("queries = 64", ""))


@pytest.mark.slow
def test_a_suite_asks_and_a_run_that_broke_goes_on(quick, tmp_path, monkeypatch):
    """The second device is another process: what the first one answered is not asked again."""
    from backends import query_client as sessions

    asked, real = [], sessions.Session.scores

    def breaks(held, stamps, images):
        asked.append(len(images))
        if len(asked) == 5:
            raise UserError("ort: crash: SIGSEGV")
        return real(held, stamps, images)

    monkeypatch.setattr(sessions.Session, "scores", breaks)
    suite, out = write(tmp_path, SUITE), tmp_path / "out"
    shutil.copytree(quick / "out/quick/store", out / "store")
    with pytest.raises(UserError, match="ort: crash: SIGSEGV\n32 queries are answered and kept: run again to go on"):
        run_suite(suite, None, out, console=Console(quiet=True))
    assert run_suite(suite, None, out, console=Console(quiet=True))
    assert asked == [8] * 9
    assert not list((out / "store/checkpoints").glob("*.answers"))
    cells = pd.read_csv(out / "cells.csv")
    mine = cells[cells["attack"] == "sparse_rs"]
    assert set(mine["surrogate"]) == {"device:resnet8-onnx-s8s8-minmax:ort"}
    patch = Patch.read(next((out / "patches").glob("sparse_rs*.npz")))
    assert patch.checks["queries"] == 64
    assert patch.checks["asked"]["target"] == "ort"
    assert patch.checks["asked"]["info"]["kernels"]
    run = json.loads((out / "run.json").read_text())
    assert "queries per patch" in Path(out / "report.html").read_text()
    assert [p["checks"]["queries"] for p in run["patches"] if p["attack"] == "sparse_rs"] == [64]

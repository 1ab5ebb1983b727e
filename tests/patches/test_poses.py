"""Poses, printable colours and disguises, held against closed forms, another rotation, and each other."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from backends.device.errors import UserError
from patches import poses
from patches.attacks.controls import control
from patches.disguise import value_bounds
from patches.paste import draw_poses, pose_patch
from patches.patch import UNPOSED, Patch, Pose
from patches.placement import corners, mask, stamps_for
from patches.printable import non_printability, palette, total_variation
from patches.problem import Problem

IDS = [f"img-{i}" for i in range(400)]


def tensors(stamp: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(stamp).permute(0, 3, 1, 2).double() / 255


@pytest.mark.parametrize("shape", ["square", "round"])
@pytest.mark.parametrize("n", [1, 60])
def test_numpy_and_torch_pose_alike(shape: str, n: int) -> None:
    """To one level where a half is rounded."""
    stamps = np.random.default_rng(0).integers(0, 256, (n, 7, 7, 3), np.uint8)
    covered, drawn = mask(7, shape), poses.draw(Pose(180, 0.3, 0.2, 0.4), IDS[:60])
    canvas = poses.canvas_side(7, Pose(180, 0.3))
    want, covers = poses.pose_stamps(stamps, covered, drawn, canvas)
    got, also = pose_patch(tensors(stamps), torch.from_numpy(covered)[None], torch.from_numpy(drawn), canvas)
    assert (also.numpy() == covers).mean() > 0.999
    off = np.abs((got * 255).round().permute(0, 2, 3, 1).numpy() - want)[also.numpy() & covers]
    assert off.max() <= 1
    assert (off > 0).mean() < 0.01


def test_no_pose_is_the_patch_itself() -> None:
    noise = control("noise", 7, "round")
    stamps, covers = poses.pose_stamps(noise.pixels[None], noise.mask, np.zeros((3, 4)), 7)
    assert (stamps == noise.pixels).all()
    assert (covers == noise.mask).all()
    assert poses.canvas_side(7, UNPOSED) == poses.canvas_side(7, Pose(brightness=0.3, contrast=0.2)) == 7


@pytest.mark.parametrize("quarter", [0, 1, 2, 3])
def test_quarters_and_doubling_are_exact(quarter: int) -> None:
    noise = control("noise", 6)
    stamps, covers = poses.pose_stamps(noise.pixels[None], noise.mask, np.array([[90.0 * quarter, 0, 0, 0]]), 6)
    assert covers.all()
    assert (stamps[0] == np.rot90(noise.pixels, -quarter)).all()
    _, halved = poses.pose_stamps(noise.pixels[None], noise.mask, np.array([[0, 0.99, 0, 0]]), 12)
    assert halved.sum() == pytest.approx(36 * 1.99**2, rel=0.05)


def test_a_turn_is_pillows_turn() -> None:
    """A smooth picture, in its middle, where nothing of the edge is mixed in."""
    ramp = np.add.outer(np.arange(16) * 6, np.arange(16) * 9).astype(np.uint8)[..., None].repeat(3, 2)
    ours, _ = poses.pose_stamps(ramp[None], mask(16), np.array([[25.0, 0, 0, 0]]), 16)
    theirs = np.asarray(Image.fromarray(ramp).rotate(-25.0, Image.Resampling.BILINEAR))
    assert np.abs(ours[0, 4:12, 4:12].astype(int) - theirs[4:12, 4:12]).max() <= 1


def test_light_is_contrast_then_brightness() -> None:
    stamp = np.array([[[[0, 128, 255]]]], np.uint8)
    drawn = np.array([[0, 0, 0.1, 0], [0, 0, 0, -0.5], [0, 0, -0.2, 0.5]])
    stamps, _ = poses.pose_stamps(stamp, mask(1), drawn, 1)
    want = [[[(c / 255 - 0.5) * (1 + k) + 0.5 + b for c in (0, 128, 255)]] for _, _, b, k in drawn]
    assert (stamps[:, 0] == np.rint(np.clip(want, 0, 1) * 255)).all()


@pytest.mark.parametrize("pose", [Pose(20), Pose(0, 0.5), Pose(180, 0.9), Pose(45, 0.1)])
@pytest.mark.parametrize("px", [1, 6, 7])
def test_the_canvas_holds_the_widest_pose(pose: Pose, px: int) -> None:
    canvas = poses.canvas_side(px, pose)
    extremes = np.array([[angle, pose.scale, 0, 0] for angle in np.linspace(-pose.rotation, pose.rotation, 37)])
    inside, outside = (
        poses.pose_stamps(control("grey", px).pixels[None], mask(px), extremes, c)[1] for c in (canvas, canvas + 4)
    )
    assert (canvas - px) % 2 == 0
    assert inside.sum() == outside.sum(), "nothing is cut off"


def test_draws_are_uniform_and_each_images_own() -> None:
    pose = Pose(30, 0.2, 0.1, 0.3)
    drawn = poses.draw(pose, [str(i) for i in range(4000)])
    assert (np.abs(drawn) <= pose).all()
    assert np.abs(drawn.mean(0) / np.array(pose)).max() < 5 * math.sqrt(1 / 3 / 4000)
    assert np.allclose(drawn.std(0), np.array(pose) / math.sqrt(3), rtol=0.05)
    assert np.abs(np.corrcoef(drawn.T) - np.eye(4)).max() < 0.08
    assert (poses.draw(pose, ["7", "2"]) == drawn[[7, 2]]).all()
    assert (poses.draw(pose, ["7"], 1) != drawn[7]).all()
    theirs = draw_poses(pose, 4000, torch.Generator().manual_seed(0))
    assert torch.allclose(theirs.std(0), torch.tensor(pose) / math.sqrt(3), rtol=0.05)


def test_a_posed_patch_lies_inside_and_around_its_middle() -> None:
    patch, pose = control("grey", 6), Pose(45, 0.2)
    stamps, covers, places = stamps_for(patch, "random", IDS, (32, 24), pose=pose)
    canvas = poses.canvas_side(6, pose)
    assert stamps.shape == (400, canvas, canvas, 3)
    assert covers.shape == (400, canvas, canvas)
    assert (places == corners("random", IDS, canvas, (32, 24))).all()
    lit = stamps_for(patch, "center", IDS, (32, 24), pose=Pose(brightness=0.1))
    assert (lit[2] == corners("center", IDS, 6, (32, 24))).all()
    chosen = Patch("p", patch.pixels, patch.mask, "gap", "", 0, 0, corners=np.array([[9, 8]], np.int32))
    assert (
        stamps_for(chosen, "best", IDS, (32, 24), pose=pose)[2] == [9 - (canvas - 6) // 2, 8 - (canvas - 6) // 2]
    ).all()
    with pytest.raises(UserError, match="patch size"):
        stamps_for(patch, "random", IDS, (8, 8), pose=pose)
    with pytest.raises(UserError, match="rotation from 0 to 180"):
        poses.canvas_side(6, Pose(-1))


def test_smoothness_and_printability_are_what_they_say() -> None:
    whole, disc = torch.ones(1, 4, 4, dtype=torch.bool), torch.from_numpy(mask(8, "round"))[None]
    step = torch.zeros(1, 3, 4, 4)
    step[..., 2:] = 0.5  # one column of three has a step of 1/2 in three colours
    assert total_variation(step, whole) == pytest.approx(0.5 * math.sqrt(3) / 3, abs=1e-5)
    loud = torch.rand(1, 3, 8, 8)
    loud[..., disc[0]] = 0.3
    assert total_variation(loud, disc) == pytest.approx(0, abs=1e-5), "what no pixel covers has no say"
    colours = palette()
    assert colours.shape == (27, 3)
    assert len({tuple(c) for c in colours.tolist()}) == 27
    own = colours[5][None, :, None, None].expand(1, 3, 8, 8)
    assert non_printability(own, disc, colours) == pytest.approx(0, abs=1e-5)
    far = torch.tensor([0.0, 1.0, 1.0])[None, :, None, None].expand(2, 3, 8, 8)
    nearest = min(math.dist((0, 1, 1), c) for c in colours.tolist())
    assert non_printability(far, disc, colours) == pytest.approx(nearest, rel=1e-5)


def test_a_disguise_bounds_every_pixel(tmp_path: Path) -> None:
    pixels = np.zeros((2, 9, 9, 3), np.uint8)
    given = Problem(torch.nn.Flatten(), pixels, np.zeros(2, int), None, 4)
    assert [float(end) for end in value_bounds("", 0.3, given)] == [0, 1]
    low, high = value_bounds("grey", 0.25, given)
    assert torch.allclose(low, torch.full((1, 3, 4, 4), 128 / 255 - 0.25))
    Image.fromarray(np.full((10, 20, 3), (255, 0, 51), np.uint8)).save(tmp_path / "p.png")
    low, high = value_bounds(str(tmp_path / "p.png"), 0.1, given)
    assert torch.allclose(low[0, :, 0, 0], torch.tensor([0.9, 0.0, 0.1]))
    assert torch.allclose(high[0, :, 3, 2], torch.tensor([1.0, 0.1, 0.3]))
    for wrong, within in (("nowhere.png", 0.3), ("grey", 0.0), ("grey", 1.1)):
        with pytest.raises(UserError, match="disguise"):
            value_bounds(wrong, within, given)

"""Defences in training: what each shows the network, and their words."""

import sys

import pytest
import torch
from torch import nn
from torch.nn import functional

from backends.device.defences.patchcleanser import mask_set
from backends.device.errors import UserError
from harness import config
from patches.training_defences import Step, cutout, loss_with, names, parse_training_defence, pat

pytestmark = pytest.mark.usefixtures("one_thread")
PX = 6


def network(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3, stride=2, padding=1), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4),
    )  # fmt: skip


def step(net: nn.Module | None = None, n: int = 8, number: int = 0) -> Step:
    torch.manual_seed(1)
    images = torch.rand(n, 3, 20, 16)
    return Step((net or network()).train(), images, torch.arange(n) % 4, functional.cross_entropy, number, 100)


def box(changed: torch.Tensor) -> tuple[int, int, int, int]:
    rows, columns = changed.any(1).nonzero().flatten(), changed.any(0).nonzero().flatten()
    return int(rows[0]), int(columns[0]), int(rows[-1] - rows[0] + 1), int(columns[-1] - columns[0] + 1)


def test_two_masks_of_the_certificate_lie_on_every_image():
    images = torch.rand(200, 3, 20, 16)
    masks = mask_set((20, 16), PX)
    hidden = (cutout.masked(images, PX) != images).all(1)
    allowed = torch.zeros(len(masks.corners), 20, 16, dtype=torch.bool)
    for one, (row, column) in zip(allowed, masks.corners, strict=True):
        one[row : row + masks.size[0], column : column + masks.size[1]] = True
    pairs = {tuple((a | b).flatten().tolist()) for a in allowed for b in allowed}
    assert {tuple(h.flatten().tolist()) for h in hidden} <= pairs
    assert hidden.any(0).all(), "no place is always in sight"
    single = [int(h.sum()) == masks.size[0] * masks.size[1] for h in hidden]
    assert 0 < sum(single) < 50, "two masks are mostly different ones"


def test_a_patch_changes_a_square_and_nothing_else():
    given = step(n=60)
    seen = pat.patched(given, PX)
    found = [box(changed) for changed in (seen != given.images).any(1)]
    assert all(b[2:] == (PX, PX) for b in found)
    assert min(b[0] for b in found) == 0
    assert max(b[0] for b in found) == 20 - PX
    assert {b[1] for b in found} == set(range(16 - PX + 1))
    assert 0 <= seen.min() <= seen.max() <= 1


def test_patches_raise_the_loss_and_leave_the_network_as_it_was():
    given = step(n=40)
    before = {name: tensor.clone() for name, tensor in given.network.state_dict().items()}
    seen = pat.patched(given, PX)
    torch.manual_seed(2)
    corners = torch.tensor([box(changed)[:2] for changed in (seen != given.images).any(1)])
    noise = pat.paste(given.images.clone(), torch.rand(40, 3, PX, PX), torch.ones(1, PX, PX, dtype=torch.bool), corners)
    assert given.network.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in given.network.state_dict().items())
    assert all(parameter.grad is None for parameter in given.network.parameters())
    given.network.eval()
    assert given.loss(seen) > given.loss(noise) > 0


def test_half_of_the_images_stay_without_a_patch():
    given = step(n=9)
    changed = (pat.half_patched(given, PX) != given.images).flatten(1).any(1)
    assert changed.tolist() == [False] * 4 + [True] * 5


@pytest.mark.parametrize("name", names())
def test_the_generator_decides_and_gradients_reach_every_weight(name):
    losses = []
    for seed in (0, 0, 1):
        given = step(network())
        torch.manual_seed(seed)
        value = loss_with(f"{name}:{PX}")(given)
        value.backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in given.network.parameters())
        losses.append(value.item())
    assert losses[0] == losses[1] != losses[2]


def test_without_a_side_patches_have_a_quarter_of_the_image():
    assert parse_training_defence("pat").patch_px(32, 40) == 8
    assert parse_training_defence("pat:5").patch_px(32, 40) == 5
    assert parse_training_defence("pat").patch_px(3, 3) == 1
    with pytest.raises(UserError, match=r"pat:33: .*does not fit into 32x40"):
        parse_training_defence("pat:33").patch_px(32, 40)


@pytest.mark.parametrize("table", [config.TrainTable, config.QatTable])
def test_a_suite_names_a_defence(table):
    assert table(defence="pat:8").defence == "pat:8"
    assert table(defence="none") == table()
    for word, says in (
        ("pad", "there is none of that name; .*pat"),
        ("pat:", "expected pat, or pat:PATCH_PX from 1 to 1024"),
        ("pat:0", "expected pat, or"),
        ("pat:08", "expected pat, or"),
        ("median:3", "works on the device: name it in the suite.s defence"),
        ("", ""),
    ):
        if word:
            with pytest.raises(ValueError, match=says):
                table(defence=word)


def test_the_pages_of_the_keys_name_every_defence():
    for table in (config.TrainTable, config.QatTable):
        description = table.model_fields["defence"].description
        assert all(f"`{name}`" in description for name in names())


def test_a_defence_of_another_package_is_found_by_its_entry_point(tmp_path, monkeypatch):
    info = tmp_path / "halves-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: halves\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[patchbench.training_defences]\nhalves = halves_defence\n")
    (tmp_path / "halves_defence.py").write_text("def loss(step, patch_px):\n    return step.loss(step.images) / 2\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "halves_defence", raising=False)
    given = step()
    assert loss_with("halves")(given).item() == pytest.approx(loss_with("")(given).item() / 2)

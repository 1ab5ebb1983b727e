"""Networks by name."""

import math
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import torch
from torch import nn

from backends.device.errors import UserError
from harness.networks import architectures as networks


@pytest.mark.parametrize(
    ("name", "parameters"), [("resnet20", 0.27), ("resnet32", 0.46), ("resnet44", 0.66), ("resnet56", 0.85)]
)
def test_the_published_numbers_of_parameters(name, parameters):
    """He et al. 2016, table 6, in millions."""
    assert round(sum(p.numel() for p in networks.build(name, 10).parameters()) / 1e6, 2) == parameters


@pytest.mark.parametrize("layers", networks.CIFAR_RESNETS)
def test_the_name_counts_the_layers(layers):
    network = networks.build(f"resnet{layers}", 7)
    assert sum(isinstance(m, torch.nn.Conv2d | torch.nn.Linear) for m in network.modules()) == layers
    assert network(torch.zeros(2, 3, 32, 32)).shape == (2, 7)


def test_the_shortcut_takes_every_second_pixel_between_zero_channels():
    block = networks.BasicBlock(2, 6, 2).eval()
    torch.nn.init.zeros_(block.conv2.weight)  # what is left is the shortcut
    x = np.random.default_rng(0).random((1, 2, 4, 4), np.float32)
    expected = np.zeros((1, 6, 2, 2), np.float32)
    expected[0, 2:4] = x[0, :, [0, 2]][:, :, [0, 2]].transpose(1, 0, 2)
    np.testing.assert_array_equal(block(torch.tensor(x)).detach().numpy(), expected)


@pytest.mark.data
def test_names_and_shapes_are_those_of_the_published_weights(data_dir):
    state = torch.load(data_dir / "cifar10/resnet32.th", weights_only=True, map_location="cpu")["state_dict"]
    own = networks.build("resnet32", 10).state_dict()
    published = {name.removeprefix("module."): tuple(tensor.shape) for name, tensor in state.items()}
    assert published == {name: tuple(t.shape) for name, t in own.items() if not name.endswith("num_batches_tracked")}


def test_weights_come_from_the_seed_and_leave_torchs_own_randomness_alone():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first, again, other = (networks.build("resnet8", 10, seed).state_dict()["conv1.weight"] for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(torch.rand(3), expected)


def test_a_torchvision_classifier_by_name():
    network = networks.build("squeezenet1_0", 12).eval()
    assert network(torch.zeros(1, 3, 64, 64)).shape == (1, 12)


@pytest.mark.parametrize(
    ("name", "multiplications"), [("resnet20", 40.6), ("cifar_vgg", 54), ("cifar_mobilenet_v2", 18.7)]
)
def test_the_networks_for_cifar_are_of_one_size_class(name, multiplications):
    """Millions an image, counted from the shapes that hooks see; 40.6 is what He et al. 2016 give for ResNet-20."""
    network, counted = networks.build(name, 10).eval(), []
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            layer.register_forward_hook(
                lambda one, taken, out: counted.append(one.weight.numel() * math.prod(out.shape[2:]))
            )
    assert network(torch.zeros(1, 3, 32, 32)).shape == (1, 10)
    assert sum(counted) / 1e6 == pytest.approx(multiplications, rel=0.05)


@pytest.mark.parametrize("name", ["resnet21", "fasterrcnn_resnet50_fpn", ""])
def test_an_unknown_name_says_what_is_known(name):
    with pytest.raises(UserError, match="plain_cnn, cifar_vgg, cifar_mobilenet_v2, a torchvision"):
        networks.build(name, 10)


@pytest.fixture
def own_module(tmp_path, monkeypatch):
    (tmp_path / "ownnets.py").write_text(
        textwrap.dedent("""
        from torch import nn
        def plain():
            return nn.Sequential(nn.Flatten(), nn.Linear(12, 5))
        def sized(num_classes, width=3):
            return nn.Sequential(nn.Flatten(), nn.Linear(12, num_classes))
        def liberal(**options):
            return sized(**options)
        def broken():
            raise RuntimeError("out of ideas")
        def no_network():
            return [1]
        """)
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [p for p in sys.path if p])
    yield
    sys.modules.pop("ownnets", None)


@pytest.mark.parametrize(("function", "classes"), [("plain", 5), ("sized", 9), ("liberal", 9)])
def test_a_users_function_of_the_current_folder(own_module, function, classes):
    assert networks.build(f"ownnets:{function}", classes)(torch.zeros(1, 3, 2, 2)).shape == (1, classes)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("ownnets:broken", "RuntimeError: out of ideas"),
        ("ownnets:no_network", r"expected a torch.nn.Module, got list"),
        ("ownnets:plian", "no .plian. in ownnets; did you mean .plain."),
        ("no_such_package.nets:f", "no module 'no_such_package'; it is imported from the current folder, /.*run from"),
        (":f", "cannot be built"),
    ],
)
def test_a_users_function_that_fails_is_named_with_what_failed(own_module, model, message):
    with pytest.raises(UserError, match=message) as caught:
        networks.build(model, 5)
    assert repr(model) in str(caught.value)


@pytest.mark.slow
def test_torchvisions_operators_are_declared_only_where_they_are_missing():
    script = """
    import torch
    there = torch.library.Library("torchvision", "DEF")
    for name in ("nms", "qnms"):
        there.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    there.impl("nms", lambda dets, scores, iou_threshold: torch.tensor([42]), "CPU")
    from harness import torchvision_import
    assert torchvision_import.import_torchvision().models.get_model("alexnet", weights=None)
    assert not torchvision_import._KEPT
    assert torch.ops.torchvision.nms(torch.zeros(1, 4), torch.zeros(1), 0.5).item() == 42
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(script)], check=True)

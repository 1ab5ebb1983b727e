"""Training: from a seed, and the same whether interrupted or not."""

import signal
import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest
import torch
from torch import nn

from backends.device.errors import UserError
from harness import config
from harness.data import datasets as data
from harness.networks import architectures as networks
from harness.networks import training, victims
from harness.networks.distillation import divergence, mixed

RNG = np.random.default_rng(0)
TABLE = config.TrainTable(epochs=4, batch=8, seed=3, flips=True)


pytestmark = pytest.mark.usefixtures("one_thread")


def some_images(n=36, side=8):
    labels = np.arange(n) % 3
    pixels = RNG.integers(0, 64, (n, side, side, 3)).astype(np.uint8)
    pixels[np.arange(n), :, :, labels] += 150  # a class is a colour
    return data.Images(pixels, labels, tuple(map(str, range(n))))


def network():
    """With dropout, whose randomness must come from the epoch's seed too."""
    first = networks.build("resnet8", 3, seed=1)
    return nn.Sequential(nn.Dropout(0.1), first)


def digest(trained):
    return victims.weights_digest(trained.state_dict())


class Killed(Exception):
    pass


def interrupted(images, table, checkpoint, steps):
    def progress(done, of, text):
        if done == steps:
            raise Killed

    with pytest.raises(Killed):
        training.train(network(), images, table, checkpoint, progress)


def test_it_learns_and_tells_how_far_it_is(tmp_path):
    images, told = some_images(), []
    trained = training.train(network(), images, TABLE, tmp_path / "c.pt", lambda *now: told.append(now))
    assert not trained.training
    assert [now[:2] for now in told] == [(i + 1, 16) for i in range(16)]  # 4 epochs of 36 // 8 batches
    assert "epoch 4" in told[-1][2]
    assert (victims.logits(trained, images.pixels).argmax(axis=1) == images.labels).mean() > 0.9


@pytest.mark.parametrize("steps", [2, 4, 6, 13])
def test_an_interrupted_training_ends_bit_identical(tmp_path, steps):
    images = some_images()
    whole = digest(training.train(network(), images, TABLE, tmp_path / "whole.pt"))
    interrupted(images, TABLE, tmp_path / "c.pt", steps)
    torch.manual_seed(steps)  # another process is in another state
    told = []
    resumed = training.train(network(), images, TABLE, tmp_path / "c.pt", lambda *now: told.append(now[0]))
    assert digest(resumed) == whole
    assert told[0] == (steps - 1) // 4 * 4 + 1  # goes on after the last whole epoch
    assert digest(training.train(network(), images, TABLE, tmp_path / "c.pt")) == whole


def test_the_seed_decides(tmp_path):
    images = some_images()
    other = TABLE.model_copy(update={"seed": 4})
    found = [
        digest(training.train(network(), images, t, tmp_path / f"{i}.pt")) for i, t in enumerate((TABLE, TABLE, other))
    ]
    assert found[0] == found[1] != found[2]


def test_every_epoch_sees_the_images_in_another_order_and_otherwise_moved(tmp_path):
    seen, net = [], networks.build("resnet8", 3)
    net.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    training.train(net, some_images(32), config.TrainTable(epochs=3, batch=32), tmp_path / "c.pt")
    assert len(seen) == 3
    totals = [batch.sum(dim=(1, 2, 3)).tolist() for batch in seen]
    assert len({tuple(t) for t in totals}) == 3
    assert len({tuple(sorted(t)) for t in totals}) == 3  # not the order alone


def test_a_checkpoint_of_another_training_is_not_used(tmp_path):
    images, others = some_images(), some_images()
    fresh = digest(training.train(network(), images, TABLE, tmp_path / "fresh.pt"))
    for what, table in ((others, TABLE), (images, TABLE.model_copy(update={"epochs": 3}))):
        interrupted(what, table, tmp_path / "c.pt", 9)
        assert digest(training.train(network(), images, TABLE, tmp_path / "c.pt")) == fresh


@pytest.mark.parametrize("damage", [lambda c: b"", lambda c: c[: len(c) // 2], lambda c: b"\x80\x02}q\x00."])
def test_a_damaged_checkpoint_is_not_used(tmp_path, damage):
    images = some_images()
    fresh = digest(training.train(network(), images, TABLE, tmp_path / "c.pt"))
    (tmp_path / "c.pt").write_bytes(damage((tmp_path / "c.pt").read_bytes()))
    assert digest(training.train(network(), images, TABLE, tmp_path / "c.pt")) == fresh


def test_torchs_own_randomness_is_left_alone(tmp_path):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    net = networks.build("resnet8", 3)
    training.train(net, some_images(), TABLE, tmp_path / "c.pt")
    assert torch.equal(torch.rand(3), expected)


def test_a_training_that_diverges_says_what_to_lower(tmp_path):
    table = config.TrainTable(epochs=3, batch=8, learning_rate=1e25)
    with pytest.raises(UserError, match=r"diverged in epoch \d: lower learning_rate"):
        training.train(network(), some_images(), table, tmp_path / "c.pt")


def test_fewer_images_than_a_batch(tmp_path):
    table = config.TrainTable(epochs=1, batch=64)
    told = []
    training.train(network(), some_images(9), table, tmp_path / "c.pt", lambda *now: told.append(now[:2]))
    assert told == [(1, 1)]


def test_images_are_moved_by_a_sixteenth_and_mirrored_only_where_asked():
    x = torch.zeros(400, 3, 32, 32, dtype=torch.uint8)
    x[:, :, 16, 10] = 255
    for flips, columns in ((False, {8, 9, 10, 11, 12}), (True, {8, 9, 10, 11, 12, 19, 20, 21, 22, 23})):
        moved = training.augmented(x, flips)
        assert moved.shape == x.shape
        assert moved.max() == 1
        bright = moved[:, 0].nonzero()
        assert len(bright) == 400
        assert set(bright[:, 1].tolist()) == {14, 15, 16, 17, 18}
        assert set(bright[:, 2].tolist()) == columns


def test_the_rate_rises_and_then_falls_to_nearly_nothing():
    rates = [training.schedule(step, 100) for step in range(100)]
    assert max(rates) == rates[14] == 1
    assert rates[:15] == sorted(rates[:15])
    assert rates[14:] == sorted(rates[14:], reverse=True)
    assert 0 < rates[-1] < 0.001
    assert training.schedule(0, 1) == 1


def test_what_is_trained_on_is_never_evaluated_on():
    spec = config.DataTable(name="digits", evaluate=500)
    pools = data.load(spec, (8, 8), None, None)
    seen = data.training_images(pools, data.split(pools, spec))
    assert len(seen.ids) == 1200
    assert not set(seen.ids) & set(data.split(pools, spec)["evaluate"].ids)
    splits = data.split({"all": pools["train"]}, spec)
    assert data.training_images({"all": pools["train"]}, splits).ids == splits["craft"].ids


@pytest.mark.slow
def test_a_killed_process_goes_on(tmp_path):
    script = textwrap.dedent("""
        import sys
        from pathlib import Path
        import torch
        from harness import config
        from harness.data import datasets as data
        from harness.networks import architectures as networks
        from harness.networks import training, victims
        torch.set_num_threads(1)
        pools = data.load(config.DataTable(name="digits"), (16, 16), None, None)
        table = config.TrainTable(epochs=3, batch=64, seed=1)
        tell = lambda *now: print(*now, flush=True)
        net = training.train(networks.build("resnet8", 10, 1), pools["train"], table, Path(sys.argv[1]), tell)
        print("digest", victims.weights_digest(net.state_dict()))
    """)

    def start(checkpoint):
        return subprocess.Popen(
            [sys.executable, "-c", script, tmp_path / checkpoint], stdout=subprocess.PIPE, text=True
        )

    whole = start("whole.pt").communicate()[0].splitlines()
    killed = start("c.pt")
    for line in killed.stdout:
        if line.startswith("25 "):  # in the second epoch of 18 steps
            killed.send_signal(signal.SIGKILL)
            break
    assert killed.wait() == -signal.SIGKILL
    killed.stdout.close()
    resumed = start("c.pt").communicate()[0].splitlines()
    assert int(resumed[0].split()[0]) in (19, 37)  # 37: on a busy machine the signal comes late
    assert resumed[-1] == whole[-1]
    assert whole[-1].startswith("digest ")


@pytest.mark.slow
def test_the_demos_network_reads_97_percent_of_the_digits_it_has_not_seen(tmp_path):
    pools = data.load(config.DataTable(name="digits"), (32, 32), None, None)
    table = config.TrainTable(epochs=8, batch=32)
    begun = time.process_time()
    net = training.train(networks.build("resnet8", 10), pools["train"], table, tmp_path / "c.pt")
    seconds = time.process_time() - begun
    assert (victims.logits(net, pools["test"].pixels).argmax(axis=1) == pools["test"].labels).mean() >= 0.97
    assert seconds < 30


def test_a_network_learns_its_teachers_answers_and_no_label(tmp_path):
    """The teacher calls every class by the next one's number, which no label says."""
    images = some_images(60)

    class Teacher(nn.Module):
        def forward(self, x):
            return 20 * x.mean(dim=(2, 3)).roll(1, dims=1)

    table = config.TrainTable(epochs=12, batch=12, learning_rate=0.02, teacher="t", mix=0.2)
    trained = training.train(network(), images, table, tmp_path / "c.pt", teacher=Teacher())
    preds = victims.logits(trained, images.pixels).argmax(axis=1)
    assert (preds == (images.labels + 1) % 3).mean() > 0.9


def test_a_distillation_of_another_teacher_is_not_gone_on_with(tmp_path):
    images, table = some_images(), config.TrainTable(epochs=2, batch=8, teacher="t")
    teachers = [networks.build("resnet8", 3, seed).eval() for seed in (7, 8)]
    trained = [training.train(network(), images, table, tmp_path / "c.pt", teacher=t) for t in teachers]
    fresh = training.train(network(), images, table, tmp_path / "fresh.pt", teacher=teachers[1])
    assert digest(trained[0]) != digest(trained[1]) == digest(fresh)


def test_the_divergence_of_answers_by_hand():
    """At temperature 2, times its square: KL of (1/2, 1/2) from (3/4, 1/4)."""
    given, wanted = torch.zeros(1, 2), 2 * torch.tensor([[3.0, 1.0]]).log()
    expected = 4 * (0.75 * np.log(0.75 / 0.5) + 0.25 * np.log(0.25 / 0.5))
    assert divergence(given, wanted, 2.0).item() == pytest.approx(expected, rel=1e-6)


def test_mixtures_hold_no_more_of_another_image_than_said():
    torch.manual_seed(0)
    images = torch.eye(64).reshape(64, 64, 1, 1)  # each has a pixel of its own
    share = mixed(images, 0.3)[torch.arange(64), torch.arange(64), 0, 0]
    assert share.min() >= 0.7 - 1e-6
    assert 0.7 < share.mean() < 0.95


class WithAuxiliary(nn.Module):
    """As GoogLeNet: while it trains it gives the logits of an auxiliary classifier too."""

    def __init__(self):
        super().__init__()
        self.first, self.main, self.auxiliary = nn.Flatten(), nn.Linear(192, 3), nn.Linear(192, 3)

    def forward(self, x):
        x = self.first(x)
        return (self.main(x), self.auxiliary(x)) if self.training else self.main(x)


def test_a_network_with_auxiliary_outputs_learns_by_its_main_one(tmp_path):
    network = WithAuxiliary()
    main, auxiliary = (layer.weight.detach().clone() for layer in (network.main, network.auxiliary))
    table = config.TrainTable(epochs=1, batch=8)
    trained = training.train(network, some_images(), table, tmp_path / "checkpoint.pt")
    assert not torch.equal(trained.main.weight, main)
    assert torch.equal(trained.auxiliary.weight, auxiliary)

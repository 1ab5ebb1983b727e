"""Attacks and surrogates by their names: their options, and those of third parties."""

import inspect

import pytest
from helpers.colours import Colours, problem

from backends.device.errors import UserError
from patches.attacks import CHOICES, COMMON_OPTIONS, LIMITS, check_name, load, names, options
from patches.craft import craft
from patches.patch import CONTROLS
from patches.surrogates import build


@pytest.mark.parametrize("name", sorted({*names()} - {*CONTROLS, "imported"}))
def test_options_are_those_of_the_function(name):
    """Planning reads them from its file, which imports torch."""
    parameters = inspect.signature(load(name)).parameters.values()
    named = {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}
    assert options(name, {}) == ({} if name == "sparse_rs" else COMMON_OPTIONS) | named
    assert named.keys() <= LIMITS.keys() | CHOICES.keys() | {"disguise"}, "and what each may be is known"


def test_options_take_an_integer_for_a_float():
    assert options("gap", {"learning_rate": 1})["learning_rate"] == 1
    assert options("noise", {}) == {}


@pytest.fixture
def third_party(tmp_path, monkeypatch):
    """A distribution on the path that brings attacks and a surrogate."""
    (tmp_path / "toy_attacks.py").write_text(
        "import torch\n"
        "def half(problem, *, level=0.5): return torch.full((3, problem.px, problem.px), level)\n"
        "def wrong(problem): return torch.zeros(3, 1, problem.px)\n"
        "def dead(network): return network.eval()\n"
    )
    info = tmp_path / "toy-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Name: toy\nVersion: 1\n")
    (info / "entry_points.txt").write_text(
        "[patchbench.attacks]\nhalf = toy_attacks:half\nwrong = toy_attacks:wrong\n"
        "[patchbench.surrogates]\ndead = toy_attacks:dead\n"
    )
    monkeypatch.syspath_prepend(tmp_path)


@pytest.mark.usefixtures("third_party")
def test_third_parties_register_by_entry_points():
    check_name("half")
    assert names()[-2:] == ("half", "wrong")
    for level, rounded in ((0.5 / 255, 0), (1.5 / 255, 2), (2.5 / 255, 2), (-3.0, 0), (7.0, 255)):
        made = craft("half", problem(), {"level": level})
        assert (made.pixels == rounded).all(), "clipped, rounded half to even"
    assert made.checks["zero_gradient_share"] is None
    for attack, given in (("wrong", {}), ("half", {"level": float("inf")})):
        with pytest.raises(UserError, match=r"expected a finite \(3, 4, 4\)"):
            craft(attack, problem(), given)
    assert isinstance(build("dead", Colours()), Colours)


def test_an_unknown_surrogate_is_said():
    with pytest.raises(UserError, match="no surrogate named 'flaot'; there are device, ensemble, fake_quant, float"):
        build("flaot", Colours())

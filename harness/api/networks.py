"""The torch modules that a caller passes: checked, and wrapped so that they take pixels."""

from __future__ import annotations

import copy
from dataclasses import replace

import torch
from torch import Tensor, nn

from backends.device.artifact import Preproc
from backends.device.errors import UserError
from harness.networks.victims import Normalised


def with_preproc(module: nn.Module, preproc: Preproc | None) -> nn.Module:
    """Return a copy of a module that takes RGB in [0, 1], on the CPU: behind its normalisation, if it has one."""
    if not isinstance(module, nn.Module):
        raise UserError(f"expected a torch module, got a {type(module).__name__}")
    if module.training:
        raise UserError(f"{type(module).__name__}: expected a module in eval mode; call its eval() first")
    given = preproc or Preproc()
    if replace(given, mean=Preproc.mean, std=Preproc.std) != Preproc():
        raise UserError(f"{given}: a torch module takes RGB over 255, channels first; only mean and std may be given")
    network = copy.deepcopy(module).cpu()
    return network if given == Preproc() else Normalised(network, given.mean, given.std).eval()


def classes_of(network: nn.Module, size: tuple[int, int]) -> int:
    """Return how many classes a network tells apart; one that gives no logits for an image is a `UserError`."""
    try:
        with torch.inference_mode():
            logits = network(torch.zeros(1, 3, *size))
    except Exception as error:  # a network can fail in any way
        raise UserError(f"the module fails on an image of {size[0]}x{size[1]}: {error}") from error
    if not isinstance(logits, Tensor) or logits.ndim != 2 or len(logits) != 1:
        got = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise UserError(f"the module gives no logits: expected (1, classes) for one image, got {got}")
    return logits.shape[1]

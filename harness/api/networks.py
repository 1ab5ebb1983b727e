"""The torch modules that a caller passes: checked, and wrapped so that they take pixels."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from backends.device.artifact import Preproc
from backends.device.errors import UserError
from harness.networks.victims import Normalised


def with_preproc(module: nn.Module, preproc: Preproc | None) -> nn.Module:
    """Return a module that takes RGB in [0, 1]: the given one, behind its normalisation if it has one."""
    if not isinstance(module, nn.Module):
        raise UserError(f"expected a torch module, got a {type(module).__name__}")
    given = preproc or Preproc()
    if replace(given, mean=Preproc.mean, std=Preproc.std) != Preproc():
        raise UserError(f"{given}: a torch module takes RGB over 255, channels first; only mean and std may be given")
    return module if given == Preproc() else Normalised(module, given.mean, given.std).train(module.training)


def classes_of(network: nn.Module, size: tuple[int, int]) -> int:
    """Return how many classes a network tells apart; one that gives no logits for an image is a `UserError`."""
    was_training = network.training
    first = next(network.parameters(), torch.zeros(0))
    try:
        with torch.inference_mode():
            logits = network.eval()(torch.zeros(1, 3, *size, device=first.device))
    except Exception as error:  # a network can fail in any way
        raise UserError(f"{type(network).__name__} fails on an image of {size[0]}x{size[1]}: {error}") from error
    finally:
        network.train(was_training)
    if not isinstance(logits, Tensor) or logits.ndim != 2 or len(logits) != 1:
        got = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise UserError(f"{type(network).__name__}: expected logits (1, classes) for one image, got {got}")
    return logits.shape[1]

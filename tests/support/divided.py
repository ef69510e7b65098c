"""An experiment's configuration with the GPUs of its nodes divided."""

from __future__ import annotations

from functools import cache

from omegaconf import DictConfig

from analysis.diagnosis.divisions import Mode, divide, writable
from guidelines_core.config.compose import compose

FAST = "numinamath30k-3b-300steps-mathverify-fast"


@cache
def base(mode: Mode) -> DictConfig:
    """Return the experiment with the layout of `mode`."""
    return compose(FAST, [f"layout={mode.layout}"], environ={})


def divided(mode: Mode, split: tuple[int, ...], nodes: int, factor: int = 1) -> DictConfig:
    """Return the division. The next call with this mode changes the same object."""
    config = _copy(mode)
    divide(config, base(mode), mode, split, nodes, factor)
    return config


@cache
def _copy(mode: Mode) -> DictConfig:
    return writable(base(mode))

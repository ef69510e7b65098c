"""The arms of a benchmark: experiments with overrides, read from a YAML file of `analysis/arms/`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml
from omegaconf import OmegaConf

from analysis.bench.workloads import EVEN_STEPS, OVERRIDES
from guidelines_core.config.compose import ConfigError, compose
from guidelines_core.digests import text_sha256
from guidelines_core.paths import ROOT


@dataclass(frozen=True)
class Arm:
    """An experiment with overrides to measure.

    Attributes:
        name: unique among the arms.
        experiment: what `run.py --name` takes.
        overrides: `key=value` each.
        extrapolates: an earlier arm whose step is computed with this arm's seconds per solution, one at a time.
        tailed: whether the steps after the first `EVEN_STEPS` have texts of long-tailed lengths, measured apart.
    """

    name: str
    experiment: str
    overrides: tuple[str, ...]
    extrapolates: str | None = None
    tailed: bool = False

    @property
    def entries(self) -> tuple[str, ...]:
        """The names of its entries in the JSON, one for each workload."""
        return (self.name, f"{self.name}-tailed") if self.tailed else (self.name,)


def read_arms(file: Path, overrides: Sequence[str] = ()) -> list[Arm]:
    """Return the arms of a YAML file; `overrides` go to each, after its own.

    The file has `experiment`, `overrides` for every arm, and `arms`: each a `name`, and `experiment`, `overrides`,
    `extrapolates` and `tailed` where it differs.
    """
    read = yaml.safe_load(file.read_text(encoding="utf-8"))
    arms = [
        Arm(
            name=arm["name"],
            experiment=arm.get("experiment", read["experiment"]),
            overrides=(
                *read.get("overrides", ()),
                *(OVERRIDES if arm.get("tailed") else ()),
                *arm.get("overrides", ()),
                *overrides,
            ),
            extrapolates=arm.get("extrapolates"),
            tailed=arm.get("tailed", False),
        )
        for arm in read["arms"]
    ]
    names = [name for arm in arms for name in arm.entries]
    if len(set(names)) < len(names):
        raise ConfigError(f"{file}: two arms have one name in {', '.join(names)}")
    return arms


def require_steps(arms: Sequence[Arm]) -> None:
    """Raise ConfigError for a tailed arm without two steps of the second workload, of which the first warms up."""
    for arm in (arm for arm in arms if arm.tailed):
        steps = compose(arm.experiment, arm.overrides).trainer.total_training_steps
        if steps < EVEN_STEPS + 2:
            raise ConfigError(
                f"{arm.name}: trainer.total_training_steps={steps}: expected {EVEN_STEPS + 2} or more of a tailed arm, "
                f"whose first {EVEN_STEPS} steps are its first workload"
            )


def config_hash(arm: Arm) -> str:
    """Return a hash of the arm's composed configuration, independent of the repository's path."""
    config = compose(arm.experiment, [*arm.overrides, "trainer.default_local_dir=run"])
    text = OmegaConf.to_yaml(config, sort_keys=True).replace(str(ROOT), "")
    return text_sha256(text)[:12]

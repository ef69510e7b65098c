"""What the estimate says of a run, and a change to try whose gain it gives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from omegaconf import DictConfig

from guidelines_core.config import layout
from guidelines_core.config.compose import changed
from guidelines_core.hardware.shapes import Gpu, Shape
from guidelines_core.hardware.timing import MEASURED, PEAK, Efficiency, Lengths, generation, phases

_REQUESTS = "guidelines.solver.max_concurrency"
_LIMITS = (
    "actor_rollout_ref.rollout.max_num_seqs",
    "reward.reward_model.rollout.max_num_seqs",
)


@dataclass(frozen=True)
class Model:
    """The estimate's inputs for a run: shapes (no solver's where it runs elsewhere), hardware, lengths."""

    planner: Shape
    solver: Shape | None
    gpu: Gpu
    lengths: Lengths

    def phases(self, config: DictConfig, efficiency: Efficiency = MEASURED) -> dict[str, float]:
        """Return a step's estimated seconds by phase; at `PEAK` the hardware's floor."""
        return phases(config, self.planner, self.solver, self.gpu, self.lengths, efficiency)

    def generation(self, config: DictConfig) -> tuple[float, float]:
        """Return the estimated seconds that a step's guidelines and its solutions take."""
        sequences = config.data.train_batch_size * config.actor_rollout_ref.rollout.n
        return generation(config, self.planner, self.solver, self.gpu, self.lengths, MEASURED, sequences,
                          layout.solver_samples(config))  # fmt: skip

    def last_solution(self, config: DictConfig) -> float:
        """Return the estimated seconds of the solutions to one guideline, asked alone."""
        return generation(config, self.planner, self.solver, self.gpu, self.lengths, MEASURED, 1,
                          layout.solver_samples(config))[1]  # fmt: skip

    def floor(self, config: DictConfig) -> dict[str, float]:
        """Return the seconds by phase that the hardware's peak allows; with the solver in turns, `reward` apart.

        The limits on sequences at once are lifted, since the hardware has none.
        """
        sequences = config.data.train_batch_size * config.actor_rollout_ref.rollout.n
        limits = dict.fromkeys(_LIMITS, sequences * layout.solver_samples(config))
        config = changed(config, {**limits, _REQUESTS: sequences * config.reward.num_workers})
        floor = self.phases(config, PEAK)
        if layout.solver_in_turns(config):
            parts = generation(config, self.planner, self.solver, self.gpu, self.lengths, PEAK, sequences,
                               layout.solver_samples(config))  # fmt: skip
            floor |= {"gen": parts[0], "reward": parts[1]}
        return floor


@dataclass(frozen=True)
class Idea:
    """A change whose gain is not estimated yet, unless `saves` has it."""

    values: Mapping[str, Any]
    why: str
    caveat: str = ""
    saves: float | None = None
    overrides: tuple[str, ...] = ()

"""verl's reward manager: the object in a reward worker that grades each rollout.

`reward.reward_manager.source: importlib` selects it. Solver client, grading processes and counts belong to this object.
"""

from __future__ import annotations

from typing import Any

from omegaconf import DictConfig, OmegaConf
from verl.experimental.reward_loop.reward_manager.naive import NaiveRewardManager
from verl.protocol import DataProto

from guidelines_core.config.layout import solver_urls
from guidelines_core.reward.score import Scorer


class GuidelineRewardManager(NaiveRewardManager):
    """verl's manager of one rollout at a time, with `Scorer.compute_score` as its reward function.

    Args:
        config: the run's whole configuration.
        tokenizer: the planner's.
        compute_score: verl's default function, which is not used.
        reward_router_address: `host:port` of each of the solver's servers, comma-separated; None where they are at
            `guidelines.solver.url`.
        reward_model_tokenizer: not used: the solver's server applies its own chat template.

    Attributes:
        scorer_class: what makes its reward function.
    """

    scorer_class: type[Scorer] = Scorer

    def __init__(
        self,
        config: DictConfig,
        tokenizer: Any,
        compute_score: Any,
        reward_router_address: str | None,
        reward_model_tokenizer: Any = None,
    ) -> None:
        settings = plain(config)
        self.scorer = self.scorer_class(
            solver_urls(config) if reward_router_address is None else reward_router_address.split(","),
            solver=settings["solver"],
            grader=settings["grader"],
            prompts=settings["prompts"],
            workers=config.reward.num_workers,
        )
        super().__init__(config, tokenizer, self.scorer.compute_score)

    async def run_single(self, data: DataProto) -> dict[str, Any]:
        """Grade a rollout; the reward function gets its guideline's length with the problem."""
        rollout = data[-1:][0]
        written = rollout.batch["attention_mask"][-rollout.batch["responses"].shape[-1] :].sum()
        rollout.non_tensor_batch["extra_info"]["guideline_tokens"] = int(written)
        graded: dict[str, Any] = await super().run_single(data)
        return graded

    def set_solver(self, config: DictConfig) -> None:
        """Use the solver's settings in `config` from now on."""
        self.scorer.set_solver(plain(config)["solver"], config.reward.num_workers)


def plain(config: DictConfig) -> dict[str, Any]:
    """Return the section `guidelines` as dictionaries."""
    settings: Any = OmegaConf.to_container(config.guidelines, resolve=True)
    return dict(settings)

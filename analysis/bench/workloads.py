"""The two workloads of one run of a benchmark, see `tailed.py`.

Apart from the classes there, since those need verl, which must not be imported before an arm's environment is set.
"""

from __future__ import annotations

EVEN_STEPS = 3
"""Steps whose texts all have `MEDIAN_RESPONSE` tokens."""

OVERRIDES = (
    "actor_rollout_ref.rollout.ignore_eos=True",
    "guidelines.solver.ignore_eos=True",
    "actor_rollout_ref.rollout.agent.default_agent_loop=tailed_single_turn",
    "actor_rollout_ref.rollout.agent.agent_loop_config_path=${repository:analysis/bench/tailed.yaml}",
    "reward.reward_manager.name=TailedRewardManager",
    "reward.reward_manager.module.path=pkg://analysis.bench.tailed",
)

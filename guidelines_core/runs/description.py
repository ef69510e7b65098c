"""The descriptions and tags of the MLflow experiment and its runs."""

from __future__ import annotations

from pathlib import Path

from omegaconf import DictConfig

from guidelines_core.config import layout
from guidelines_core.runs.metric_names import meanings

NOTE = "mlflow.note.content"
"""The tag that MLflow's page shows as the description, in Markdown."""

EXPERIMENT_NOTE = """A planner model writes a guideline for a maths question, a frozen solver answers with it, and the
reward says whether the answer is right. A run has the name of its experiment in `experiments/conf`; a sweep's trials
are nested.

Metrics come in groups: **1_outcome** has the rewards, **2_texts** the planner's and the solver's texts,
**3_health** the signs of sound training, **4_cost** seconds, tokens, memory, GPU-hours and money; below are verl's own.
The tag
`guidelines.alarms` names a run's alarms. Compare runs: `python analysis/compare.py RUN RUN`.
"""


def model_name(model: str) -> str:
    """Return a model's hub id, or the name of its folder."""
    return Path(model).name if Path(model).is_absolute() else model


def about(config: DictConfig) -> dict[str, str]:
    """Return the tags of what a run trains: models, grader, and the description on MLflow's page."""
    planner, solver = model_name(config.actor_rollout_ref.model.path), model_name(config.guidelines.solver.model)
    where = f" at {', '.join(urls)}" if (urls := layout.solver_urls(config)) else ""
    prompts, rollouts = config.data.train_batch_size, config.actor_rollout_ref.rollout.n
    note = f"""{config.guidelines.description or "A planner learns to write guidelines"}

| | |
|---|---|
| planner | {planner} |
| solver | {solver}{where} |
| reward | {config.guidelines.grader.name} |
| a step | {prompts} prompts x {rollouts} rollouts |
| steps | {config.trainer.total_training_steps} |
| learning rate | {config.actor_rollout_ref.actor.optim.lr} |

Rollouts to read: Traces. Every graded row: artifacts, `rows/`; some of them as a table: `train_rows.json`,
`validation_rows.json`. One page of this run: `python analysis/report.py {config.trainer.experiment_name}`.

{meanings()}"""
    return {
        "guidelines.grader": str(config.guidelines.grader.name),
        "guidelines.planner": Path(planner).name,
        "guidelines.solver": Path(solver).name,
        NOTE: note,
    }

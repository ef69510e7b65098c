"""The values that the keys of the section `guidelines` accept (`schema.py` has their types)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf

from guidelines_core.config.layout import solver_urls
from guidelines_core.grading.verdicts import GRADERS
from guidelines_core.paths import CONF
from guidelines_core.prompts import STYLES
from guidelines_core.reward.leak import POLICIES as LEAK_POLICIES
from guidelines_core.solver.servers import url_fault

SECRET = re.compile(r"TOKEN|SECRET|PASSW|CREDENTIAL|API_?KEY|ACCESS_?KEY", re.IGNORECASE)
"""Matches names of environment variables whose values must not be recorded."""

POSITIVE = (
    "data.size",
    "data.val_size",
    "planner.val_max_tokens",
    "solver.max_tokens",
    "solver.val_max_tokens",
    "solver.max_concurrency",
    "solver.deadline_s",
    "solver.step_deadline_s",
    "solver.probe_every_s",
    "solver.probe_s",
    "solver.restart_within_s",
    "grader.deadline_s",
    "grader.workers",
    "grader.memory_mb",
    "start.stalled_s",
    "start.stage_s",
    "old_log_probs.agreement",
    "old_log_probs.check_every",
    "cost.gpu_hour",
)
"""The keys of the section whose value, if there is one, is above 0."""


def bad_values(config: DictConfig) -> Iterator[str]:
    """Yield a sentence for every value of the section `guidelines` that is out of its range."""
    yield from _choices(config)
    for key in POSITIVE:
        value = OmegaConf.select(config.guidelines, key)
        if value is not None and value <= 0:
            yield f"guidelines.{key}={value}: expected more than 0"
    yield from _shares_and_counts(config)
    yield from _environment(config)
    yield from _alarms(config)
    yield from _checkpoints(config)
    yield from _old_log_probs(config)
    yield from _solver(config)
    yield from _solver_elsewhere(config)


def _choices(config: DictConfig) -> Iterator[str]:
    section = config.guidelines
    for key, value, choices in (
        ("grader.name", section.grader.name, GRADERS),
        ("grader.leak", section.grader.leak, LEAK_POLICIES),
        ("prompts.style", section.prompts.style, STYLES),
    ):
        if value not in choices:
            yield f"guidelines.{key}={value}: expected one of {', '.join(choices)}"


def _shares_and_counts(config: DictConfig) -> Iterator[str]:
    bounds = config.guidelines.data.pass_rate
    if bounds is not None and (len(bounds) != 2 or not 0 <= bounds[0] <= bounds[1] <= 1):
        yield f"guidelines.data.pass_rate={list(bounds)}: expected [low, high] from 0 to 1, such as [0.1, 0.9], or null"
    if not 0 <= (share := config.guidelines.max_lost_share) < 1:
        yield f"guidelines.max_lost_share={share}: expected a share from 0 to less than 1, such as 0.5"
    for split, count in config.guidelines.traces.items():
        if count < 0:
            yield f"guidelines.traces.{split}={count}: expected 0 or more"


def _environment(config: DictConfig) -> Iterator[str]:
    for name in config.guidelines.environment:
        if SECRET.search(str(name)) or name == config.guidelines.solver.key_env:
            yield (
                f"guidelines.environment.{name}: a configuration is recorded, and a secret must not be; export it in "
                "the shell, the run's processes inherit it"
            )


def _alarms(config: DictConfig) -> Iterator[str]:
    alarms = config.guidelines.alarms
    yield from _limits(alarms.limits)
    known = [name for name, limit in alarms.limits.items() if limit is not None]
    for name in alarms.stop_on:
        if name not in known:
            yield f"guidelines.alarms.stop_on={name}: expected names of alarms: {', '.join(known)}"
    if alarms.webhook_env is not None and not re.fullmatch(r"[A-Za-z_]\w*", alarms.webhook_env):
        yield (
            "guidelines.alarms.webhook_env: expected the name of an environment variable, such as ALARMS_URL, and not "
            "the address itself: a configuration is recorded, and the address must not be"
        )


FEWEST_STEPS = {"reward_falling": 2, "reward_flat": 3}
"""The fewest steps that a rule's statistic needs, where that is more than one."""


def _limits(limits: Mapping[str, Any]) -> Iterator[str]:
    """Yield a sentence for every limit of an alarm that its rule could not compute with after a step."""
    usual = yaml.safe_load((CONF / "alarms" / "limits.yaml").read_text(encoding="utf-8"))
    for name, own in limits.items():
        key = f"guidelines.alarms.limits.{name}"
        if name not in usual:
            yield f"{key}: there is no such alarm; expected one of {', '.join(usual)}"
        elif own is not None:
            for limit in usual[name]:
                value = own.get(limit)
                least = {"steps": FEWEST_STEPS.get(name, 1), "after": 1}.get(limit)
                number = isinstance(value, (int, float)) and not isinstance(value, bool)
                if not number or (least is not None and value < least):
                    yield (
                        f"{key}.{limit}={'null' if value is None else value}: expected a number"
                        f"{'' if least is None else f' of {least} or more'}; {key}=null turns the alarm off"
                    )


def _checkpoints(config: DictConfig) -> Iterator[str]:
    settings = config.guidelines.checkpoints
    if settings.keep_last is not None and settings.keep_last < 1:
        yield f"guidelines.checkpoints.keep_last={settings.keep_last}: expected 1 or more, or null to keep all"
    if settings.keep_best < 0:
        yield f"guidelines.checkpoints.keep_best={settings.keep_best}: expected 0 or more"
    if config.trainer.max_actor_ckpt_to_keep is not None:
        yield (
            f"trainer.max_actor_ckpt_to_keep={config.trainer.max_actor_ckpt_to_keep}: verl would delete half of a "
            "checkpoint, and the best one, too; give guidelines.checkpoints.keep_last instead"
        )


def _old_log_probs(config: DictConfig) -> Iterator[str]:
    if config.guidelines.old_log_probs.agreement is None:
        return
    if config.algorithm.rollout_correction.bypass_mode:
        yield (
            "algorithm.rollout_correction.bypass_mode=True: no step measures the difference; expected False, or "
            "guidelines.old_log_probs.agreement=null"
        )
    if not config.actor_rollout_ref.rollout.calculate_log_probs:
        yield (
            "actor_rollout_ref.rollout.calculate_log_probs=False: the rollout's log-probs are not kept; expected "
            "True, or guidelines.old_log_probs.agreement=null"
        )


def _solver(config: DictConfig) -> Iterator[str]:
    solver = config.guidelines.solver
    for prefix in ("", "val_"):
        samples, temperature = solver[f"{prefix}samples"], solver[f"{prefix}temperature"]
        if temperature < 0:
            yield f"guidelines.solver.{prefix}temperature={temperature}: expected 0 (greedy) or more"
        if samples < 1:
            yield f"guidelines.solver.{prefix}samples={samples}: expected 1 or more"
        if samples > 1 and temperature == 0:
            yield (
                f"guidelines.solver.{prefix}samples={samples} with guidelines.solver.{prefix}temperature=0: a greedy "
                f"solver writes the same solution {samples} times; expected a temperature above 0, such as 0.7, or "
                f"{prefix}samples=1"
            )


def _solver_elsewhere(config: DictConfig) -> Iterator[str]:
    solver = config.guidelines.solver
    if solver.url is not None:
        # A faulty one may hold a secret, and is not repeated.
        faults = [url_fault(url) for url in solver_urls(config)] or ["it is an empty list"]
        for fault in dict.fromkeys(filter(None, faults)):
            yield (
                f"guidelines.solver.url: {fault}; expected http://HOST:PORT/v1, or a list of several, and a key in the "
                "environment variable that guidelines.solver.key_env names"
            )
    if solver.key_env is not None and not re.fullmatch(r"[A-Z_][A-Z0-9_]*", solver.key_env):
        yield (
            "guidelines.solver.key_env: expected the name of an environment variable in capitals, such as SOLVER_KEY, "
            "and not the key itself: a configuration is recorded, and the key must not be"
        )
    if solver.key_env is not None and solver.url is None:
        yield (
            f"guidelines.solver.key_env={solver.key_env}: the run's own servers have no key; expected "
            "guidelines.solver.url beside it, or null"
        )

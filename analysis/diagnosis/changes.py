"""Changes of a configuration, each with the estimated seconds per step that it saves.

A measured phase is scaled by the estimate's ratio of after to before, so that only the ratio must be right. Each change
is estimated alone: two of them save less together than the sum.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from omegaconf import DictConfig, OmegaConf

from analysis.diagnosis.layouts import layouts
from analysis.diagnosis.model import Idea, Model
from analysis.diagnosis.step_time import Slowest, Step, overlap
from guidelines_core.config import layout
from guidelines_core.config.compose import changed
from guidelines_core.hardware.footprint import GIB, memory
from guidelines_core.hardware.timing import MEASURED, padded_sequences

AT_ONCE = 512
"""Requests in flight that a solver's server on a GPU uses well."""

AGREEMENT = 0.01
"""The `agreement` of the experiment `…-fast`: the largest mean difference of a token's probability."""

WAITS = 0.05
"""The share of a step that a trainer waits for a separate rollout, above which the rollout limits the step."""


@dataclass(frozen=True)
class Change:
    """A change to try.

    Attributes:
        overrides: the words for the command line.
        why: the reason.
        caveat: what else it changes, "" if nothing.
        saves: seconds per step.
    """

    overrides: tuple[str, ...]
    why: str
    caveat: str
    saves: float


def best(
    config: DictConfig, step: Step, model: Model | None, slow: Slowest | None, beside: Mapping[str, float]
) -> list[Change]:
    """Return every change that saves time, the largest gain first.

    Args:
        config: the run's configuration.
        step: its median step.
        model: None if there is no estimate; then only changes with a measured gain are returned.
        slow: the slowest solver calls, None if unknown.
        beside: seconds a step, on average, of validation (`testing`) and checkpoints (`save_checkpoint`).
    """
    found = []
    ideas = [*_measured(config, step, slow, beside), *(_modelled(config, step, model) if model else ())]
    for idea in ideas:
        saves = idea.saves
        if saves is None:
            assert model is not None
            saves = step.total - predicted(config, step, model, changed(config, idea.values))
        if saves >= 0.01 * step.total or saves >= 1.0:
            words = idea.overrides or tuple(f"{key}={value}" for key, value in idea.values.items())
            found.append(Change(words, idea.why, idea.caveat, saves))
    return sorted(found, key=lambda change: -change.saves)


def predicted(config: DictConfig, step: Step, model: Model, other: DictConfig) -> float:
    """Return the seconds of the step with the configuration `other`."""
    before, after = model.phases(config), model.phases(other)
    (wrote, solved), (writes, solves) = model.generation(config), model.generation(other)
    if layout.solver_in_turns(config):
        before |= {"gen": wrote, "reward": solved + MEASURED.switch}
        after |= {"gen": writes, "reward": solves + MEASURED.switch}
    seconds = {
        name: taken * (after.get(name, 0.0) / before[name] if before.get(name) else 1.0)
        for name, taken in step.seconds.items()
    }
    if bool(layout.solver_gpus(config)) != bool(layout.solver_gpus(other)):
        seconds |= {"gen": _reseated(config, step, model, other), "reward": 0.0}
    now, then = (sum(s for name, s in phase.items() if name != "gen") for phase in (step.seconds, seconds))
    if layout.separate(config):
        # `gen` is only the trainer's wait; the rollout works during the whole step.
        waits = step.seconds["gen"]
        if waits > WAITS * step.total:
            return step.total - min(waits, step.total * (1 - after["gen"] / before["gen"]))
        return step.total - (now - then)
    if layout.beside_solver(other):
        # On one GPU the two engines take turns with it: what overlapped before adds up.
        seconds["gen"] += overlap(config, step)
    return max(seconds["gen"], then) if layout.overlaps(other) else seconds["gen"] + then


def _reseated(config: DictConfig, step: Step, model: Model, other: DictConfig) -> float:
    """Return the seconds of guidelines and solutions where the solver gets GPUs of its own, or gives them up.

    A solver that shares the training GPUs begins after the last guideline, so what overlapped adds up. One with its own
    begins with the first; at best all solutions but the last guideline's are written by then.
    """
    (wrote, solved), (writes, solves) = model.generation(config), model.generation(other)
    taken = step.seconds["gen"] + step.seconds.get("reward", 0.0)
    if layout.solver_gpus(config):
        return (taken + overlap(config, step)) * (writes + solves) / (wrote + solved) + MEASURED.switch
    return max(0.0, taken - MEASURED.switch) * (writes + model.last_solution(other)) / (wrote + solved)


def _measured(config: DictConfig, step: Step, slow: Slowest | None, beside: Mapping[str, float]) -> Iterator[Idea]:
    """Yield the changes with a measured gain."""
    old = OmegaConf.select(config, "guidelines.old_log_probs")
    taken = OmegaConf.select(config, "algorithm.rollout_correction.bypass_mode")
    if "old_log_prob" in step.seconds and old and old.agreement is None and not (taken or layout.separate(config)):
        yield Idea(
            {"guidelines.old_log_probs.agreement": AGREEMENT},
            "the planner's log-probs are computed again, which the rollout engine knows already",
            f"trusts the rollout engine's while training/rollout_probs_diff_mean, measured every {old.check_every} "
            f"steps, is below {AGREEMENT}",
            saves=step.seconds["old_log_prob"] * (1 - 1 / old.check_every),
        )
    if slow is not None and not layout.separate(config) and slow.enough is not None:
        yield Idea(
            {"guidelines.solver.max_tokens": slow.enough},
            f"the slowest {len(slow.calls)} of {slow.of} solver calls hold a step up",
            f"cuts {len(slow.calls) / slow.of:.1%} of the solutions short",
            saves=slow.held,
        )
    if step.calls is not None and not layout.reference_beside_solver(config) and _reference_waits(config):
        tail = float(step.calls["graded"].max() - step.calls["asked"].max())
        yield Idea(
            {"guidelines.reference_beside_solver": True},
            f"the reference policy waits {tail:.1f} s for the last solutions, and needs the guidelines alone",
            saves=min(step.seconds.get("ref", 0.0), tail),
        )
    for key, name in (("testing", "test_freq"), ("save_checkpoint", "save_freq")):
        freq = config.trainer[name]
        if freq > 0 and beside.get(key):
            what = "validation" if key == "testing" else "writing checkpoints"
            # The last step has both in any case.
            now, then = (math.ceil(config.trainer.total_training_steps / each) for each in (freq, 2 * freq))
            lost = f"{now - then} of {now} " + ("validations" if key == "testing" else "checkpoints to go back to")
            yield Idea(
                {f"trainer.{name}": 2 * freq},
                f"{what} takes {beside[key]:.1f} s a step",
                lost,
                saves=beside[key] * (1 - then / now),
            )


def _reference_waits(config: DictConfig) -> bool:
    """Return whether the reference policy could work while the solver writes, as preflight has it."""
    real, padded = padded_sequences(config)
    sync = config.trainer.v1.trainer_mode == "sync"
    return bool(sync and not layout.solver_in_turns(config) and layout.uses_reference(config) and real == padded)


def _modelled(config: DictConfig, step: Step, model: Model) -> Iterator[Idea]:
    """Yield the changes with an estimated gain."""
    yield from _generating(config)
    yield from _batching(config)
    if config.trainer.device == "cuda":
        yield from _on_gpus(config, step, model)


def _generating(config: DictConfig) -> Iterator[Idea]:
    """Yield the changes of the number of sequences at once."""
    sequences = config.data.train_batch_size * config.actor_rollout_ref.rollout.n
    asked, workers = layout.requests_in_flight(config), config.reward.num_workers
    if asked < sequences:
        how = "one after the other" if asked == 1 else f"{asked} at a time"
        yield Idea(
            {"guidelines.solver.max_concurrency": math.ceil(max(AT_ONCE, sequences) / workers) * workers},
            f"guidelines.solver.max_concurrency={config.guidelines.solver.max_concurrency}: a step's {sequences} "
            f"solver calls go {how}",
        )
    written_by = [("actor_rollout_ref.rollout", layout.rollout_engines(config), "planner", sequences)]
    if not layout.solver_elsewhere(config):
        solutions = sequences * layout.solver_samples(config)
        written_by.append(("reward.reward_model.rollout", layout.solver_engines(config), "solver", solutions))
    for key, engines, who, written in written_by:
        each = math.ceil(written / engines)
        at_once = OmegaConf.select(config, f"{key}.max_num_seqs")
        if at_once < each:
            yield Idea(
                {f"{key}.max_num_seqs": each},
                f"the {who}'s engine writes {at_once} of its {each} sequences at a time",
                "more memory for keys and values",
            )


def _batching(config: DictConfig) -> Iterator[Idea]:
    """Yield the nearest mini-batch size with which verl adds no padding."""
    real, padded = padded_sequences(config)
    if padded == real:
        return
    actor, n = config.actor_rollout_ref.actor, config.actor_rollout_ref.rollout.n
    key = "actor_rollout_ref.actor.ppo_mini_batch_size"
    sizes = [size for size in range(1, real // n + 1) if padded_sequences(config, size) == (real, real)]
    if not sizes:
        return
    size = min(sizes, key=lambda size: (abs(math.log(size / actor.ppo_mini_batch_size)), -size))
    updates = padded // (actor.ppo_mini_batch_size * n), real // (size * n)
    yield Idea(
        {key: size},
        f"{real} rollouts are padded to {padded}: {1 - real / padded:.0%} of the sequences trained on are waste",
        f"{updates[1]} optimizer step{'s' * (updates[1] > 1)} for each batch instead of {updates[0]}",
    )


def _on_gpus(config: DictConfig, step: Step, model: Model) -> Iterator[Idea]:
    """Yield changes for GPUs only, if their memory allows."""
    held = memory(config, model.planner, model.gpu)
    offload = "actor_rollout_ref.ref.fsdp_config.param_offload"
    weights = 4 * model.planner.parameters / layout.training_gpus(config) / GIB
    fits = all(held[role] + weights <= model.gpu.memory for role in ("training", "rollout"))
    if layout.uses_reference(config) and OmegaConf.select(config, offload) and fits:
        yield Idea(
            {offload: False},
            "the reference model's weights come from main memory for every micro-batch",
            f"{weights:.1f} GiB more on each training GPU",
        )
    checkpointing = "actor_rollout_ref.model.enable_gradient_checkpointing"
    without = changed(config, {checkpointing: False})
    fits = memory(without, model.planner, model.gpu)["training"] <= model.gpu.memory
    if config.actor_rollout_ref.model.enable_gradient_checkpointing and fits:
        # Two forward passes and a backward pass, which costs two more, against one forward and a backward pass.
        saves = step.seconds.get("update_actor", 0.0) / 4
        yield Idea({checkpointing: False}, "the update computes its forward pass twice", "more memory", saves=saves)
    if config.trainer.v1.trainer_mode == "sync" and config.trainer.nnodes == 1:
        yield from layouts(config, model)

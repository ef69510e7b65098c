"""Checks whether the features that a run combines work together, from the configuration alone."""

from __future__ import annotations

from collections.abc import Iterator

from omegaconf import DictConfig, OmegaConf

from guidelines_core.config import layout
from guidelines_core.hardware.shapes import Shape
from guidelines_core.hardware.timing import padded_sequences
from guidelines_core.preflight.findings import Finding, error, warning
from guidelines_core.verl_adapter.allowed_values import WEIGHT_TRANSFER

ROLLOUT = "actor_rollout_ref.rollout"
FILTER, REFILL = "algorithm.filter_groups.enable", "trainer.v1.sampler.sync_refill_failed_groups"


def combination_findings(config: DictConfig, planner: Shape | None) -> Iterator[Finding]:
    """Yield a finding for each feature that the trainer's mode, the layout or another feature excludes."""
    yield from _lora_findings(config, planner)
    yield from _reference_findings(config)
    yield from _in_turns_findings(config)
    yield from _weight_findings(config)


def _in_turns_findings(config: DictConfig) -> Iterator[Finding]:
    """Yield what needs a solver that is there all the time, if it shares the training GPUs."""
    if not layout.solver_in_turns(config):
        return
    if OmegaConf.select(config, FILTER):
        yield error(
            FILTER,
            True,
            "groups are filtered by their rewards while a step's batch is gathered, and the solver solves after that",
            "give False, or give the solver a GPU of its own: layout=1p1",
        )
    v1 = config.trainer.v1
    if v1.trainer_mode == "colocate_async" and v1.colocate_async.num_warmup_batches and config.trainer.test_freq > 0:
        yield error(
            "trainer.v1.trainer_mode",
            v1.trainer_mode,
            "for a validation's solutions the rollout engines would go to sleep amid the next step's guidelines "
            "(PPOTrainer._validate)",
            "give sync, or give the solver a GPU of its own: layout=1p1",
        )


def _reference_findings(config: DictConfig) -> Iterator[Finding]:
    """Yield why the reference policy could not read the guidelines while the solver writes."""
    if not layout.reference_beside_solver(config):
        return
    key = "guidelines.reference_beside_solver"
    mode, (real, padded) = config.trainer.v1.trainer_mode, padded_sequences(config)
    if mode != "sync":
        yield error(
            key,
            True,
            f"with trainer.v1.trainer_mode={mode} a step has no moment at which all its guidelines are there",
            "leave it out, or take layout=1p1 or hybrid-3p1",
        )
    elif layout.solver_in_turns(config):
        yield error(key, True, "the solver needs the training GPUs while it writes", "leave it out, or take layout=1p1")
    if not layout.uses_reference(config):
        yield error(key, True, "there is no reference policy: no KL term is set", "leave it out")
    for other in (FILTER, REFILL):
        if OmegaConf.select(config, other):
            yield error(
                key,
                True,
                f"with {other} a step may need more guidelines when its engines sleep already, and would wait forever",
                "leave one of them out",
            )
    if padded > real:
        yield error(
            key,
            True,
            f"{real} rollouts are padded to {padded}, which is done when all have a reward",
            f"leave it out, or give actor_rollout_ref.actor.ppo_mini_batch_size={config.data.train_batch_size}",
        )


def _lora_findings(config: DictConfig, planner: Shape | None) -> Iterator[Finding]:
    """Yield a finding for each setting that a planner with LoRA adapters needs in rollouts and in checkpoints."""
    model, key = config.actor_rollout_ref.model, "actor_rollout_ref.model"
    if model.lora.rank:
        yield error(f"{key}.lora.rank", model.lora.rank, "only Megatron reads it", f"give {key}.lora_rank")
    if model.lora_adapter_path is not None:
        yield error(
            f"{key}.lora_adapter_path",
            model.lora_adapter_path,
            "the reference policy would be the model without it, so training would not start from the reference",
            f"merge it into the model and give that folder as {key}.path",
        )
    if not layout.lora_rank(config):
        return
    if planner is not None and model.lora_rank > planner.hidden:
        yield error(
            f"{key}.lora_rank",
            model.lora_rank,
            f"the planner's layers have {planner.hidden} dimensions, and adapters of a higher rank hold nothing more",
            "give a rank such as 32",
        )
    if not model.lora.merge:
        yield error(
            f"{key}.lora.merge",
            model.lora.merge,
            "rollouts need the adapters merged into the weights, since that is the policy that is trained",
            "give True",
        )
    if not config.actor_rollout_ref.actor.checkpoint.save_lora_only:
        yield warning(
            "actor_rollout_ref.actor.checkpoint.save_lora_only",
            False,
            "each checkpoint holds all frozen weights as well",
            "give True",
        )


def _weight_findings(config: DictConfig) -> Iterator[Finding]:
    """Yield a finding for each side of the weight transfer that may not use the run's own socket."""
    sides = {f"{ROLLOUT}.engine_kwargs.vllm.worker_extension_cls": f"{WEIGHT_TRANSFER}.WorkerExtension"}
    if not config.actor_rollout_ref.hybrid_engine:
        sides[f"{ROLLOUT}.checkpoint_engine.custom_backend_module"] = WEIGHT_TRANSFER
    for key, ours in sides.items():
        value = OmegaConf.select(config, key)
        if value is None:
            yield error(
                key,
                None,
                "weights would be sent to one socket and awaited at another, forever",
                f"give {ours}",
            )
        elif not str(value).startswith("guidelines_core."):
            yield warning(
                key,
                value,
                "unless it uses the run's own socket, the engine waits for weights forever",
                f"derive the class from {ours}" if ours != WEIGHT_TRANSFER else f"import {ours} in it",
            )

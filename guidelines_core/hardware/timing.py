"""How long a step and a run take on given GPUs, by phase.

With N weights, a forward pass is 2N FLOPs a token and training 6N (Kaplan et al. 2020, 2001.08361). Decoding reads
all weights once for each token position of the longest sequence, however many sequences are in flight, and does
each sequence's own FLOPs and reads its keys and values on top (Pope et al. 2022, 2211.05102), and the engine's
processes on the CPU handle each token. `MEASURED` holds the measured shares of the hardware's peak.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

import yaml
from omegaconf import DictConfig

from guidelines_core.config import layout
from guidelines_core.config.compose import ConfigError
from guidelines_core.hardware.footprint import checkpoint_bytes, checkpoints
from guidelines_core.hardware.shapes import KNOWN, Gpu, Shape, find_shape

PADDING_TOKENS = 128
"""Length of the sequences with which verl pads a batch (`verl/trainer/ppo/padding_utils.py`)."""


@dataclass(frozen=True)
class Efficiency:
    """How much of the hardware's peak each part of a step gets.

    Attributes:
        update: share of the FLOP/s in the update of padded rows, which computes 6N a token: between the 31.7 s of
            `known/measured-training.yaml` and the 23.7 s of `known/measured-step.yaml`.
        forward: the same in old and reference log-probs, 2N a token: 7.3 s for 101,000 tokens.
        packed_update: as `update`, of packed rows with Liger's kernels and fused Adam: 4.76 s for 96,000 tokens.
        packed_forward: as `forward`, of the same: 1.38 s.
        adapters: how many times longer the same work takes in the update of LoRA adapters: 3.6 s against 2.7 s of all
            weights, which is 1.5 times the work (`analysis/results/learning/gsm8k-1.5b.json`).
        prefill, decode: the same in vLLM's prefill, and in its decoding without reading weights and cache. These and
            the next three are fitted to the arms that `tests/unit/hardware/test_generation_time.py` lists, and to one
            sequence alone, which got 325 tokens/s (341 by the fit).
        weights: share of the bandwidth at which decoding reads the weights.
        host: CPU seconds of an engine's processes for a token, in which its GPU waits.
        request: CPU seconds for a prompt that is sent to an engine.
        offload: B/s to the GPU for weights kept in main memory: reference's 16.4 s against old log-prob's 7.3 s.
        sync: B/s of new weights into the rollout engine: 0.44 s for 6.2 GB.
        poll: s that a finished rollout waits on average: the replay buffer is polled ten times a second.
        switch: s in which a solver that shares the training GPUs wakes and goes back to sleep: 4.83 s of the phase
            `reward` against the 4.01 s of its requests (`analysis/results/one-gpu-h200.json`).
        other: s of a step outside the phases: 56.3 s against 55.9 s.
        start: s from launch to the first step: 70 to 108 s (`analysis/results/two-gpus-h200.json`).
        disk: B/s of writing checkpoints. Not measured.
    """

    update: float = 0.072
    forward: float = 0.086
    packed_update: float = 0.39
    packed_forward: float = 0.45
    adapters: float = 2.0
    prefill: float = 0.95
    decode: float = 0.95
    weights: float = 0.44
    host: float = 9e-6
    request: float = 0.005
    offload: float = 65e9
    sync: float = 14e9
    poll: float = 0.05
    switch: float = 0.8
    other: float = 0.4
    start: float = 90.0
    disk: float = 1e9


MEASURED = Efficiency()
PEAK = Efficiency(
    **dict.fromkeys(
        ("update", "forward", "packed_update", "packed_forward", "adapters", "prefill", "decode", "weights"), 1
    ),
    **dict.fromkeys(("offload", "sync", "disk"), math.inf),
    **dict.fromkeys(("host", "request", "poll", "switch", "other", "start"), 0),
)


@dataclass(frozen=True)
class Lengths:
    """Tokens of each prompt, guideline and solution, on average; and those of a step's longest, 0 if all are alike."""

    prompt: int
    guideline: int
    solution: int
    longest_guideline: int = 0
    longest_solution: int = 0


def longest(config: DictConfig) -> Lengths:
    """Return the most tokens that a prompt, a guideline and a solution may have."""
    data = config.data
    return Lengths(data.max_prompt_length, data.max_response_length, config.guidelines.solver.max_tokens)


def typical_lengths(config: DictConfig) -> Lengths:
    """Return the lengths of the measured step, limited by the configuration."""
    measured = yaml.safe_load((KNOWN / "measured-step.yaml").read_text(encoding="utf-8"))["lengths"]
    limits = asdict(longest(config))
    return Lengths(**{name: min(tokens, limits[name]) for name, tokens in measured.items()})


def padded_sequences(config: DictConfig, mini: int | None = None) -> tuple[int, int]:
    """Return the rollouts of one update of the actor, and to how many verl pads them.

    `mini` is the number of prompts of a mini-batch, by default the configuration's.
    `PPOTrainer._get_required_batch_multiple` (`verl/trainer/ppo/v1/trainer_base.py`); `separate_async` takes
    `parameter_sync_step` batches a step.
    """
    n, mini = config.actor_rollout_ref.rollout.n, mini or config.actor_rollout_ref.actor.ppo_mini_batch_size
    prompts = config.data.train_batch_size
    if layout.separate(config):
        prompts //= config.trainer.v1.separate_async.parameter_sync_step
    multiple = math.lcm(layout.training_gpus(config), mini * n)
    return prompts * n, math.ceil(prompts * n / multiple) * multiple


def phases(
    config: DictConfig, planner: Shape, solver: Shape | None, gpu: Gpu, lengths: Lengths, efficiency: Efficiency
) -> dict[str, float]:
    """Return a step's seconds by verl's names of its phases.

    `gen` is an upper bound, exact if all guidelines have the same length. Otherwise the solver starts with the first
    guidelines while the others are still generated. A `solver` of None runs elsewhere, and `gen` is without its time.
    """
    actor, ref = config.actor_rollout_ref.actor, config.actor_rollout_ref.ref
    workers = layout.training_gpus(config)
    real, padded = padded_sequences(config)
    if efficiency is PEAK:
        padded = real
    repeats = config.data.train_batch_size * config.actor_rollout_ref.rollout.n // real
    length = lengths.prompt + lengths.guideline
    tokens = (real * length + (padded - real) * PADDING_TOKENS) * repeats / workers
    packed = config.actor_rollout_ref.model.use_remove_padding
    forward = tokens * planner.forward_flops(length) / gpu.flops
    log_probs = forward / (efficiency.packed_forward if packed else efficiency.forward)
    updating = efficiency.packed_update if packed else efficiency.update
    rollout, solve = generation(config, planner, solver, gpu, lengths, efficiency, real * repeats,
                                layout.solver_samples(config))  # fmt: skip
    floor = efficiency is PEAK
    switch = efficiency.switch if layout.solver_in_turns(config) else 0.0
    found = {
        "gen": (max(rollout, solve) if floor else rollout + solve) + efficiency.poll + switch,
        "old_log_prob": log_probs
        / (config.guidelines.old_log_probs.check_every if layout.old_log_probs_from_rollout(config) else 1),
        # Forward and backward; frozen weights take no gradient of their own, a third of the work.
        "update_actor": (2 * efficiency.adapters if layout.lora_rank(config) else 3)
        * forward
        * actor.ppo_epochs
        / updating,
        "update_weights": 2 * planner.parameters / efficiency.sync,
    }
    if layout.uses_reference(config):
        passes = math.ceil(padded / workers / (ref.log_prob_micro_batch_size_per_gpu or 1)) * repeats
        offloaded = layout.loads_reference(config) and ref.fsdp_config.param_offload
        moved = passes * 4 * planner.parameters / workers if offloaded else 0
        found["ref"] = log_probs + moved / efficiency.offload
        if layout.reference_beside_solver(config):
            found["ref"] = max(0.0, found["ref"] - solve)
    return found


def step_seconds(config: DictConfig, found: dict[str, float], efficiency: Efficiency) -> float:
    """Return a step's seconds: the sum of the phases, or the longer of rollout and training where they overlap."""
    training = sum(seconds for name, seconds in found.items() if name != "gen")
    both = max(found["gen"], training) if layout.overlaps(config) else found["gen"] + training
    return float(both + efficiency.other)


def generation(
    config: DictConfig,
    planner: Shape,
    solver: Shape | None,
    gpu: Gpu,
    lengths: Lengths,
    efficiency: Efficiency,
    sequences: int,
    samples: int,
) -> tuple[float, float]:
    """Return the seconds for `sequences` guidelines, and those for `samples` solutions to each, 0 if made elsewhere."""
    rollout, solving = config.actor_rollout_ref.rollout, config.reward.reward_model.rollout
    # Without a GPU there is no engine, which preflight refuses.
    wrote = _decode(planner, gpu, efficiency, sequences, 1, max(1, layout.rollout_engines(config)), rollout,
                    rollout.max_num_seqs, lengths.prompt, lengths.guideline,
                    lengths.longest_guideline)  # fmt: skip
    if solver is None:
        return wrote, 0.0
    read = lengths.prompt + lengths.guideline
    engines = layout.solver_engines(config)
    in_flight = math.ceil(layout.requests_in_flight(config) * samples / engines)
    return wrote, _decode(solver, gpu, efficiency, sequences, samples, engines, solving,
                          min(in_flight, solving.max_num_seqs), read, lengths.solution,
                          lengths.longest_solution)  # fmt: skip


def _decode(
    shape: Shape,
    gpu: Gpu,
    efficiency: Efficiency,
    prompts: int,
    samples: int,
    engines: int,
    engine: DictConfig,
    at_once: int,
    read: int,
    new: int,
    longest: int,
) -> float:
    """Return the seconds in which `engines` engines read prompts of `read` tokens and write `samples` answers to each.

    An answer has `new` tokens, the longest has `longest`. An engine writes at most `at_once` answers at a time.
    """
    gpus_each = layout.gpus_per_engine(engine)
    flops, bandwidth = gpu.flops * gpus_each, gpu.bandwidth * gpus_each
    # Stages of a pipeline read their weights one after the other, and data-parallel copies read all of them.
    reading = gpu.bandwidth * engine.tensor_model_parallel_size
    read_by_each = math.ceil(prompts / engines)
    each = read_by_each * samples
    waves = math.ceil(each / at_once)
    prefill = read_by_each * read * shape.forward_flops(read) / (flops * efficiency.prefill)
    weights = ((waves - 1) * new + max(new, longest)) * 2 * shape.parameters / (reading * efficiency.weights)
    context = read + new / 2
    own = shape.forward_flops(context) / (flops * efficiency.decode) + shape.kv_bytes * context / bandwidth
    return float(prefill + weights + each * new * (own + efficiency.host) + read_by_each * efficiency.request)


def run_seconds(
    config: DictConfig, planner: Shape, solver: Shape | None, gpu: Gpu, lengths: Lengths, efficiency: Efficiency
) -> dict[str, float]:
    """Return the seconds of the whole run: start, steps, validations, checkpoints."""
    steps, freq = config.trainer.total_training_steps, config.trainer.test_freq
    found = phases(config, planner, solver, gpu, lengths, efficiency)
    times = (math.ceil(steps / freq) if freq > 0 else 0) + config.trainer.val_before_train
    guidelines = config.guidelines.data.val_size
    validation = config.guidelines.solver.val_samples
    one = sum(generation(config, planner, solver, gpu, lengths, efficiency, guidelines, validation))
    return {
        "start": efficiency.start,
        "steps": steps * step_seconds(config, found, efficiency),
        "validations": times * one,
        "checkpoints": checkpoints(config) * checkpoint_bytes(config, planner) / efficiency.disk,
    }


def tokens_per_step(config: DictConfig, lengths: Lengths) -> int:
    """Return the tokens of a step: prompts and guidelines of all rollouts, and their solutions."""
    return int(
        config.data.train_batch_size
        * config.actor_rollout_ref.rollout.n
        * (lengths.prompt + lengths.guideline + lengths.solution * layout.solver_samples(config))
    )


def estimated_step(config: DictConfig, gpu: Gpu, lengths: Lengths, efficiency: Efficiency) -> dict[str, float]:
    """Return a step's seconds by phase and as a whole.

    Raises:
        ConfigError: a model's shape is not known.
    """
    planner, solver = shapes_of(config)
    found = phases(config, planner, solver, gpu, lengths, efficiency)
    return {**found, "step": step_seconds(config, found, efficiency)}


def shapes_of(config: DictConfig) -> tuple[Shape, Shape | None]:
    """Return the shapes of planner and solver; None for a solver that runs elsewhere.

    Raises:
        ConfigError: one is neither on this machine nor in `known/models.yaml`.
    """
    planner = _shape("actor_rollout_ref.model.path", config.actor_rollout_ref.model.path)
    if layout.solver_elsewhere(config):
        return planner, None
    return planner, _shape("guidelines.solver.model", config.guidelines.solver.model)


def _shape(key: str, model: str) -> Shape:
    shape = find_shape(model)
    if shape is None:
        raise ConfigError(
            f"{key}={model}: its shape is not known: expected a folder with config.json, a model in the hub's "
            "cache or one of guidelines_core/hardware/known/models.yaml; add it there"
        )
    return shape

"""Which role runs on which GPU: what the keys of a layout mean, and the layout as a table."""

from __future__ import annotations

from dataclasses import dataclass

from omegaconf import DictConfig, ListConfig, OmegaConf
from rich.table import Table


@dataclass(frozen=True)
class Placement:
    """A group of GPUs and its role.

    Attributes:
        gpus: their numbers on each of `nodes` nodes.
        nodes: how many nodes have such GPUs.
        role: the role's name, which is also its key in `footprint.memory`.
        work: what runs there, in words.
    """

    gpus: range
    nodes: int
    role: str
    work: str

    @property
    def label(self) -> str:
        """The GPUs in words: `0`, `0-2`, `0-2 of 2 nodes`."""
        first, last = self.gpus[0], self.gpus[-1]
        numbers = str(first) if first == last else f"{first}-{last}"
        return numbers if self.nodes == 1 else f"{numbers} of {self.nodes} nodes"


def training_gpus(config: DictConfig) -> int:
    """Return the data-parallel size of actor and reference: the GPUs of verl's global pool."""
    return int(config.trainer.n_gpus_per_node * config.trainer.nnodes)


def separate(config: DictConfig) -> bool:
    """Return whether rollout is not on the GPUs that train."""
    return bool(config.trainer.v1.trainer_mode == "separate_async")


def beside_solver(config: DictConfig) -> bool:
    """Return whether rollout is not on the GPUs that train but on the solver's."""
    # Configurations of older runs lack this key.
    return separate(config) and bool(getattr(config.guidelines, "rollout_beside_solver", False))


def overlaps(config: DictConfig) -> bool:
    """Return whether the next step's rollouts are written while this step trains."""
    return separate(config) and bool(config.trainer.v1.separate_async.num_warmup_batches > 0)


def rollout_gpus(config: DictConfig) -> int:
    """Return the GPUs that only the planner's rollout uses: none if it shares the training GPUs or the solver's."""
    rollout = config.actor_rollout_ref.rollout
    return int(rollout.nnodes * rollout.n_gpus_per_node) if separate(config) and not beside_solver(config) else 0


def rollout_engines(config: DictConfig) -> int:
    """Return the number of the planner's vLLM engines (`verl/workers/rollout/llm_server.py`)."""
    rollout = config.actor_rollout_ref.rollout
    pool = rollout.nnodes * rollout.n_gpus_per_node if separate(config) else training_gpus(config)
    return int(pool // gpus_per_engine(rollout))


def gpus_per_engine(engine: DictConfig) -> int:
    """Return the GPUs that one vLLM engine with these settings takes."""
    # Configurations of older runs lack the last key.
    stages = getattr(engine, "pipeline_model_parallel_size", 1)
    return max(1, int(engine.tensor_model_parallel_size * engine.data_parallel_size * stages))


def solver_urls(config: DictConfig) -> list[str]:
    """Return the URLs of the solver's servers elsewhere, `guidelines.solver.url`; none where the run has its own."""
    # Configurations of older runs lack this key.
    given = OmegaConf.select(config, "guidelines.solver.url")
    if given is None:
        return []
    return list(map(str, given)) if isinstance(given, ListConfig) else [str(given)]


def solver_elsewhere(config: DictConfig) -> bool:
    """Return whether the layout has no place for the solver, whose servers are then at `solver_urls`."""
    return not config.reward.reward_model.enable


def solver_in_turns(config: DictConfig) -> bool:
    """Return whether the solver shares the training GPUs and solves when all of a step's guidelines are written."""
    return not solver_elsewhere(config) and not config.reward.reward_model.enable_resource_pool


def solver_gpus(config: DictConfig) -> int:
    """Return the GPUs that only the solver uses: none if it shares the training GPUs or runs elsewhere."""
    pool = config.reward.reward_model
    return int(pool.n_gpus_per_node * pool.nnodes) if pool.enable_resource_pool else 0


def solver_engines(config: DictConfig) -> int:
    """Return the number of the solver's vLLM engines of the run (`verl/experimental/reward_loop/reward_model.py`)."""
    if solver_elsewhere(config):
        return 0
    return (solver_gpus(config) or training_gpus(config)) // gpus_per_engine(config.reward.reward_model.rollout)


def logical_cpus(config: DictConfig) -> int:
    """Return the logical CPUs that a run's actors reserve in its Ray cluster.

    verl reserves three for each GPU of a pool, two for each of a rollout of its own (`single_controller/ray/base.py`,
    `rollout/replica.py`), TransferQueue one for its controller and one for each of its storage units.
    """
    units = config.transfer_queue.backend.SimpleStorage.num_data_storage_units
    return int(3 * (training_gpus(config) + solver_gpus(config)) + 2 * rollout_gpus(config) + units + 1)


def solver_samples(config: DictConfig) -> int:
    """Return the solutions that the solver writes to each guideline in training."""
    # Configurations of older runs lack this key.
    return int(getattr(config.guidelines.solver, "samples", None) or 1)


def requests_in_flight(config: DictConfig) -> int:
    """Return the requests to the solver that may be in flight: the reward workers share them (`reward/score.py`).

    At least one for each worker; preflight refuses a smaller `max_concurrency`.
    """
    workers = config.reward.num_workers
    return int(max(1, config.guidelines.solver.max_concurrency // workers) * workers)


def guideline_tokens(config: DictConfig) -> int:
    """Return the longest guideline that the planner may write, in training or in validation."""
    return int(max(config.data.max_response_length, validation_guideline_tokens(config)))


def validation_guideline_tokens(config: DictConfig) -> int:
    """Return the longest guideline that the planner may write in validation."""
    # The configuration of an older run has no such section.
    planner = config.guidelines.get("planner") or {}
    return int(planner.get("val_max_tokens") or config.data.max_response_length)


def solution_tokens(config: DictConfig) -> int:
    """Return the longest solution that the solver may write, in training or in validation."""
    return int(max(config.guidelines.solver.max_tokens, validation_solution_tokens(config)))


def validation_solution_tokens(config: DictConfig) -> int:
    """Return the longest solution that the solver may write in validation."""
    solver = config.guidelines.solver
    # The configuration of an older run has no such key.
    return int(solver.get("val_max_tokens") or solver.max_tokens)


MOST_SEQUENCES = 1024
"""Sequences that an engine works on at once, at most: vLLM's own default in verl (`rollout.yaml`)."""

LARGEST_GRAPH = 512
"""The largest batch that gets a CUDA graph, as in vLLM (`config/vllm.py`)."""


def rollout_sequences(config: DictConfig) -> int:
    """Return the guidelines that one of the planner's engines generates at once, in a step or in a validation.

    A trainer whose rollout has its own GPUs requests the next batch before the current one is finished.
    """
    step, validation = _texts(config)
    batches = 2 if separate(config) else 1
    return _each(max(batches * step, validation), rollout_engines(config))


def solver_sequences(config: DictConfig) -> int:
    """Return the solutions that one of the solver's engines generates at once if all are requested together."""
    step, validation = _texts(config)
    solutions = max(step * solver_samples(config), validation * config.guidelines.solver.val_samples)
    return _each(solutions, solver_engines(config))


def _texts(config: DictConfig) -> tuple[int, int]:
    """Return the rollouts of a step and those of a validation."""
    rollout = config.actor_rollout_ref.rollout
    step = config.data.train_batch_size * rollout.n
    return int(step), int(config.guidelines.data.val_size * rollout.val_kwargs.n)


def _each(sequences: int, engines: int) -> int:
    """Return an engine's share, rounded up to a multiple of 8."""
    share = -(-sequences // max(1, engines))
    return max(8, min(MOST_SEQUENCES, -(-share // 8) * 8))


def graph_sizes(sequences: int) -> list[int]:
    """Return the batch sizes to make CUDA graphs for: powers of two up to `sequences`, and that many.

    A batch is padded to the next size. Decoding is bound by memory bandwidth, so padding is cheaper than more graphs.
    """
    largest = min(sequences, LARGEST_GRAPH)
    return [*(1 << power for power in range(largest.bit_length()) if 1 << power < largest), largest]


def gpus_needed(config: DictConfig) -> int:
    """Return the GPUs of all roles on all nodes."""
    return sum(len(placement.gpus) * placement.nodes for placement in placements(config))


def nodes_needed(config: DictConfig) -> int:
    """Return the nodes that the role on the most nodes has GPUs on."""
    return max(placement.nodes for placement in placements(config))


def gpus_held(config: DictConfig) -> int:
    """Return the GPUs that a run holds from its launch to its end, and so pays for: none on a CPU."""
    return gpus_needed(config) if config.trainer.device == "cuda" else 0


def placements(config: DictConfig) -> list[Placement]:
    """Return the role of every GPU. The numbers are those of the pools; Ray picks the physical GPUs."""
    trainer, rollout, solver = config.trainer, config.actor_rollout_ref.rollout, config.reward.reward_model
    sequences = config.data.train_batch_size * rollout.n
    sampling = f"{config.data.train_batch_size} prompts x {rollout.n} rollouts = {sequences} guidelines a step"
    training = "actor" if lora_rank(config) == 0 else f"actor with LoRA adapters of rank {lora_rank(config)}"
    training += " and reference" if loads_reference(config) else ""
    solving = _solving(config)
    found: list[Placement] = []
    after = 0
    if rollout_gpus(config):
        after = rollout.n_gpus_per_node
        found.append(Placement(range(after), rollout.nnodes, "rollout", f"planner's rollout: {sampling}"))
    train = range(after, after + trainer.n_gpus_per_node)
    if separate(config):
        found.append(Placement(train, trainer.nnodes, "training", f"{training}, on what was rolled out before"))
    elif not solver_in_turns(config):
        found.append(
            Placement(train, trainer.nnodes, "rollout + training", f"planner's rollout: {sampling}; {training}")
        )
    else:
        work = f"in turns: planner's rollout ({sampling}), {solving}, {training}"
        found.append(Placement(train, trainer.nnodes, "rollout + solver + training", work))
    if solver_gpus(config):
        gpus = range(train.stop, train.stop + solver.n_gpus_per_node)
        if beside_solver(config):
            work = f"at once: planner's rollout ({sampling}), {solving}"
            found.append(Placement(gpus, solver.nnodes, "rollout + solver", work))
        else:
            found.append(Placement(gpus, solver.nnodes, "solver", solving))
    return found


def _solving(config: DictConfig) -> str:
    """Return the solver's work in words."""
    samples = solver_samples(config)
    solutions = config.data.train_batch_size * config.actor_rollout_ref.rollout.n * samples
    return f"solver, {solutions} solutions a step" + (f" ({samples} to each guideline)" if samples > 1 else "")


def uses_reference(config: DictConfig) -> bool:
    """Return whether there is a reference policy (`verl/trainer/ppo/utils.py`, need_reference_policy)."""
    return bool(config.algorithm.use_kl_in_reward or config.actor_rollout_ref.actor.use_kl_loss)


def lora_rank(config: DictConfig) -> int:
    """Return the rank of the planner's LoRA adapters, 0 where all of its weights are trained."""
    return int(config.actor_rollout_ref.model.lora_rank)


def loads_reference(config: DictConfig) -> bool:
    """Tell whether the reference policy has weights of its own: with LoRA it is the actor without its adapters."""
    return uses_reference(config) and lora_rank(config) == 0


def old_log_probs_from_rollout(config: DictConfig) -> bool:
    """Return whether steps may take old log-probs from the rollout engine, which must have the current weights."""
    # Configurations of older runs lack this section.
    settings = getattr(config.guidelines, "old_log_probs", None)
    return bool(settings and settings.agreement is not None and config.trainer.v1.trainer_mode == "sync")


def reference_beside_solver(config: DictConfig) -> bool:
    """Return whether reference log-probs are computed while the solver still writes."""
    # Configurations of older runs lack this key.
    return bool(getattr(config.guidelines, "reference_beside_solver", False))


def table(config: DictConfig, memory: dict[str, float], of: str) -> Table:
    """Return the table of the layout; `memory` is each role's peak in GiB on one GPU, `of` says on which GPU."""
    drawn = Table(title=f"{config.trainer.experiment_name}: {config.trainer.v1.trainer_mode} trainer")
    for column in ("GPU", "Role", "What runs there", *([f"Peak memory{of}"] if memory else [])):
        drawn.add_column(column)
    for placement in placements(config):
        parts = [f"{name} {memory[name]:.0f} GiB" for name in placement.role.split(" + ") if name in memory]
        row = (placement.label, placement.role, placement.work)
        drawn.add_row(*row, *([", ".join(parts) or "unknown"] if memory else []))
    if solver_elsewhere(config):
        where = ", ".join(solver_urls(config)) or "a URL that is not given"
        drawn.add_row("none", "solver", f"{_solving(config)}, at {where}", *(["none"] if memory else []))
    return drawn

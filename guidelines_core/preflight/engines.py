"""Checks the settings of verl's trainer and vLLM's engines, from the configuration alone."""

from __future__ import annotations

from collections.abc import Iterator

from omegaconf import DictConfig

from guidelines_core.config import layout
from guidelines_core.hardware.shapes import Shape
from guidelines_core.preflight.findings import Finding, error, warning
from guidelines_core.preflight.placement import POOL, ROLLOUT, SOLVER, placement_findings


def engine_findings(config: DictConfig, planner: Shape | None, solver: Shape | None) -> Iterator[Finding]:
    """Yield a finding for every setting of the trainer or an engine that would fail or waste time or memory.

    `planner` and `solver` are the models' shapes; the context of one that is None is not checked.
    """
    yield from _trainer_findings(config)
    yield from placement_findings(config)
    yield from _context_findings(config, planner, solver)
    yield from _pool_findings(config)
    engines = {ROLLOUT: config.actor_rollout_ref.rollout}
    if not layout.solver_elsewhere(config):
        engines[SOLVER] = config.reward.reward_model.rollout
    for key, engine in engines.items():
        if engine.name != "vllm":
            yield error(f"{key}.name", engine.name, "only vLLM is supported", "give vllm")
        if not 0 < engine.gpu_memory_utilization < 1:
            yield error(
                f"{key}.gpu_memory_utilization",
                engine.gpu_memory_utilization,
                "it is a share of the GPU's memory",
                "give a number between 0 and 1, such as 0.4",
            )


def _trainer_findings(config: DictConfig) -> Iterator[Finding]:
    trainer = config.trainer
    if not trainer.use_v1:
        yield error("trainer.use_v1", trainer.use_v1, "runs go through verl's V1 trainer", "leave it True")
    modes = ("sync", "colocate_async", "separate_async")
    if trainer.v1.trainer_mode not in modes:
        yield error(
            "trainer.v1.trainer_mode", trainer.v1.trainer_mode, "no such trainer", f"give one of {', '.join(modes)}"
        )
    if "file" not in trainer.logger or "mlflow" in trainer.logger:
        yield error(
            "trainer.logger",
            list(trainer.logger),
            "the run's journal is verl's logger `file`, and it is copied into MLflow without verl's",
            "give [console,file]",
        )
    if trainer.resume_mode != "auto":
        yield error(
            "trainer.resume_mode",
            trainer.resume_mode,
            "--resume and --new decide whether a run is resumed",
            "leave it auto",
        )


def _context_findings(config: DictConfig, planner: Shape | None, solver: Shape | None) -> Iterator[Finding]:
    data, rollout, solving = config.data, config.actor_rollout_ref.rollout, config.reward.reward_model.rollout
    tokens, guideline = layout.solution_tokens(config), layout.guideline_tokens(config)
    longer = "val_max_tokens" if tokens > config.guidelines.solver.max_tokens else "max_tokens"
    written = (
        "guidelines.planner.val_max_tokens" if guideline > data.max_response_length else "data.max_response_length"
    )
    asked = data.max_prompt_length + guideline
    engines = [(ROLLOUT, rollout, asked, f"data.max_prompt_length + {written}", planner)]
    if not layout.solver_elsewhere(config):
        what = f"question and guideline + guidelines.solver.{longer}"
        engines.append((SOLVER, solving, asked + tokens, what, solver))
    for key, engine, needed, what, shape in engines:
        length = engine.max_model_len
        if length is None or length < needed:
            yield error(
                f"{key}.max_model_len", length, f"expected at least {what} = {needed}", f"give {needed} or more"
            )
            continue
        if shape is not None and length > shape.context:
            yield error(
                f"{key}.max_model_len",
                length,
                f"the model's context is {shape.context} tokens",
                f"lower data.max_prompt_length, {written} or guidelines.solver.{longer}",
            )
        if not engine.enable_chunked_prefill and engine.max_num_batched_tokens < length:
            yield error(
                f"{key}.max_num_batched_tokens",
                engine.max_num_batched_tokens,
                f"without chunked prefill vLLM needs at least max_model_len={length}",
                f"give {length}, or {key}.enable_chunked_prefill=True",
            )


def _pool_findings(config: DictConfig) -> Iterator[Finding]:
    """Yield what is wrong with the solver's place; verl's defaults are not for a GPU of its own."""
    pool = config.reward.reward_model
    engine = pool.rollout
    yield from _url_findings(config)
    if pool.enable_resource_pool and (pool.n_gpus_per_node < 1 or pool.nnodes < 1):
        yield error(
            f"{POOL}.n_gpus_per_node", pool.n_gpus_per_node, "the solver's pool is empty", "give 1, and nnodes=1"
        )
    if config.guidelines.solver.max_concurrency < config.reward.num_workers:
        yield error(
            "guidelines.solver.max_concurrency",
            config.guidelines.solver.max_concurrency,
            f"reward.num_workers={config.reward.num_workers} share the requests in flight and each needs one",
            f"give {config.reward.num_workers} or more, or reward.num_workers=1",
        )
    if config.trainer.device != "cuda" or layout.solver_elsewhere(config):
        return
    if not pool.enable_resource_pool:
        yield warning(
            f"{POOL}.enable_resource_pool",
            False,
            "the solver starts only after the last guideline of the step",
            "give the solver a GPU of its own where there is one: layout=1p1",
        )
        if not engine.free_cache_engine:
            yield error(
                f"{SOLVER}.free_cache_engine", False, "the solver would keep the training GPUs' memory", "give True"
            )
    elif engine.gpu_memory_utilization <= 0.5 and not layout.beside_solver(config):
        yield warning(
            f"{SOLVER}.gpu_memory_utilization",
            engine.gpu_memory_utilization,
            "the solver has its GPU to itself and leaves half of it unused",
            "give 0.9",
        )
    if engine.enforce_eager:
        yield warning(f"{SOLVER}.enforce_eager", True, "without CUDA graphs decoding is slower", "give False")


def _url_findings(config: DictConfig) -> Iterator[Finding]:
    """Yield a finding if the solver has two places, or none."""
    key, urls = "guidelines.solver.url", layout.solver_urls(config)
    train_only = "layout=train-only-1, train-only-4 or cpu-train-only"
    if layout.solver_elsewhere(config) and not urls:
        yield error(key, None, "this layout has no place for the solver",
                    "give the URL of an OpenAI-compatible server, such as http://HOST:PORT/v1, or take a layout with a "
                    "solver: layout=1p1, colocated-1 or cpu")  # fmt: skip
    if layout.solver_elsewhere(config) and config.reward.reward_model.enable_resource_pool:
        yield error(f"{POOL}.enable_resource_pool", True, "the solver runs elsewhere, and GPUs would be kept for it",
                    "give False")  # fmt: skip
    if layout.solver_elsewhere(config) and layout.beside_solver(config):
        yield error("guidelines.rollout_beside_solver", True, "the solver runs elsewhere and has no GPUs here",
                    "leave it out")  # fmt: skip
    if urls and not layout.solver_elsewhere(config):
        yield error(key, ", ".join(urls), "this layout starts the run's own solver, which nobody would ask",
                    f"take {train_only}, or leave the URL out")  # fmt: skip

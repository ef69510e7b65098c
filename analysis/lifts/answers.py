"""The answers of planners and solvers to chats, each written to a file as soon as it comes.

A second call continues. Models of this machine answer in a separate process, a solver that runs elsewhere by its
servers.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from analysis.lifts.elsewhere import Elsewhere, answer
from guidelines_core.config import layout
from guidelines_core.digests import text_seed
from guidelines_core.json_lines import read_lines
from guidelines_core.launch.processes import end_tree
from guidelines_core.launch.training import failure_line
from guidelines_core.paths import ROOT
from guidelines_core.prompts import Message
from guidelines_core.solver.client import SolverError

Answers = dict[str, dict[str, Any]]
"""By id: `text`, `tokens`, `finish`."""


class GenerationFailed(RuntimeError):
    """A model's process failed; its answers until then are kept."""


@dataclass(frozen=True)
class Plan:
    """The settings of a measurement.

    Attributes:
        config: the run's configuration: prompts, lengths, sampling, engines, grader.
        planners: the model's folder or hub id for `untrained` and, where there is one, `trained`.
        solvers: the solvers' folders or hub ids, or where they run; the run's own first.
        samples: answers for each problem and arm.
        out: the folder of the answers.
    """

    config: DictConfig
    planners: Mapping[str, str]
    solvers: Sequence[str | Elsewhere]
    samples: int
    out: Path

    @property
    def as_validation(self) -> bool:
        """Whether texts are as in the run's validation; with several samples they are as in training."""
        return self.samples == 1

    @property
    def temperatures(self) -> tuple[float, float]:
        """The temperatures of planner and solver: as in the run's validation, or with several samples as in training.

        With several samples a greedy solver gets the rollout's temperature, since its answers would all be equal.
        """
        rollout, solver = self.config.actor_rollout_ref.rollout, self.config.guidelines.solver
        if self.as_validation:
            return float(rollout.val_kwargs.temperature), float(solver.val_temperature)
        return float(rollout.temperature), float(solver.temperature) or float(rollout.temperature)


@dataclass(frozen=True)
class Task:
    """Chats for one model by id, and the name of the files with their requests and answers."""

    name: str
    what: str
    chats: Mapping[str, list[Message]]


def planner_sampling(plan: Plan, temperature: float) -> dict[str, Any]:
    """Return vLLM's sampling arguments for a guideline, as in a rollout of verl (`AgentLoopWorkerTQ`)."""
    config, rollout = plan.config, plan.config.actor_rollout_ref.rollout
    source = rollout.val_kwargs if temperature == 0 else rollout
    limit = layout.validation_guideline_tokens(config) if plan.as_validation else config.data.max_response_length
    return {"temperature": temperature, "top_p": source.top_p, "top_k": source.top_k, "max_tokens": limit}


def solver_request(plan: Plan, solver: str | Elsewhere, temperature: float) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return vLLM's arguments for the solver's engine, none for a server elsewhere, and how solutions are sampled."""
    sampling = solver_sampling(plan, temperature)
    if isinstance(solver, Elsewhere):
        return {}, {name: sampling[name] for name in ("temperature", "max_tokens")}
    return engine_of(plan.config, plan.config.reward.reward_model.rollout), sampling


def solver_sampling(plan: Plan, temperature: float) -> dict[str, Any]:
    """Return vLLM's sampling arguments for a solution, as in verl's server (`vLLMHttpServer`)."""
    config, rollout = plan.config, plan.config.reward.reward_model.rollout
    limit = layout.validation_solution_tokens(config) if plan.as_validation else config.guidelines.solver.max_tokens
    return {"temperature": temperature, "top_p": rollout.top_p, "top_k": rollout.top_k, "max_tokens": limit}


def engine_of(config: DictConfig, rollout: DictConfig) -> dict[str, Any]:
    """Return vLLM's arguments for the engine of `rollout`.

    On a GPU it may use almost all memory, and is made ready for as many sequences and with as few CUDA graphs as in the
    run, so that it starts as fast.
    """
    engine = {
        "dtype": rollout.dtype,
        "enforce_eager": bool(rollout.enforce_eager),
        "tensor_parallel_size": int(rollout.tensor_model_parallel_size),
    }
    own = OmegaConf.to_container(rollout.engine_kwargs.vllm)
    assert isinstance(own, dict)
    if config.trainer.device == "cuda":
        sizes = rollout.cudagraph_capture_sizes
        compiled = json.loads(own.get("compilation_config") or "{}")
        compiled |= {} if sizes is None else {"cudagraph_capture_sizes": list(sizes)}
        limits = {"gpu_memory_utilization": 0.9, "max_num_seqs": int(rollout.max_num_seqs)}
        return {**engine, **limits, **({"compilation_config": compiled} if compiled else {})}
    own.pop("worker_extension_cls", None)  # receives the trainer's weights
    return {
        **engine,
        **{str(key): value for key, value in own.items() if value is not None},
        "max_num_seqs": int(rollout.max_num_seqs),
        "max_num_batched_tokens": int(rollout.max_num_batched_tokens),
        # A chunked prompt with a seed ends vLLM on a CPU, see experiments/conf/layout/cpu.yaml.
        "enable_chunked_prefill": False,
    }


def ask(
    plan: Plan,
    model: str | Elsewhere,
    engine: Mapping[str, Any],
    sampling: Mapping[str, Any],
    tasks: Sequence[Task],
    console: Console,
) -> dict[str, Answers]:
    """Return the answers to every task by its name; a separate process or a server writes the missing ones.

    Raises:
        GenerationFailed: that failed.
    """
    files = {task.name: plan.out / f"{task.name}.jsonl" for task in tasks}
    missing = {task.name: set(task.chats) - set(_answers(files[task.name])) for task in tasks}
    if isinstance(model, Elsewhere):
        _ask_elsewhere(plan, model, sampling, tasks, files, missing, console)
    elif any(missing.values()):
        job = plan.out / f"{tasks[0].name}.job.json"
        requests = {task.name: plan.out / f"{task.name}.requests.jsonl" for task in tasks}
        for task in tasks:
            lines = ({"id": key, "messages": chat, "seed": text_seed(key)} for key, chat in task.chats.items())
            requests[task.name].write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
        pairs = [{"requests": str(requests[name]), "answers": str(file)} for name, file in files.items()]
        job.write_text(json.dumps({"model": model, "engine": engine, "sampling": sampling, "tasks": pairs}, indent=1))
        _generate(plan.config, job, tasks, files, console)
        for file in (job, *requests.values()):
            file.unlink()
    return {name: _answers(file) for name, file in files.items()}


def _ask_elsewhere(
    plan: Plan,
    solver: Elsewhere,
    sampling: Mapping[str, Any],
    tasks: Sequence[Task],
    files: Mapping[str, Path],
    missing: Mapping[str, set[str]],
    console: Console,
) -> None:
    """Have the servers write the missing answers and show the progress."""
    chats = {files[t.name]: {key: chat for key, chat in t.chats.items() if key in missing[t.name]} for t in tasks}
    with progress(console) as bar:
        shown = {
            files[t.name]: bar.add_task(t.what, total=len(t.chats), completed=len(t.chats) - len(missing[t.name]))
            for t in tasks
        }
        try:
            answer(solver, plan.config.guidelines.solver, sampling, chats, lambda path: bar.advance(shown[path]))
        except SolverError as error:
            raise GenerationFailed(f"{solver}: {error}") from error


def _generate(
    config: DictConfig, job: Path, tasks: Sequence[Task], files: Mapping[str, Path], console: Console
) -> None:
    """Run `answer_chats.py` on `job` and show the progress."""
    log = job.with_suffix(".log")
    environment = {
        **os.environ,
        **{str(key): str(value) for key, value in config.guidelines.environment.items()},
        "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])),
    }
    module = "guidelines_core.verl_adapter.answer_chats"
    with log.open("w") as output, progress(console) as bar:
        shown = {task.name: bar.add_task(task.what, total=len(task.chats)) for task in tasks}
        process = subprocess.Popen(
            [sys.executable, "-m", module, str(job)], env=environment, stdout=output, stderr=output, cwd=ROOT
        )
        try:
            while process.poll() is None:
                for name, file in files.items():
                    bar.update(shown[name], completed=_count(file))
                time.sleep(0.5)
        finally:
            if process.poll() is None:
                end_tree(psutil.Process(process.pid))
        for name, file in files.items():
            bar.update(shown[name], completed=_count(file))
    if process.returncode != 0:
        raise GenerationFailed(f"{tasks[0].what}: {failure_line(log)} (all of it: {log})")


def progress(console: Console) -> Progress:
    """Return a progress bar with description, count and remaining time."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, TimeRemainingColumn(), console=console)


def _answers(file: Path) -> Answers:
    return {line["id"]: line for line in read_lines(file)}


def _count(file: Path) -> int:
    return file.read_bytes().count(b"\n") if file.exists() else 0

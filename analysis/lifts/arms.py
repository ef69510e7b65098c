"""The arms of a measurement: the same problems without guideline, with the untrained and with the trained planner's.

Answers are written to files whose names depend on all of their inputs, so that a second call continues the first, and
measurements share equal answers.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import psutil
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from guidelines_core.config import layout
from guidelines_core.data.problems import Problem
from guidelines_core.digests import text_seed, text_sha256
from guidelines_core.grading.pool import GradingPool
from guidelines_core.json_lines import read_lines
from guidelines_core.launch.processes import end_tree
from guidelines_core.launch.training import failure_line
from guidelines_core.paths import ROOT
from guidelines_core.prompts import VERSION, Message, planner_messages, solver_messages
from guidelines_core.reward.leak import leaks
from guidelines_core.reward.score import DECIDED
from guidelines_core.verl_adapter.answer_chats import TOO_LONG

NONE, UNTRAINED, TRAINED = "none", "untrained", "trained"
KINDS = (NONE, UNTRAINED, TRAINED)
"""The sources of the solver's guidelines."""

DESCRIBED = {NONE: "no guideline", UNTRAINED: "the untrained planner's", TRAINED: "the trained planner's"}

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
        solvers: the solvers' folders or hub ids, the run's own first.
        samples: answers for each problem and arm.
        out: the folder of the answers.
    """

    config: DictConfig
    planners: Mapping[str, str]
    solvers: Sequence[str]
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


def measure(plan: Plan, problems: Sequence[Problem], console: Console) -> pd.DataFrame:
    """Return a row for each problem, sample, kind of guideline and solver; missing answers are generated.

    Columns: solver, kind, problem_id, question, gold, source, sample, guideline, guideline_tokens, guideline_cut, leak,
    solution, solution_tokens, solution_cut, correct (1.0, 0.0, or NaN where there is no verdict), reason.

    Raises:
        GenerationFailed: a model's process failed.
    """
    plan.out.mkdir(parents=True, exist_ok=True)
    style = plan.config.guidelines.prompts.style
    temperature, solver_temperature = plan.temperatures
    ids = {f"{problem.problem_id}#{sample}": problem for problem in problems for sample in range(plan.samples)}
    names, guidelines = {NONE: NONE}, dict[str, Answers]({NONE: {}})
    for kind, model in plan.planners.items():
        rollout = plan.config.actor_rollout_ref.rollout
        engine, asked = engine_of(plan.config, rollout), planner_sampling(plan, temperature)
        names[kind] = f"guidelines-{kind}-{_digest(model, asked, engine, style)}"
        chats = {key: planner_messages(problem.question, style) for key, problem in ids.items()}
        task = Task(names[kind], f"guidelines of the {kind} planner", chats)
        guidelines[kind] = ask(plan, model, engine, asked, [task], console)[task.name]
    parts = []
    for model in plan.solvers:
        rollout = plan.config.reward.reward_model.rollout
        engine, asked = engine_of(plan.config, rollout), solver_sampling(plan, solver_temperature)
        tasks = {}
        for kind, written in guidelines.items():
            given = {key: answer["text"] for key, answer in written.items() if answer["finish"] != TOO_LONG}
            tasks[kind] = Task(
                f"solutions-{kind}-{_digest(model, asked, engine, style, names[kind])}",
                f"solutions with {DESCRIBED[kind]}",
                {
                    key: solver_messages(problem.question, given.get(key), style)
                    for key, problem in ids.items()
                    if kind == NONE or key in given
                },
            )
        solutions = ask(plan, model, engine, asked, list(tasks.values()), console)
        for kind, task in tasks.items():
            rows = _rows(ids, guidelines[kind], solutions[task.name])
            parts.append(rows.assign(solver=Path(model).name, kind=kind))
    return graded(pd.concat(parts, ignore_index=True), plan.config, console)


def planner_sampling(plan: Plan, temperature: float) -> dict[str, Any]:
    """Return vLLM's sampling arguments for a guideline, as in a rollout of verl (`AgentLoopWorkerTQ`)."""
    config, rollout = plan.config, plan.config.actor_rollout_ref.rollout
    source = rollout.val_kwargs if temperature == 0 else rollout
    limit = layout.validation_guideline_tokens(config) if plan.as_validation else config.data.max_response_length
    return {"temperature": temperature, "top_p": source.top_p, "top_k": source.top_k, "max_tokens": limit}


def solver_sampling(plan: Plan, temperature: float) -> dict[str, Any]:
    """Return vLLM's sampling arguments for a solution, as in verl's server (`vLLMHttpServer`)."""
    config, rollout = plan.config, plan.config.reward.reward_model.rollout
    limit = layout.validation_solution_tokens(config) if plan.as_validation else config.guidelines.solver.max_tokens
    return {"temperature": temperature, "top_p": rollout.top_p, "top_k": rollout.top_k, "max_tokens": limit}


def engine_of(config: DictConfig, rollout: DictConfig) -> dict[str, Any]:
    """Return vLLM's arguments for the engine of `rollout`; on a GPU it may use almost all memory."""
    engine = {
        "dtype": rollout.dtype,
        "enforce_eager": bool(rollout.enforce_eager),
        "tensor_parallel_size": int(rollout.tensor_model_parallel_size),
    }
    if config.trainer.device == "cuda":
        return {**engine, "gpu_memory_utilization": 0.9}
    own = OmegaConf.to_container(rollout.engine_kwargs.vllm)
    assert isinstance(own, dict)
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
    model: str,
    engine: Mapping[str, Any],
    sampling: Mapping[str, Any],
    tasks: Sequence[Task],
    console: Console,
) -> dict[str, Answers]:
    """Return the answers to every task by its name; a separate process generates the missing ones.

    Raises:
        GenerationFailed: that process failed.
    """
    files = {task.name: plan.out / f"{task.name}.jsonl" for task in tasks}
    missing = {task.name: set(task.chats) - set(_answers(files[task.name])) for task in tasks}
    if any(missing.values()):
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


def graded(rows: pd.DataFrame, config: DictConfig, console: Console) -> pd.DataFrame:
    """Return `rows` with `correct` and `reason` by the run's grader, and whether the guideline is a `leak`."""
    grader = config.guidelines.grader
    correct, reasons = [float("nan")] * len(rows), rows["finish"].tolist()
    with GradingPool(grader.workers, grader.deadline_s, grader.memory_mb) as pool, progress(console) as bar:
        futures = {
            pool.submit(str(gold), str(solution)): index
            for index, (gold, solution, finish) in enumerate(
                zip(rows["gold"], rows["solution"], rows["finish"], strict=True)
            )
            if finish != TOO_LONG
        }
        shown = bar.add_task("verdicts", total=len(futures))
        for future in as_completed(futures):
            verdict = future.result()[grader.name]
            reasons[futures[future]] = verdict.reason
            if verdict.reason in DECIDED:
                correct[futures[future]] = float(verdict.correct)
            bar.advance(shown)
    texts = zip(rows["question"], rows["guideline"], rows["gold"], strict=True)
    leaking = [leaks(question, guideline, gold) for question, guideline, gold in texts]
    found: pd.DataFrame = rows.drop(columns="finish").assign(correct=correct, reason=reasons, leak=leaking)
    return found


def _rows(ids: Mapping[str, Problem], guidelines: Answers, solutions: Answers) -> pd.DataFrame:
    """Return a row for each id; a prompt beyond the model's context gives an empty text and `finish` says so."""
    nothing = {"text": "", "tokens": 0, "finish": TOO_LONG}
    rows = []
    for key, problem in ids.items():
        guideline = guidelines.get(key, {**nothing, "finish": "stop"})
        solution = solutions.get(key, nothing)
        rows.append(
            {
                "problem_id": problem.problem_id,
                "sample": int(key.rsplit("#", 1)[1]),
                "question": problem.question,
                "gold": problem.gold,
                "source": problem.source,
                "guideline": guideline["text"],
                "guideline_tokens": guideline["tokens"],
                "guideline_cut": guideline["finish"] == "length",
                "solution": solution["text"],
                "solution_tokens": solution["tokens"],
                "solution_cut": solution["finish"] == "length",
                "finish": solution["finish"],
            }
        )
    table: pd.DataFrame = pd.DataFrame(rows)
    return table


def _answers(file: Path) -> Answers:
    return {line["id"]: line for line in read_lines(file)}


def _count(file: Path) -> int:
    return file.read_bytes().count(b"\n") if file.exists() else 0


def _digest(*parts: object) -> str:
    return text_sha256(repr((VERSION, *parts)))[:10]

"""The arms of a measurement: the same problems without guideline, with the untrained and with the trained planner's.

Answers are written to files whose names depend on all of their inputs, so that a second call continues the first, and
measurements share equal answers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import as_completed

import pandas as pd
from omegaconf import DictConfig
from rich.console import Console

from analysis.lifts.answers import Answers, Plan, Task, ask, engine_of, planner_sampling, progress, solver_request
from analysis.lifts.elsewhere import name_of
from guidelines_core.data.problems import Problem
from guidelines_core.digests import text_sha256
from guidelines_core.grading.pool import GradingPool
from guidelines_core.prompts import VERSION, planner_messages, solver_messages
from guidelines_core.reward.leak import leaks
from guidelines_core.reward.score import DECIDED
from guidelines_core.verl_adapter.answer_chats import TOO_LONG

NONE, UNTRAINED, TRAINED = "none", "untrained", "trained"
KINDS = (NONE, UNTRAINED, TRAINED)
"""The sources of the solver's guidelines."""

DESCRIBED = {NONE: "no guideline", UNTRAINED: "the untrained planner's", TRAINED: "the trained planner's"}


def measure(plan: Plan, sets: Sequence[Sequence[Problem]], console: Console) -> list[pd.DataFrame]:
    """Return for each set of problems a row for each problem, sample, kind of guideline and solver.

    Missing answers are generated; each model is started once for all sets. Columns: solver, kind, problem_id, question,
    gold, source, sample, guideline, guideline_tokens, guideline_cut, leak, solution, solution_tokens, solution_cut,
    correct (1.0, 0.0, or NaN where there is no verdict), reason.

    Raises:
        GenerationFailed: a model's process failed.
    """
    plan.out.mkdir(parents=True, exist_ok=True)
    style = plan.config.guidelines.prompts.style
    temperature, solver_temperature = plan.temperatures
    each = [{f"{one.problem_id}#{n}": one for one in problems for n in range(plan.samples)} for problems in sets]
    ids = {key: problem for problems in reversed(each) for key, problem in problems.items()}
    names, guidelines = {NONE: NONE}, dict[str, Answers]({NONE: {}})
    for kind, model in plan.planners.items():
        rollout = plan.config.actor_rollout_ref.rollout
        engine, asked = engine_of(plan.config, rollout), planner_sampling(plan, temperature)
        names[kind] = f"guidelines-{kind}-{_digest(model, asked, engine, style)}"
        chats = {key: planner_messages(problem.question, style) for key, problem in ids.items()}
        task = Task(names[kind], f"guidelines of the {kind} planner", chats)
        guidelines[kind] = ask(plan, model, engine, asked, [task], console)[task.name]
    parts: list[list[pd.DataFrame]] = [[] for _ in each]
    for solver in plan.solvers:
        engine, asked = solver_request(plan, solver, solver_temperature)
        tasks = {}
        for kind, written in guidelines.items():
            given = {key: answer["text"] for key, answer in written.items() if answer["finish"] != TOO_LONG}
            tasks[kind] = Task(
                f"solutions-{kind}-{_digest(str(solver), asked, engine, style, names[kind])}",
                f"solutions with {DESCRIBED[kind]}",
                {
                    key: solver_messages(problem.question, given.get(key), style)
                    for key, problem in ids.items()
                    if kind == NONE or key in given
                },
            )
        solutions = ask(plan, solver, engine, asked, list(tasks.values()), console)
        for kind, task in tasks.items():
            for own, part in zip(each, parts, strict=True):
                rows = _rows(own, guidelines[kind], solutions[task.name])
                part.append(rows.assign(solver=name_of(solver), kind=kind))
    return [graded(pd.concat(part, ignore_index=True), plan.config, console) for part in parts]


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


def _digest(*parts: object) -> str:
    return text_sha256(repr((VERSION, *parts)))[:10]

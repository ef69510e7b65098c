"""Turns a sample of each step's graded rollouts into MLflow traces.

A trace is one guideline: its root is the problem, with the spans `planner`, `solver` and `grader` below. Its id is a
hash of the run and the rollout's texts, so that writing a trace twice stores it once.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
from mlflow.entities import AssessmentSource, Feedback, Span, SpanType, TraceInfo, TraceLocation, TraceState
from mlflow.tracing.constant import SpanAttributeKey, TraceMetadataKey, TraceTagKey

from guidelines_core.grading.verdicts import GRADERS
from guidelines_core.prompts import planner_messages, solver_messages

RECENT, EVERY = 30, 10
"""The last `RECENT` steps have traces, and of the older ones the first and every `EVERY`th."""

PREVIEW = 500
"""Characters of question and guideline in the list of traces."""


@dataclass(frozen=True)
class Origin:
    """Where traces come from.

    Attributes:
        run_id, run_name, experiment_id: the MLflow run and its experiment.
        grader: the grader whose verdict is the reward.
        style: the style of the prompts, one of `prompts.STYLES`.
    """

    run_id: str
    run_name: str
    experiment_id: str
    grader: str
    style: str


@dataclass(frozen=True)
class RolloutTrace:
    """A trace in MLflow's form: its description and its spans, the root first."""

    info: TraceInfo
    spans: list[Span]


def steps_with_traces(steps: Iterable[int]) -> set[int]:
    """Return the steps that have traces: the last `RECENT` of `steps`, the first, and every `EVERY`th of the others."""
    found = sorted(set(steps))
    return {step for step in found if step in (*found[:1], *found[-RECENT:]) or step % EVERY == 0}


def sample(rows: pd.DataFrame, split: str, settings: Mapping[str, int]) -> pd.DataFrame:
    """Return the rows that become traces: those of `settings[split]` groups in training, or problems in validation.

    In training, groups with mixed rewards are chosen first, then others in the order of the groups. In validation the
    same problems are chosen at each step.
    """
    if split == "validation":
        chosen = sorted(rows["problem_id"].unique())
    else:
        mixed = rows.groupby("group", sort=True)["score"].nunique().gt(1)
        chosen = [*mixed.index[mixed], *mixed.index[~mixed]]
    column = "problem_id" if split == "validation" else "group"
    found: pd.DataFrame = rows[rows[column].isin(chosen[: settings[split]])]
    return found


def traces(rows: pd.DataFrame, split: str, origin: Origin) -> list[RolloutTrace]:
    """Return a trace for each guideline of a step's graded rows, which may hold several solutions to one.

    Args:
        rows: columns of `GradedRow`.
        split: `train` or `validation`.
        origin: the run, its grader and its prompts.
    """
    by_rollout = rows.groupby(["group", "rollout"], sort=False)
    return [_trace(found.to_dict("records"), split, origin) for _, found in by_rollout]


def _trace(rows: Sequence[Mapping[Any, Any]], split: str, origin: Origin) -> RolloutTrace:
    """Return the trace of one guideline and the solutions to it, a row each."""
    first = rows[0]
    parts = (origin.run_id, split, first["step"], first["group"], first["rollout"], first["guideline"],
             *(row["solution"] for row in rows))  # fmt: skip
    key = hashlib.sha256(json.dumps([str(part) for part in parts]).encode()).hexdigest()[:32]
    asked = int(pd.Timestamp(first["asked_at"]).value)
    answered = asked + _ns(first["solver_s"])
    graded = answered + _ns(first["grader_s"])
    # Among the outputs, too: MLflow's page that compares traces shows neither names nor tags.
    name = f"{split} step {int(first['step'])}"
    question, guideline = str(first["question"]), str(first["guideline"])
    solutions = [str(row["solution"]) for row in rows]
    verdicts = [
        {
            **{name: bool(row[f"{name}_correct"]) for name in GRADERS if f"{name}_correct" in row},
            "reason": row["reason"],
        }
        for row in rows
    ]
    spans = [
        _span(key, "problem", None, SpanType.CHAIN, (asked, graded), {"problem": question, "gold": first["gold"]},
              {"step": name, "guideline": guideline, "reward": first["score"]}, {}),
        # The planner's start is not recorded. Its end is the solver's start: each guideline goes to the solver at once.
        _span(key, "planner", "problem", SpanType.LLM, (asked, asked),
              {"messages": planner_messages(question, origin.style)}, guideline,
              {"tokens": first["guideline_tokens"], "truncated": first["guideline_truncated"]}),
        _span(key, "solver", "problem", SpanType.LLM, (asked, answered),
              {"messages": solver_messages(question, guideline, origin.style)}, _single(solutions),
              {"tokens": first["solution_tokens"], "truncated": first["solution_truncated"],
               "seconds": first["solver_s"], "sampling": first["solver_sampling"]}),
        _span(key, "grader", "problem", SpanType.EVALUATOR, (answered, graded),
              {"gold": first["gold"], "solution": _single(solutions)}, _single(verdicts),
              {"seconds": first["grader_s"]}),
    ]  # fmt: skip
    info = TraceInfo(
        trace_id=f"tr-{key}",
        trace_location=TraceLocation.from_experiment_id(origin.experiment_id),
        request_time=asked // 1_000_000,
        execution_duration=(graded - asked) // 1_000_000,
        state=TraceState.OK,
        request_preview=question[:PREVIEW],
        response_preview=f"step {int(first['step'])}, reward {first['score']:g}: {guideline}"[:PREVIEW],
        trace_metadata={TraceMetadataKey.SOURCE_RUN: origin.run_id},
        tags={
            TraceTagKey.TRACE_NAME: name,
            "step": str(int(first["step"])),
            "split": split,
            "group": str(first["group"]),
            "problem": str(first["problem_id"]),
            "run": origin.run_name,
        },
        assessments=_assessments(key, rows, origin),
    )
    return RolloutTrace(info, spans)


def _assessments(key: str, rows: Sequence[Mapping[Any, Any]], origin: Origin) -> list[Feedback]:
    """Return the verdict (with several solutions, the share that is right), the leak, and a known advantage."""
    first, right = rows[0], [bool(row["acc"]) for row in rows]
    values: dict[str, tuple[bool | float | str, str]] = {
        "verdict": (right[0] if len(right) == 1 else sum(right) / len(right), str(first["reason"])),
        # In words: MLflow's page shows False in red.
        "leak": (
            "gold answer" if first["guideline_leak"] else "none",
            "whether the guideline contains the gold answer",
        ),
    }
    if not math.isnan(first["advantage"]):
        values["advantage"] = (round(float(first["advantage"]), 4), "within the rollout's group")
    found = []
    for name, (value, why) in values.items():
        source = AssessmentSource("CODE", origin.grader if name == "verdict" else name)
        feedback = Feedback(name=name, value=value, rationale=why, source=source, trace_id=f"tr-{key}")
        feedback.assessment_id = f"a-{_digest(key, name)[:32]}"
        found.append(feedback)
    return found


def _span(
    key: str, name: str, parent: str | None, kind: str, when: tuple[int, int], inputs: Any, outputs: Any,
    attributes: Mapping[str, Any],
) -> Span:  # fmt: skip
    """Return a span of trace `key`; `when` is its start and its end, in ns since 1970."""
    known = {
        SpanAttributeKey.REQUEST_ID: f"tr-{key}",
        SpanAttributeKey.SPAN_TYPE: kind,
        SpanAttributeKey.INPUTS: inputs,
        SpanAttributeKey.OUTPUTS: outputs,
        **{each: value for each, value in attributes.items() if value == value},
    }
    return Span.from_dict(
        {
            "trace_id": base64.b64encode(bytes.fromhex(key)).decode(),
            "span_id": _span_id(key, name),
            "parent_span_id": _span_id(key, parent) if parent else None,
            "name": name,
            "start_time_unix_nano": when[0],
            "end_time_unix_nano": max(when),
            "attributes": {each: json.dumps(value, ensure_ascii=False) for each, value in known.items()},
            "status": {"code": "STATUS_CODE_OK", "message": ""},
            "events": [],
        }
    )


def _span_id(key: str, name: str) -> str:
    return base64.b64encode(bytes.fromhex(_digest(key, name)[:16])).decode()


def _digest(*parts: str) -> str:
    return hashlib.sha256("/".join(parts).encode()).hexdigest()


def _single(values: Sequence[Any]) -> Any:
    """Return the value of a list of one, or the list."""
    return values[0] if len(values) == 1 else list(values)


def _ns(seconds: float) -> int:
    return 0 if math.isnan(seconds) else int(seconds * 1e9)

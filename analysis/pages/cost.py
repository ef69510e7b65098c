"""What a run has cost, and what a point of its lift has: a part of the run's page."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any

from analysis.lifts.section import FOLDER, NONE
from analysis.pages.page import Section, facts
from analysis.store.runs import Run, artifact, artifacts
from guidelines_core.runs import cost

TRAINED = "trained"


def cost_sections(run: Run) -> list[Section]:
    """Return what a run has cost as a part of its page; none for a run that did not record it."""
    total = cost.in_words(run.final)
    if total is None:
        return []
    known = {"the run": total, **each(run.final)}
    for path in sorted(artifacts(run, FOLDER)) if FOLDER in artifacts(run) else []:
        if path.endswith(".json"):
            pairs = json.loads(artifact(run, path).read_text(encoding="utf-8"))["pairs"]
            if words := per_point(run.final, pairs):
                known[f"a point of lift ({PurePath(path).stem})"] = words
    return [Section("What it cost", [facts(known)])]


def each(final: Mapping[str, float]) -> dict[str, str]:
    """Return what the last step and a graded rollout of it have cost; nothing on a CPU."""
    named = {
        "the last step": (cost.STEP_GPU_S, cost.STEP_WH, cost.STEP_DOLLARS),
        "a graded rollout of it": (cost.ROLLOUT_GPU_S, cost.ROLLOUT_WH, cost.ROLLOUT_DOLLARS),
    }
    return {
        name: cost.of_one(*(final.get(metric) for metric in metrics))
        for name, metrics in named.items()
        if metrics[0] in final
    }


def per_point(final: Mapping[str, float], pairs: Sequence[Mapping[str, Any]]) -> str | None:
    """Return what each point of lift has cost: the run's cost over the trained planner's gain in percentage points.

    The gain is that over the untrained planner, or over no guideline where that alone was measured, of the first
    solver. None on a CPU and where the trained planner was not measured.
    """
    of_trained = [pair for pair in pairs if pair["better"] == TRAINED and pair["solver"] == pairs[0]["solver"]]
    if not of_trained or not final[cost.GPU_HOURS]:
        return None
    pair = min(of_trained, key=lambda pair: pair["base"] == NONE)
    points = 100 * pair["paired"]["difference"]["value"]
    gain = f"{points:+.1f} points over {'no guideline' if pair['base'] == NONE else 'the ' + pair['base'] + ' planner'}"
    if points <= 0:
        return f"none was gained ({gain})"
    kwh, dollars = (final[name] / points if name in final else None for name in (cost.KWH, cost.DOLLARS))
    return f"{cost.amounts(final[cost.GPU_HOURS] / points, kwh, dollars)} ({gain})"

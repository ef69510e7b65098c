"""The parts of a run's page: settings, results, time, and how to reproduce it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from analysis.diagnosis import findings as diagnosis
from analysis.diagnosis import page as diagnosis_page
from analysis.diagnosis import report as diagnosis_report
from analysis.lifts.section import lift_sections, short
from analysis.pages.cost import cost_sections
from analysis.pages.over_steps import over_steps
from analysis.pages.page import Section, card, code, facts, plot, table, text
from analysis.pages.tables import interval, number, records
from analysis.stats import signal
from analysis.stats.comparison import FEW, notes
from analysis.stats.intervals import compare_paired, mean_interval
from analysis.stats.summary import NEEDED, curves, figures, gpus_of, in_words
from analysis.stats.verdicts import ALL, MATH_VERIFY, Judged, by_problem, judge
from analysis.store.differences import origin
from analysis.store.runs import Run, config, history, manifest, rows
from guidelines_core.config.compose import ConfigError
from guidelines_core.config.flat import flat
from guidelines_core.runs.description import model_name
from guidelines_core.runs.lookup import RunError
from guidelines_core.runs.mlflow_sync import ALARM, ALARMS

FACTS = {
    "guidelines.description": "what it is",
    "actor_rollout_ref.model.path": "planner",
    "guidelines.solver.model": "solver",
    "guidelines.grader.name": "grader of the reward",
    "algorithm.adv_estimator": "advantage",
    "data.train_batch_size": "prompts a step",
    "actor_rollout_ref.rollout.n": "rollouts a prompt",
    "trainer.total_training_steps": "steps planned",
    "actor_rollout_ref.actor.ppo_mini_batch_size": "mini-batch, prompts",
    "actor_rollout_ref.actor.optim.lr": "learning rate",
    "actor_rollout_ref.actor.kl_loss_coef": "KL coefficient, loss",
    "algorithm.use_kl_in_reward": "KL in the reward",
    "actor_rollout_ref.rollout.temperature": "planner's temperature",
    "data.max_prompt_length": "prompt, tokens at most",
    "data.max_response_length": "guideline, tokens at most",
    "guidelines.solver.max_tokens": "solution, tokens at most",
    "guidelines.data.source": "problems from",
}
"""The keys of the configuration that the page shows, and their names in words."""

CAPTION = "The line is the running mean with its 95 % interval, a dot is a step; validation has Wilson's interval."
SIDE_BY_SIDE = 5


@dataclass(frozen=True)
class Report:
    """A run's part of the page.

    Attributes:
        sections: headings and HTML.
        plots: its figures, by file name without suffix.
        headline: the results, a sentence each.
        as_json: the same facts as plain values for JSON.
    """

    sections: list[Section]
    plots: dict[str, Figure]
    headline: list[str]
    as_json: dict[str, Any]


def report(run: Run, name: str) -> Report:
    """Read a run and return its part of the page, without what the run did not record."""
    settings, metrics, judged = config(run), history(run, NEEDED), judge(run)
    own = figures(metrics, gpus_of(settings))
    headline = [*reached(run, metrics, judged), *notes({name: run}, {name: settings}, {name: metrics}, {name: judged})]
    drawn = curves({name: metrics})
    sections = [
        Section("What it reached", [text(sentence) for sentence in headline]),
        Section("What was trained and how", trained(settings, manifest(run))),
        Section("Curves", [plot(drawn, CAPTION)] if drawn else []),
        Section("Figures", [table(in_words({name: own}, {name: run.status}))]),
        Section("Alarms", alarms(run)),
        *cost_sections(run),
        *lift_sections(run),
        Section("One problem, two guidelines", side_by_side(run)),
        Section("The same problem over the steps", over_steps(run)),
        *bottleneck(run),
        Section("What exact match wronged", wronged(judged)),
        Section("To do it again", reproducibility(run, settings)),
    ]
    found = {
        "run": run.id,
        "status": run.status,
        "headline": headline,
        "settings": chosen_settings(settings),
        "figures": records(own),
        "verdicts": records(judged.tally),
        "origin": origin(run),
    }
    return Report(sections, {"curves": drawn} if drawn else {}, headline, found)


def reached(run: Run, metrics: pd.DataFrame, judged: Judged) -> list[str]:
    """Return the results: reward from the first to the last steps, accuracy against the first validation."""
    sentences = []
    reward = metrics["reward/mean"].dropna() if "reward/mean" in metrics else pd.Series(dtype=float)
    if len(reward):
        few = max(1, len(reward) // 10)
        sentences.append(
            f"Mean reward went from {reward.head(few).mean():.3f} to {reward.tail(few).mean():.3f} in {len(reward)} "
            f"steps ({f'means of the first and the last {few}' if few > 1 else 'the first step and the last'})."
        )
        sentences += [*leaked(metrics, few), *repeated(metrics, few)]
        sentences += [*map(signal.in_words, filter(None, [signal.signal_of(metrics)]))]
    validated = rows(run, "validation", ["step", "problem_id", MATH_VERIFY])
    steps = sorted(set(validated["step"].dropna()))
    if steps:
        final = mean_interval(by_problem([validated[validated["step"] == steps[-1]]])[0].to_numpy())
        few_problems = f"; fewer than {FEW} say little" if final.n < FEW else ""
        sentences.append(
            f"Validation accuracy by math-verify at step {steps[-1]}: {interval(final.value, final.low, final.high)} "
            f"on {final.n} problems{few_problems}."
        )
    if len(steps) > 1:
        both = by_problem([validated[validated["step"] == step] for step in (steps[0], steps[-1])])
        if len(both):
            found = compare_paired(both[0].to_numpy(), both[1].to_numpy())
            change = interval(found.difference.value, found.difference.low, found.difference.high, sign=True)
            test = "" if found.p_value is None else f", McNemar's p = {found.p_value:.2g}"
            sentences.append(f"From step {steps[0]} it changed by {change} on the same {len(both)} problems{test}.")
    return sentences


def alarms(run: Run) -> list[str]:
    """Return the run's alarms as a table, a row for each rule that raised one; none of a run that recorded none."""
    if ALARMS not in run.tags:
        return []
    raised = {name.removeprefix(f"{ALARM}."): words for name, words in run.tags.items() if name.startswith(f"{ALARM}.")}
    return [facts(raised) if raised else text("None was raised.")]


def leaked(metrics: pd.DataFrame, few: int) -> list[str]:
    """Return how many guidelines gave the gold away, in the first and the last `few` steps."""
    if "guideline/leak" not in metrics:
        return []
    leaks = metrics["guideline/leak"].dropna()
    first, last = leaks.head(few).mean(), leaks.tail(few).mean()
    return [f"Guidelines that give the gold answer away went from {first:.1%} to {last:.1%}."]


def repeated(metrics: pd.DataFrame, few: int) -> list[str]:
    """Return how many of the last `few` steps' guidelines are also another problem's; nothing if none is."""
    if "guideline/repeated" not in metrics:
        return []
    last = metrics["guideline/repeated"].dropna().tail(few).mean()
    return [f"In the end {last:.1%} of the guidelines are also those of another problem."] if last > 0 else []


def trained(settings: Mapping[str, Any], problems: Mapping[str, Any]) -> list[str]:
    """Return the run's settings as a table; none if it recorded none."""
    known = chosen_settings(settings)
    known |= {words: model_name(known[words]) for words in ("planner", "solver") if words in known}
    if problems:
        known["problems"] = (
            f"{number(problems.get('train_rows'))} to train, {number(problems.get('val_rows'))} to validate"
        )
    return [facts(known)] if known else []


def chosen_settings(settings: Mapping[str, Any]) -> dict[str, str]:
    """Return the values of `FACTS` that a configuration has, by their names in words."""
    keys = flat(settings)
    return {words: str(keys[key]) for key, words in FACTS.items() if keys.get(key) is not None}


def side_by_side(run: Run) -> list[str]:
    """Return problems of the last steps with different rewards: the best and the worst guideline with a solution."""
    read = ["step", "group", "question", "gold", "guideline", "solution", "score", "acc"]
    known = rows(run, "train", ["step"])["step"]
    if known.empty:
        return []
    chosen = rows(run, "train", read, steps=sorted(set(known))[-SIDE_BY_SIDE:])
    cards: list[str] = []
    for _, group in chosen.groupby(["step", "group"]):
        by_score = group.sort_values(["score", "acc"], kind="stable").to_dict("records")
        worst, best = by_score[0], by_score[-1]
        if best["score"] > worst["score"] and len(cards) < SIDE_BY_SIDE:
            sides = [
                (f"reward {row['score']:g}", good, f"{short(row['guideline'])}\n\n→ {short(row['solution'])}")
                for row, good in ((best, True), (worst, False))
            ]
            cards.append(card(f"Step {best['step']}: {best['question']} (gold: {best['gold']})", sides))
    return cards


def bottleneck(run: Run) -> list[Section]:
    """Return where a step's time went; nothing for a run that recorded no phases or no configuration."""
    if "timing_s/gen" not in run.final:
        return []
    try:
        found = diagnosis.of_run(run.id)
    except (RunError, ConfigError):
        return []
    changes, busy, phases, *_ = diagnosis_page.sections(found)
    return [
        Section("Where a step's time goes", [text(diagnosis_report.headline(found)), *busy.parts, *phases.parts]),
        changes,
    ]


def wronged(judged: Judged) -> list[str]:
    """Return the answers that only math-verify calls right, by kind; nothing without a right answer."""
    if not judged.pairs or not judged.tally.loc[ALL, "math_verify"]:
        return []
    tally = judged.tally.drop(columns="exact_only").rename(columns=lambda name: name.replace("_", " "))
    tally["wronged share"] = [f"{share:.1%}" if share == share else "" for share in tally["wronged share"]]
    return [
        table(tally, "Wronged: called right by math-verify and wrong by exact match; the share is of the former."),
        *([table(judged.examples.set_index("kind"))] if len(judged.examples) else []),
    ]


def reproducibility(run: Run, settings: Mapping[str, Any]) -> list[str]:
    """Return commit, versions, checksums and the command."""
    started = datetime.fromtimestamp(run.entity.info.start_time / 1000, timezone.utc)
    known = {"run": run.id, "started": f"{started:%Y-%m-%d %H:%M} UTC", **origin(run)}
    problems = manifest(run)
    known |= {f"sha256 of {file}": checksum for file, checksum in problems.get("sha256", {}).items()}
    name = flat(settings).get("trainer.experiment_name", run.name)
    command = run.tags.get("guidelines.command")
    words = command or f"python experiments/run.py --name {name}  # what was overridden is in the artifact config.yaml"
    return [code(f"git checkout {known.get('git.commit', '')}\n{words}"), facts(known)]

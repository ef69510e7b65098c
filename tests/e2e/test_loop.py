"""What must hold of a run, checked on one that was interrupted and on one that was not (`conftest.py`)."""

from __future__ import annotations

import json
import re
import time

import numpy as np
import psutil
import pytest
import torch

from guidelines_core.grading.pool import GradingPool
from guidelines_core.launch.processes import GRACE_S
from guidelines_core.runs.journal import STEP, Journal
from guidelines_core.runs.start import METRIC, STAGES
from guidelines_core.verl_adapter.early_reference import SECONDS
from guidelines_core.verl_adapter.old_log_probs import FROM_ROLLOUT
from tests.chaos.loop import CLOCKED
from tests.e2e.conftest import Loop, Started
from tests.support.postgres import PASSWORD
from tests.support.tensors import tensors
from tests.support.tiny_run import (
    LOOPBACK,
    PASS_RATES,
    PROMPTS,
    ROLLOUTS,
    SAMPLES,
    SECRETS,
    STEPS,
    VALIDATION_TOKENS,
    of_store,
)

pytestmark = pytest.mark.e2e

OF_THE_MEASUREMENT = re.compile(r"^training/|^actor/entropy$")
"""Metrics that only a step which computes old log-probs has."""


def test_no_process_of_the_run_is_left(loop: Loop) -> None:
    left = [p for p in psutil.process_iter(["cmdline"]) if str(loop.directory) in " ".join(p.info["cmdline"] or [])]
    assert left == []
    # The last start of run.py ends before its supervisor does.
    deadline = time.monotonic() + 2 * GRACE_S
    while (living := of_store(loop.uri)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert living == []


def test_every_port_is_on_loopback(loop: Loop) -> None:
    assert loop.terminated.listening
    assert loop.terminated.listening <= LOOPBACK


def test_nothing_of_the_run_is_left_in_shared_memory(loop: Loop) -> None:
    assert loop.left_in_shared_memory == set()


def test_sigterm_saves_the_step_under_way(loop: Loop) -> None:
    assert loop.terminated.exit_code == 130, loop.terminated.output
    assert "stopped by SIGTERM, saved at step 3" in loop.terminated.output
    assert "--resume" in loop.terminated.output
    assert loop.status_when_terminated == "KILLED"


def test_the_same_name_again_is_refused_with_the_ways_on(loop: Loop) -> None:
    assert loop.refused.exit_code == 2
    for word in ("KILLED", "--resume", "--new", "step 3"):
        assert word in loop.refused.output


def test_another_learning_rate_is_refused_on_a_resume(loop: Loop) -> None:
    assert loop.changed.exit_code == 2
    assert "actor_rollout_ref.actor.optim.lr=0.5: the run has 0.01" in loop.changed.output
    assert not (loop.directory / "logs/attempt-3.yaml").exists(), "a refused start is no attempt"


def test_another_concurrency_is_taken_and_recorded(loop: Loop) -> None:
    assert "max_concurrency: 512 -> 64" in loop.stored.data.tags["guidelines.attempt.2"]
    assert loop.stored.data.params["guidelines/solver/max_concurrency"] == "512", "what the run began with"
    assert {"config.yaml", "config-2.yaml"} <= loop.artifacts()


def test_a_broken_checkpoint_is_set_aside_and_the_one_before_resumed(loop: Loop) -> None:
    assert "global_step_3 is not resumed from, actor/model_world_size_1_rank_0.pt" in loop.resumed.output
    assert "goes on from global_step_2" in loop.resumed.output
    journal = Journal(loop.directory / "logs/attempt-2.jsonl").entries()
    assert next(entry.step for entry in journal if STEP in entry.metrics) == 3
    assert (loop.directory / "global_step_3.broken").is_dir()
    assert (loop.directory / "latest_checkpointed_iteration.txt").read_text() == str(STEPS)


def test_the_first_step_of_an_attempt_measures_and_the_others_take_the_rollouts_log_probs(loop: Loop) -> None:
    steps = loop.steps()
    assert [metrics[FROM_ROLLOUT] for metrics in steps.values()] == [0.0, 1.0, 0.0, 1.0]
    assert steps[2]["timing_s/old_log_prob"] < steps[1]["timing_s/old_log_prob"] / 4


def test_the_resumed_run_went_as_if_it_had_never_been_broken(loop: Loop, unbroken: Started) -> None:
    columns = ["step", "problem_id", "rollout", "sample", "guideline", "solution", "score"]
    ours, theirs = (run.rows().sort_values(columns[:4])[columns] for run in (loop, unbroken))
    assert ours.to_dict("list") == theirs.to_dict("list")
    names = [name for name in unbroken.metric_names() if not CLOCKED.search(name)]
    names = [name for name in names if not OF_THE_MEASUREMENT.search(name)]
    assert {"actor/loss", "actor/pg_loss", "actor/kl_loss", "actor/grad_norm", "reward/mean"} <= set(names)
    for name in names:
        assert loop.metric(name) == pytest.approx(unbroken.metric(name), rel=1e-5, abs=1e-5), name
    assert min(unbroken.metric("actor/grad_norm").values()) > 1e-2
    assert max(unbroken.metric("critic/advantages/max").values()) > 0.1


@pytest.mark.parametrize("part", ["model", "optim"])
def test_the_resumed_run_ends_with_the_same_weights(loop: Loop, unbroken: Started, part: str) -> None:
    file = f"global_step_{STEPS}/actor/{part}_world_size_1_rank_0.pt"
    ours, theirs = (tensors(torch.load(run.directory / file, weights_only=False)) for run in (loop, unbroken))
    assert ours.keys() == theirs.keys()
    for name, tensor in ours.items():
        torch.testing.assert_close(tensor, theirs[name], rtol=1e-5, atol=1e-5, msg=name)


def test_the_resumed_run_is_the_same_run_and_finished(loop: Loop) -> None:
    assert loop.resumed.exit_code == 0, loop.resumed.output
    assert loop.stored.info.status == "FINISHED"
    assert loop.stored.info.run_id in loop.resumed.output


def test_resuming_a_finished_run_reports_it(loop: Loop) -> None:
    assert loop.again.exit_code == 0
    assert "finished already" in loop.again.output
    assert loop.stored.info.status == "FINISHED"


def test_every_step_is_in_mlflow_once(loop: Loop) -> None:
    assert sorted(loop.metric("reward/mean")) == list(range(1, STEPS + 1))
    sizes = loop.rows().groupby("step").size().to_dict()
    assert sizes == dict.fromkeys(range(1, STEPS + 1), PROMPTS * ROLLOUTS * SAMPLES)


def test_no_prompt_is_seen_twice_in_an_epoch(loop: Loop) -> None:
    rows = loop.rows()
    assert rows["problem_id"].nunique() == STEPS * PROMPTS
    assert (rows.groupby("problem_id")["step"].nunique() == 1).all()


def test_every_solution_and_verdict_is_kept(unbroken: Started) -> None:
    by_rollout = unbroken.rows().groupby(["step", "group", "rollout"])
    assert by_rollout.size().eq(SAMPLES).all()
    assert (by_rollout["sample"].apply(list).map(tuple) == tuple(range(SAMPLES))).all()
    assert (by_rollout["guideline"].nunique() == 1).all()
    assert (by_rollout["solution"].nunique() > 1).any(), "each has its own seed"


def test_verdicts_are_what_the_grader_says_of_the_stored_solutions(loop: Loop) -> None:
    rows = loop.rows()
    with GradingPool() as pool:
        futures = [pool.submit(gold, solution) for gold, solution in zip(rows["gold"], rows["solution"], strict=True)]
        verdicts = [future.result()["math_verify"] for future in futures]
    assert [float(verdict.correct) for verdict in verdicts] == rows["acc"].tolist()
    assert [verdict.reason for verdict in verdicts] == rows["reason"].tolist()


def test_a_reward_is_the_mean_verdict_of_a_guideline_that_gives_nothing_away(loop: Loop) -> None:
    rows = loop.rows()
    earned = rows["acc"].where(rows["guideline_leak"] == 0, 0.0)
    by_rollout = rows.assign(earned=earned).groupby(["step", "group", "rollout"])
    rewards = by_rollout["earned"].mean()
    assert (rewards == by_rollout["score"].first()).all()
    assert set(rewards) - {0.0, 1.0}, "a reward may be a part"
    assert loop.metric("reward/mean") == pytest.approx(rewards.groupby("step").mean().to_dict())


def test_both_variances_are_numpys(unbroken: Started) -> None:
    for step, metrics in unbroken.steps().items():
        rows = unbroken.step_rows(step)
        earned = rows["acc"].where(rows["guideline_leak"] == 0, 0.0)
        right = earned.to_numpy().reshape(PROMPTS, ROLLOUTS, SAMPLES)
        within = right.var(axis=2, ddof=1).mean()
        of_means = right.mean(axis=2).var(axis=1, ddof=1).mean()
        between = of_means - within / SAMPLES
        assert metrics["signal/within_guideline"] == pytest.approx(within)
        assert metrics["signal/between_guidelines"] == pytest.approx(between)
        assert metrics["signal/guideline_share"] == pytest.approx(between / of_means)
        assert metrics["critic/score/mean"] == pytest.approx(right.mean(), abs=1e-6)
        assert metrics["solver/asked"] + metrics["solver/cache_hits"] > 0
        assert within > 0


def test_group_advantages_are_grpos(loop: Loop) -> None:
    rows = loop.rows()
    assert rows["advantage"].abs().max() > 0.1
    for _, group in rows.groupby("group"):
        rollouts = group.groupby("rollout")[["score", "advantage"]].first()
        rewards = rollouts["score"].to_numpy()
        expected = (rewards - rewards.mean()) / (rewards.std(ddof=1) + 1e-6)
        np.testing.assert_allclose(rollouts["advantage"], expected, atol=1e-4)


def test_a_run_trains_on_problems_of_the_chosen_pass_rates_and_logs_what_guidelines_add(unbroken: Started) -> None:
    lines = (unbroken.directory.parent / "odd.jsonl").read_text().splitlines()
    known = {problem["problem"]: problem for problem in map(json.loads, lines)}
    for step, metrics in unbroken.steps().items():
        rows = unbroken.step_rows(step)
        low, high = PASS_RATES
        assert all(low <= known[question]["pass_rate"] <= high for question in rows["question"])
        assert [known[question]["baseline"] for question in rows["question"]] == rows["baseline"].tolist()
        assert metrics["reward/uplift"] == pytest.approx(rows["acc"].mean() - rows["baseline"].mean())
    validated = unbroken.step_rows(STEPS, "validation")
    uplift = validated["acc"].mean() - validated["baseline"].mean()
    assert unbroken.metric("validation/uplift") == {STEPS: pytest.approx(uplift)}


def test_validation_writes_one_solution(unbroken: Started) -> None:
    rows = unbroken.step_rows(STEPS, "validation")
    assert list(rows["sample"]) == [0] * 4
    assert set(rows.columns) == set(unbroken.step_rows(1).columns)
    assert rows["solver_sampling"].str.startswith("temperature 0, seed ").all()


def test_validation_writes_guidelines_of_its_own_length(unbroken: Started) -> None:
    for kind, longest in (("train", 16), ("validation", VALIDATION_TOKENS)):
        rows = unbroken.step_rows(STEPS, kind)
        assert rows["guideline_tokens"].max() == longest, kind
        assert (rows["guideline_truncated"] == (rows["guideline_tokens"] == longest)).all(), kind
    assert 0 < unbroken.metric("validation/guideline_truncated")[STEPS] <= 1


def test_the_rollout_engine_has_the_actors_weights(unbroken: Started) -> None:
    differences = unbroken.metric("training/rollout_probs_diff_max")
    assert sorted(differences) == list(range(1, STEPS + 1))
    assert max(differences.values()) < 1e-4


def test_the_checkpoint_holds_the_optimizers_whole_history(loop: Loop) -> None:
    folder = loop.directory / f"global_step_{STEPS}" / "actor"
    optimizer = torch.load(folder / "optim_world_size_1_rank_0.pt", weights_only=False)
    assert {int(state["step"]) for state in optimizer["state"].values()} == {STEPS}


def test_the_run_says_what_it_was(loop: Loop) -> None:
    run = loop.stored
    assert run.data.params["actor_rollout_ref/rollout/n"] == str(ROLLOUTS)
    assert run.data.tags["version.verl"] == "0.9.1"
    assert len(run.data.tags["mlflow.source.git.commit"]) in (4, 40)
    assert {entry.tags[0].value for entry in run.inputs.dataset_inputs} == {"training", "validation"}
    assert "1_outcome/validation_accuracy" in run.data.metrics


def test_the_reference_policy_reads_the_guidelines_while_the_solver_writes(loop: Loop, unbroken: Started) -> None:
    seconds = loop.metric(SECONDS)
    assert list(seconds) == list(range(1, STEPS + 1))
    assert max(seconds.values()) > 0
    assert SECONDS not in unbroken.metric_names()
    assert loop.metric("actor/kl_loss") == pytest.approx(unbroken.metric("actor/kl_loss"), rel=1e-5, abs=1e-9)


@pytest.mark.parametrize("which", ["loop", "unbroken"])
def test_no_secret_is_written_anywhere(which: str, request: pytest.FixtureRequest) -> None:
    run: Loop | Started = request.getfixturevalue(which)
    planted = [*SECRETS.values(), PASSWORD]
    recorded = json.dumps({**run.stored.data.params, **run.stored.data.tags})
    outputs = run.terminated.output + run.resumed.output if isinstance(run, Loop) else run.attempt.output
    assert [secret for secret in planted if secret in recorded + outputs] == []
    files = [path for path in run.directory.parent.rglob("*") if path.is_file() and path.suffix != ".pt"]
    names = {path.name for path in files}
    assert {"claim.json", "attempt-1.log", "config.yaml", "train_000001.parquet"} <= names
    leaks = [(path.name, secret) for path in files for secret in planted if secret.encode() in path.read_bytes()]
    assert leaks == []


def test_every_start_says_where_its_time_went_and_logs_it(loop: Loop) -> None:
    for attempt in (1, 2):
        entries = Journal(loop.directory / f"logs/attempt-{attempt}.jsonl").entries()
        logged = entries[0].metrics.items()
        stages = {name.removeprefix(METRIC): seconds for name, seconds in logged if name.startswith(METRIC)}
        total = stages.pop("total")
        assert set(stages) == set(STAGES)
        assert sum(stages.values()) == pytest.approx(total)
        assert stages["ray"] > 0.1
    assert "ready after" in loop.resumed.output
    assert {f"{METRIC}{stage}" for stage in (*STAGES, "total")} <= loop.metric_names()

"""What must hold of a run, checked on the one run that `conftest.py` makes."""

from __future__ import annotations

import json
import time

import numpy as np
import psutil
import pytest
import torch
from mlflow import MlflowClient

from guidelines_core.grading.pool import GradingPool
from guidelines_core.launch.processes import GRACE_S
from guidelines_core.runs.journal import STEP, Journal
from guidelines_core.runs.metric_names import recorded
from guidelines_core.runs.start import METRIC, STAGES
from tests.chaos.loop import CLOCKED
from tests.e2e.conftest import PROMPTS, ROLLOUTS, SECRETS, STEPS, Loop
from tests.support.postgres import PASSWORD

pytestmark = pytest.mark.e2e


def test_ctrl_c_ends_everything_soon_and_says_how_to_go_on(loop: Loop) -> None:
    assert loop.interrupted.exit_code == 130, loop.interrupted.output
    assert loop.interrupted.seconds_to_end < 15
    assert "--resume" in loop.interrupted.output
    assert loop.status_when_interrupted == "KILLED"


def test_no_process_of_the_run_is_left(loop: Loop) -> None:
    left = [p for p in psutil.process_iter(["cmdline"]) if str(loop.directory) in " ".join(p.info["cmdline"] or [])]
    assert left == []
    # The last start of run.py ends before its supervisor does.
    deadline = time.monotonic() + 2 * GRACE_S
    while (living := of_the_run(loop)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert living == []


def of_the_run(loop: Loop) -> list[list[str]]:
    """Return the command lines of the processes whose environment names the run's store."""
    processes = psutil.process_iter(["environ", "cmdline"])
    return [p.info["cmdline"] for p in processes if loop.uri in (p.info["environ"] or {}).values()]


def test_every_port_is_on_loopback(loop: Loop) -> None:
    assert loop.interrupted.listening
    assert loop.interrupted.listening <= {"127.0.0.1", "::1", "::ffff:127.0.0.1"}


def test_nothing_of_the_run_is_left_in_shared_memory(loop: Loop) -> None:
    assert loop.left_in_shared_memory == set()


def test_the_same_name_again_is_refused_with_the_ways_on(loop: Loop) -> None:
    assert loop.refused.exit_code == 2
    for word in ("KILLED", "--resume", "--new", "step 2"):
        assert word in loop.refused.output


def test_sigterm_saves_the_step_under_way(loop: Loop) -> None:
    assert loop.terminated.exit_code == 130, loop.terminated.output
    assert "stopped by SIGTERM, saved at step 3" in loop.terminated.output


def test_another_learning_rate_is_refused_on_a_resume(loop: Loop) -> None:
    assert loop.changed.exit_code == 2
    assert "actor_rollout_ref.actor.optim.lr=0.5: the run has 0.01" in loop.changed.output
    assert not (loop.directory / "logs/attempt-4.yaml").exists(), "a refused start is no attempt"


def test_another_concurrency_is_taken_and_recorded(loop: Loop) -> None:
    assert "max_concurrency: 512 -> 64" in loop.run.data.tags["guidelines.attempt.2"]
    assert "max_concurrency: 64 -> 512" in loop.run.data.tags["guidelines.attempt.3"]
    assert loop.run.data.params["guidelines/solver/max_concurrency"] == "512"
    assert {"config.yaml", "config-2.yaml", "config-3.yaml"} <= loop.artifacts()


def test_a_broken_checkpoint_is_set_aside_and_the_one_before_resumed(loop: Loop) -> None:
    assert "global_step_3 is not resumed from, actor/model_world_size_1_rank_0.pt" in loop.resumed.output
    assert "goes on from global_step_2" in loop.resumed.output
    journal = Journal(loop.directory / "logs/attempt-3.jsonl").entries()
    assert next(entry.step for entry in journal if STEP in entry.metrics) == 3
    assert (loop.directory / "global_step_3.broken").is_dir()
    assert (loop.directory / "latest_checkpointed_iteration.txt").read_text() == str(STEPS)


def test_the_resumed_run_went_as_if_it_had_never_been_broken(loop: Loop, unbroken: Loop) -> None:
    columns = ["step", "problem_id", "rollout", "guideline", "solution", "score"]
    ours, theirs = (run.rows("train").sort_values(columns[:3])[columns] for run in (loop, unbroken))
    assert ours.to_dict("list") == theirs.to_dict("list")
    names = [name for name in map(recorded, unbroken.run.data.metrics) if not CLOCKED.search(name)]
    assert {"actor/pg_loss", "actor/kl_loss", "actor/grad_norm"} <= set(names)
    for name in names:
        assert loop.metric(name) == pytest.approx(unbroken.metric(name), rel=1e-5, abs=1e-5), name
    assert min(unbroken.metric("actor/grad_norm").values()) > 1e-2
    assert max(unbroken.metric("critic/advantages/max").values()) > 0.1


@pytest.mark.parametrize("part", ["model", "optim"])
def test_the_resumed_run_ends_with_the_same_weights(loop: Loop, unbroken: Loop, part: str) -> None:
    file = f"global_step_{STEPS}/actor/{part}_world_size_1_rank_0.pt"
    ours, theirs = (tensors(torch.load(run.directory / file, weights_only=False)) for run in (loop, unbroken))
    assert ours.keys() == theirs.keys()
    for name, tensor in ours.items():
        torch.testing.assert_close(tensor, theirs[name], rtol=1e-5, atol=1e-5, msg=name)


def tensors(value: object, name: str = "") -> dict[str, torch.Tensor]:
    """Return every tensor of a nested state by its path."""
    if isinstance(value, torch.Tensor):
        return {name: getattr(value, "to_local", lambda: value)()}
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, (list, tuple)) else ()
    return {path: tensor for key, one in inner for path, tensor in tensors(one, f"{name}/{key}").items()}


def test_the_resumed_run_is_the_same_run_and_finished(loop: Loop) -> None:
    assert loop.resumed.exit_code == 0, loop.resumed.output
    assert loop.run.info.status == "FINISHED"
    assert loop.run.info.run_id in loop.resumed.output


def test_resuming_a_finished_run_reports_it(loop: Loop) -> None:
    assert loop.again.exit_code == 0
    assert "finished already" in loop.again.output
    assert loop.run.info.status == "FINISHED"


def test_every_step_is_in_mlflow_once(loop: Loop) -> None:
    assert sorted(loop.metric("reward/mean")) == list(range(1, STEPS + 1))
    rows = loop.rows("train")
    assert rows.groupby("step").size().to_dict() == dict.fromkeys(range(1, STEPS + 1), PROMPTS * ROLLOUTS)


def test_no_prompt_is_seen_twice_in_an_epoch(loop: Loop) -> None:
    rows = loop.rows("train")
    assert rows["problem_id"].nunique() == STEPS * PROMPTS
    assert (rows.groupby("problem_id")["step"].nunique() == 1).all()


def test_rewards_are_what_the_grader_says_of_the_stored_solutions(loop: Loop) -> None:
    rows = loop.rows("train")
    with GradingPool() as pool:
        futures = [pool.submit(gold, solution) for gold, solution in zip(rows["gold"], rows["solution"], strict=True)]
        verdicts = [future.result()["math_verify"] for future in futures]
    assert [float(verdict.correct) for verdict in verdicts] == rows["score"].tolist()
    assert [verdict.reason for verdict in verdicts] == rows["reason"].tolist()
    means = rows.groupby("step")["score"].mean()
    assert loop.metric("reward/mean") == pytest.approx(means.to_dict())


def test_some_groups_have_mixed_rewards(loop: Loop) -> None:
    rewards = loop.rows("train").groupby("group")["score"]
    assert (rewards.nunique() == 2).any()


def test_group_advantages_are_grpos(loop: Loop) -> None:
    rows = loop.rows("train")
    assert rows["advantage"].abs().max() > 0.1
    for _, group in rows.groupby("group"):
        rewards = group["score"].to_numpy()
        expected = (rewards - rewards.mean()) / (rewards.std(ddof=1) + 1e-6)
        np.testing.assert_allclose(group["advantage"], expected, atol=1e-4)


def test_the_rollout_engine_has_the_actors_weights(loop: Loop) -> None:
    differences = loop.metric("training/rollout_probs_diff_max")
    assert sorted(differences) == list(range(1, STEPS + 1))
    assert max(differences.values()) < 1e-4


def test_the_checkpoint_holds_the_optimizers_whole_history(loop: Loop) -> None:
    folder = loop.directory / f"global_step_{STEPS}" / "actor"
    optimizer = torch.load(folder / "optim_world_size_1_rank_0.pt", weights_only=False)
    assert {int(state["step"]) for state in optimizer["state"].values()} == {STEPS}


def test_the_run_says_what_it_was(loop: Loop) -> None:
    run = loop.run
    assert run.data.params["actor_rollout_ref/rollout/n"] == str(ROLLOUTS)
    assert run.data.tags["version.verl"] == "0.9.1"
    assert len(run.data.tags["mlflow.source.git.commit"]) in (4, 40)
    assert {entry.tags[0].value for entry in run.inputs.dataset_inputs} == {"training", "validation"}
    assert "1_outcome/validation_accuracy" in run.data.metrics


@pytest.mark.parametrize("which", ["loop", "unbroken"])
def test_no_secret_is_written_anywhere(which: str, request: pytest.FixtureRequest) -> None:
    loop: Loop = request.getfixturevalue(which)
    planted = [*SECRETS.values(), PASSWORD]
    run = MlflowClient(loop.uri).get_run(loop.run.info.run_id)
    recorded = json.dumps({**run.data.params, **run.data.tags})
    outputs = loop.interrupted.output + loop.resumed.output
    assert [secret for secret in planted if secret in recorded + outputs] == []
    files = [path for path in loop.directory.parent.rglob("*") if path.is_file() and path.suffix != ".pt"]
    names = {path.name for path in files}
    assert {"claim.json", "attempt-1.log", "config.yaml", "train_000001.parquet"} <= names
    leaks = [(path.name, secret) for path in files for secret in planted if secret.encode() in path.read_bytes()]
    assert leaks == []


def test_every_start_says_where_its_time_went_and_logs_it(loop: Loop) -> None:
    for attempt in (1, 2, 3):
        entries = Journal(loop.directory / f"logs/attempt-{attempt}.jsonl").entries()
        stages = {name.removeprefix(METRIC): seconds for name, seconds in entries[0].metrics.items()}
        total = stages.pop("total")
        assert set(stages) == set(STAGES)
        assert sum(stages.values()) == pytest.approx(total)
        assert stages["ray"] > 0.1
    assert "ready after" in loop.resumed.output
    assert {f"{METRIC}{stage}" for stage in (*STAGES, "total")} <= set(map(recorded, loop.run.data.metrics))

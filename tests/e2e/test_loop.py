"""What must hold of a run, checked on the one run that `conftest.py` makes."""

from __future__ import annotations

import json

import numpy as np
import psutil
import pytest
import torch
from conftest import PROMPTS, ROLLOUTS, STEPS, Loop

from guidelines_core.grading import GradingPool

pytestmark = pytest.mark.e2e


def test_ctrl_c_ends_everything_soon_and_says_how_to_go_on(loop: Loop) -> None:
    assert loop.interrupted.exit_code == 130, loop.interrupted.output
    assert loop.interrupted.seconds_to_end < 15
    assert "--resume" in loop.interrupted.output
    assert loop.status_when_interrupted == "KILLED"


def test_no_process_of_the_run_is_left(loop: Loop) -> None:
    left = [p for p in psutil.process_iter(["cmdline"]) if str(loop.directory) in " ".join(p.info["cmdline"] or [])]
    assert left == []
    ray = [p for p in psutil.process_iter(["environ"]) if loop.uri in (p.info["environ"] or {}).values()]
    assert ray == []


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
    journal = (loop.directory / "logs/attempt-3.jsonl").read_text().splitlines()
    assert json.loads(journal[0])["step"] == 4


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
    assert "validation/accuracy" in run.data.metrics

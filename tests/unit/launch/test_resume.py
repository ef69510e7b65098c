from __future__ import annotations

from pathlib import Path

import pytest
from omegaconf import DictConfig, OmegaConf

from experiments.run import parse_arguments, start
from guidelines_core.config.compose import changed, compose
from guidelines_core.launch.attempt import Launch, attempt_config
from guidelines_core.launch.resume import RENAMED, ResumeError, changes, finished, preview, requested_changes, resume
from guidelines_core.paths import ROOT
from guidelines_core.runs import inputs
from guidelines_core.runs.checkpoints import seal
from guidelines_core.runs.claim import claim
from guidelines_core.runs.claim_file import ClaimError
from guidelines_core.runs.provenance import parameters
from guidelines_core.runs.tracking import Run
from tests.support.problems import write_problems

NAME = "quickstart"


REFUSED = {
    "actor_rollout_ref.actor.optim.lr": ("1e-05", "0.001"),
    "trainer.total_training_steps": ("5", "9"),
    "data.train_batch_size": ("4", "8"),
    "actor_rollout_ref.rollout.n": ("4", "2"),
    "guidelines.solver.temperature": ("0.0", "0.5"),
    "guidelines.grader.name": ("math_verify", "exact_match"),
    "guidelines.data.seed": ("0", "1"),
    "algorithm.adv_estimator": ("grpo", "rloo"),
}
ALLOWED = {
    "guidelines.solver.max_concurrency": "3",
    "guidelines.solver.deadline_s": "3.0",
    "guidelines.solver.step_deadline_s": "30.0",
    "guidelines.solver.probe_s": "2.0",
    "guidelines.solver.probe_every_s": "2.0",
    "guidelines.solver.restart_within_s": "30.0",
    "guidelines.grader.workers": "1",
    "guidelines.stop_within_s": "1.0",
    "guidelines.checkpoints.keep_last": "2",
    "guidelines.environment.OMP_NUM_THREADS": "1",
    "trainer.save_freq": "2",
    "trainer.test_freq": "2",
    "actor_rollout_ref.actor.ppo_micro_batch_size_per_gpu": "2",
    "actor_rollout_ref.actor.fsdp_config.param_offload": "True",
    "actor_rollout_ref.rollout.max_num_seqs": "16",
    "actor_rollout_ref.rollout.gpu_memory_utilization": "0.3",
    "ray_kwargs.ray_init.num_cpus": "8",
}


def test_what_the_steps_were_made_with_may_not_change() -> None:
    wanted = compose(NAME, [f"{key}={new}" for key, (_, new) in REFUSED.items()])
    _, refused = changes(parameters(compose(NAME)), parameters(wanted))
    for key, (old, new) in REFUSED.items():
        (line,) = [line for line in refused if line.startswith(f"{key}=")]
        assert f"{key}={new}: the run has {old}, and " in line


def test_how_the_same_work_is_done_may_change() -> None:
    wanted = compose(NAME, [f"{key}={new}" for key, new in ALLOWED.items()])
    allowed, refused = changes(parameters(compose(NAME)), parameters(wanted))
    assert refused == []
    assert {line.split(":")[0] for line in allowed} >= ALLOWED.keys()


def test_a_solver_elsewhere_may_move_and_its_model_may_not_change() -> None:
    def at(*words: str) -> dict[str, str]:
        overrides = ["layout=cpu-train-only", *(f"guidelines.solver.{word}" for word in words)]
        return parameters(compose(NAME, overrides, environ={}))

    was = at("url=http://a:1/v1", "model=its")
    two = at("url=[http://b:2/v1,http://c:3/v1]", "model=its")
    for before, now in (
        (was, at("url=http://b:2/v1", "key_env=SOLVER_KEY", "model=its")),
        (two, at("url=[http://d:4/v1,http://e:5/v1]", "model=its")),
    ):
        allowed, refused = changes(before, now)
        assert refused == []
        assert len(allowed) == 2
    assert changes(was, two)[1] == changes(two, was)[1] == []
    _, refused = changes(was, at("url=http://a:1/v1", "model=another"))
    assert [line.split("=")[0] for line in refused] == ["guidelines.solver.model", "reward.reward_model.model_path"]


def test_a_key_that_only_one_version_knows_is_no_change() -> None:
    assert changes({"a": "1", "gone": "2"}, {"a": "1", "new": "3"}) == ([], [])


def test_a_run_with_the_reward_as_a_function_goes_on_with_the_reward_manager() -> None:
    now = parameters(compose(NAME))
    older = {
        "reward/custom_reward_function/path": "pkg://guidelines_core.reward",
        "reward/reward_manager/source": "register",
        "reward/reward_manager/name": "naive",
        "reward/reward_manager/module/path": "None",
    }
    assert changes({**now, **older}, now) == ([], [])
    _, refused = changes({**now, **older, "reward/custom_reward_function/path": "mine.py"}, now)
    assert len(refused) == 1


@pytest.mark.parametrize(("old", "new"), RENAMED.items())
def test_a_module_of_an_older_run_may_have_another_name_today(old: str, new: str) -> None:
    key = "actor_rollout_ref/model/external_lib"
    assert changes({key: old}, {key: new}) == ([], [])
    module = ROOT.joinpath(*new.split("."))
    assert module.with_suffix(".py").is_file() or module.parent.with_suffix(".py").is_file()


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DictConfig:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    return compose(NAME, [f"trainer.default_local_dir={tmp_path / 'run'}"])


def attempted(config: DictConfig) -> Run:
    """Claim a run that has made one attempt with checkpoints after steps 2 and 4."""
    run = claim(config, resume=False, new=False)
    (run.directory / "logs").mkdir()
    OmegaConf.save(config, run.directory / "logs/attempt-1.yaml")
    for step in (2, 4):
        folder = run.directory / f"global_step_{step}"
        folder.mkdir()
        (folder / "data.pt").write_bytes(b"data")
        seal(folder)
    return run


def test_verl_is_told_the_newest_whole_checkpoint(config: DictConfig) -> None:
    run = attempted(config)
    (run.directory / "global_step_4/data.pt").write_bytes(b"date")
    checkpoint, lines = resume(config, run)
    assert checkpoint == run.directory / "global_step_2"
    attempt = attempt_config(config, Launch(run.claim.run_name, run.directory, checkpoint))
    assert attempt.trainer.resume_mode == "resume_path"
    assert attempt.trainer.resume_from_path == str(run.directory / "global_step_2")
    assert len(lines) == 2
    assert "global_step_4 is not resumed from, data.pt" in lines[0]
    assert lines[1] == "goes on from global_step_2"


def test_a_refused_resume_leaves_the_checkpoints_alone(config: DictConfig) -> None:
    run = attempted(config)
    (run.directory / "global_step_4/data.pt").unlink()
    wanted = changed(config, {"actor_rollout_ref.actor.optim.lr": 1.0})
    with pytest.raises(ResumeError, match=r"optim\.lr=1\.0: the run has 1e-05, .*\n.*--new"):
        resume(wanted, run)
    assert (run.directory / "global_step_4").is_dir()


def test_a_first_start_is_no_resume(config: DictConfig) -> None:
    run = claim(config, resume=True, new=False)
    assert resume(config, run) == (None, [])
    assert attempt_config(config, Launch("name", run.directory)).trainer.resume_mode == "auto"


def test_a_run_that_recorded_its_agent_loop_too_early_goes_on() -> None:
    recorded = parameters(compose(NAME))
    older = recorded | {
        "actor_rollout_ref/rollout/agent/default_agent_loop": "single_turn_agent",
        "actor_rollout_ref/rollout/agent/agent_loop_config_path": "None",
        "transfer_queue/enable": "False",
    }
    assert older != recorded
    assert changes(older, recorded) == ([], [])
    key = "actor_rollout_ref/rollout/agent/default_agent_loop"
    assert changes(recorded | {key: "seeded_single_turn"}, recorded) == ([], []), "its name before"
    other = parameters(compose(NAME, ["guidelines.rollout_seed=null"]))
    assert [line.split("=")[0] for line in changes(recorded, other)[1]] == ["guidelines.rollout_seed"]
    assert [line.split("=")[0] for line in changes(recorded, recorded | {key: "another"})[1]] == [key.replace("/", ".")]


def test_other_content_of_the_data_is_refused_and_another_place_is_not(config: DictConfig, tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    for folder in (first, second):
        folder.mkdir()
        for split in ("train", "val"):
            write_problems(folder / f"{split}.parquet", split)
    for split in ("train", "val"):
        config = changed(config, {f"data.{split}_files": str(first / f"{split}.parquet")})
    config = changed(config, {"guidelines.data.source": "/here/rows.jsonl"})
    run = attempted(config)
    inputs.record(config, run.directory, 1)
    moved = changed(config, {f"data.{split}_files": str(second / f"{split}.parquet") for split in ("train", "val")})
    moved = changed(moved, {"guidelines.data.source": "/elsewhere/rows.jsonl"})
    _, lines = resume(moved, run)
    assert lines[-1] == "goes on from global_step_4"
    write_problems(second / "train.parquet", "other problems")
    with pytest.raises(ResumeError, match=rf"data\.train_files={second}.*sha256 .*{first}.* with .*(\n.*)*--new"):
        resume(moved, run)


def test_a_run_of_before_the_record_goes_on_with_the_same_problems_elsewhere(
    config: DictConfig, tmp_path: Path
) -> None:
    for split in ("train", "val"):
        write_problems(tmp_path / f"{split}.parquet", split)
        config = changed(config, {f"data.{split}_files": str(tmp_path / f"{split}.parquet")})
    run = attempted(config)
    now = config
    for split in ("train", "val"):
        write_problems(tmp_path / f"new-{split}.parquet", split, baseline=0.5)
        now = changed(now, {f"data.{split}_files": str(tmp_path / f"new-{split}.parquet")})
    _, lines = resume(now, run)
    assert lines[-1] == "goes on from global_step_4"


def test_what_a_finished_run_would_not_do_is_said(config: DictConfig) -> None:
    run = attempted(config)
    assert requested_changes(config, run) == ([], [])
    wanted = changed(config, {"trainer.save_freq": 2, "actor_rollout_ref.actor.optim.lr": 1.0})
    allowed, refused = requested_changes(wanted, run)
    assert allowed == ["trainer.save_freq: 5 -> 2"]
    assert refused[0].startswith("actor_rollout_ref.actor.optim.lr=1.0: the run has 1e-05")


def test_a_run_goes_on_in_a_repository_that_was_moved() -> None:
    now = parameters(compose(NAME))
    was = {key: value.replace(str(ROOT), "/elsewhere") for key, value in now.items()}
    inputs_of = ("data.train_files", "data.val_files", "actor_rollout_ref.model.path", "guidelines.solver.model")
    assert changes(was, now, inputs_of)[1] == []
    own = {"actor_rollout_ref/rollout/agent/agent_loop_config_path": "/elsewhere/loops.yaml"}
    (line,) = changes({**was, **own}, now, inputs_of)[1]
    assert "agent_loop_config_path" in line


def test_a_preview_says_what_a_start_would_refuse_and_changes_nothing(config: DictConfig) -> None:
    def lines(config: DictConfig, **flags: bool) -> tuple[list[str], list[str]]:
        return preview(config, **{"resume": False, "new": False, **flags})

    assert lines(config) == ([], [])
    run = attempted(config)
    run.client.set_terminated(run.claim.run_id, "FAILED")
    (line,) = lines(config)[0]
    assert "is in use by an active run" in line
    run.release()
    (line,) = lines(config)[0]
    assert "quickstart exists already" in line
    assert lines(config, new=True) == ([], [])
    assert lines(config, resume=True) == ([], [])
    (line,) = lines(config, resume=True, new=True)[0]
    assert "both together are for a run that MLflow has lost" in line
    wanted = changed(config, {"trainer.save_freq": 2, "actor_rollout_ref.actor.optim.lr": 1.0})
    refused, notes = lines(wanted, resume=True)
    assert refused[0].startswith("actor_rollout_ref.actor.optim.lr=1.0: the run has 1e-05")
    assert notes == ["changed: trainer.save_freq: 5 -> 2"]
    assert run.status == "FAILED"
    run.client.set_terminated(run.claim.run_id, "FINISHED")
    assert lines(wanted, resume=True) == ([], [finished(run)])


def test_problems_that_are_not_prepared_yet_are_no_change_in_a_preview(config: DictConfig, tmp_path: Path) -> None:
    run = attempted(config)
    run.client.set_terminated(run.claim.run_id, "FAILED")
    run.release()
    moved = changed(config, {"data.train_files": str(tmp_path / "not" / "there" / "train.parquet")})
    refused, notes = preview(moved, resume=True, new=False)
    assert refused == []
    assert notes == ["data.train_files: prepared when the run starts, and compared with the run's then"]


def test_a_start_beside_an_active_run_is_refused_before_preflight(
    config: DictConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = attempted(config)
    monkeypatch.setattr("experiments.run.PrelaunchedDriver", lambda *_, **__: pytest.fail("it was started"))
    for words in ([], ["--resume"]):
        place = f"trainer.default_local_dir={run.directory}"
        monkeypatch.setattr("sys.argv", ["run.py", "--name", NAME, *words, place])
        with pytest.raises(ClaimError, match=r"is in use by an active run"):
            start(parse_arguments())
    run.release()
    monkeypatch.setattr("sys.argv", ["run.py", "--name", NAME, place])
    with pytest.raises(ClaimError, match=r"quickstart exists already"):
        start(parse_arguments())

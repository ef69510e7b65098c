"""Five starts of the real loop on a tiny random model, which the end-to-end tests look at from many sides."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from mlflow import MlflowClient

from guidelines_core.runs.checkpoints import SEAL
from tests.support.postgres import Server, binaries
from tests.support.tiny_run import EXPERIMENT, IDLE, ONE_THREAD, Attempt, Run, done, flip_a_bit, segments, start, store

DUMPING = "tests.support.config_dump"
LOOP = ("guidelines.old_log_probs.agreement=0.01", "guidelines.reference_beside_solver=True")
LOSING_STEPS, LOSING_PROMPTS = 3, 6
LOSSES = (
    "reward.reward_manager.module.path=pkg://tests.support.losing_reward",
    "reward.reward_manager.name=LosingRewardManager",
    "guidelines.rollout_seed=null",
    "guidelines.solver.samples=1",
    f"data.train_batch_size={LOSING_PROMPTS}",
    f"actor_rollout_ref.actor.ppo_mini_batch_size={LOSING_PROMPTS}",
)
"""Rollouts without seed, one solution to a guideline, and a reward manager that loses some of them."""

SPLIT = ("layout=cpu-split-1p2p1", "trainer.v1.separate_async.num_warmup_batches=0")


@dataclass(frozen=True)
class Loop(Run):
    """A run that was asked to stop by SIGTERM in its third step, then resumed and finished.

    Its old log-probs are the rollout's, and its reference log-probs are computed while the solver writes. A second
    start and a resume with another learning rate were refused before its newest checkpoint was broken and it was
    resumed.
    """

    terminated: Attempt
    status_when_terminated: str
    refused: Attempt
    changed: Attempt
    resumed: Attempt
    again: Attempt
    left_in_shared_memory: set[str]


@dataclass(frozen=True)
class Started(Run):
    """A run of one start."""

    attempt: Attempt


@pytest.fixture(scope="session")
def loop(tmp_path_factory: pytest.TempPathFactory) -> Loop:
    folder = tmp_path_factory.mktemp("loop")
    run, before = Run(folder / "run", store(folder)), segments()
    terminated = start(folder, *LOOP, stop_when=lambda: done(run.directory, 2), stop_by=signal.SIGTERM)
    status = run.stored.info.status
    refused = start(folder, *LOOP, driver=IDLE)
    changed = start(folder, *LOOP, "--resume", "actor_rollout_ref.actor.optim.lr=0.5", driver=IDLE)
    flip_a_bit(run.directory / "global_step_3/actor/model_world_size_1_rank_0.pt")
    resumed = start(folder, *LOOP, "--resume", "guidelines.solver.max_concurrency=64")
    again = start(folder, *LOOP, "--resume", driver=IDLE)
    left = segments() - before
    return Loop(run.directory, run.uri, terminated, status, refused, changed, resumed, again, left)


@pytest.fixture(scope="session")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Started]:
    """The same run, never interrupted; recorded in PostgreSQL with a password, where there is one.

    Its trainer writes down the configuration that it gets.
    """
    folder = tmp_path_factory.mktemp("unbroken")
    programs = binaries()
    server = Server(programs) if programs else None
    uri = server.uri if server else store(folder)
    MlflowClient(uri).create_experiment(EXPERIMENT, artifact_location=(folder / "mlruns").as_uri())
    attempt = start(folder, uri=uri, driver=DUMPING)
    assert attempt.exit_code == 0, attempt.output
    yield Started(folder / "run", uri, attempt)
    if server:
        server.remove()


@pytest.fixture(scope="session")
def losing(tmp_path_factory: pytest.TempPathFactory) -> Started:
    """A run with three training processes that loses more rollouts in each step, and at last more than it may.

    Its directory is taken, its rollouts have no seed, and there is one solution to a guideline. Its trainer writes down
    the configuration that it gets.
    """
    folder = tmp_path_factory.mktemp("losing")
    (folder / "run").mkdir()
    attempt = start(
        folder,
        "--new",
        ONE_THREAD,
        "layout=cpu-hybrid-3p1",
        *LOSSES,
        f"guidelines.data.size={LOSING_STEPS * LOSING_PROMPTS}",
        f"trainer.total_training_steps={LOSING_STEPS}",
        "trainer.save_freq=4",
        "trainer.test_freq=-1",
        driver=DUMPING,
    )
    return Started(folder / "run-2", store(folder), attempt)


@pytest.fixture(scope="session")
def split(tmp_path_factory: pytest.TempPathFactory) -> Started:
    """The run of `unbroken` on three processes, one of them for rollouts alone, interrupted after its second step."""
    folder = tmp_path_factory.mktemp("split")
    sealed = folder / "run/global_step_2" / SEAL
    return Started(folder / "run", store(folder), start(folder, *SPLIT, stop_when=sealed.exists))

"""Six starts of the real loop on a tiny random model, which the end-to-end tests look at from many sides."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from xdist.scheduler import LoadFileScheduling

from guidelines_core.launch.shared_memory import Segment, present
from guidelines_core.runs.checkpoints import SEAL
from tests.support.postgres import Server, binaries
from tests.support.tiny_run import (
    EXPERIMENT,
    IDLE,
    ONCE,
    STEPS,
    Attempt,
    Run,
    done,
    flip_a_bit,
    left_since,
    start,
    store,
)
from tests.support.vllm_server import vllm_server

DUMPING = "tests.support.config_dump"
HELD = "tests.support.held_driver"
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

LONG_STEPS = 5 * STEPS
LONG = (f"trainer.total_training_steps={LONG_STEPS}", "trainer.total_epochs=5")
"""For a run that is interrupted: more steps than `unbroken` has, so that no interruption comes too late."""

SPLIT = ("layout=cpu-split-1p2p1", "trainer.v1.separate_async.num_warmup_batches=0", *LONG)
ADAPTERS = (
    "actor_rollout_ref.model.lora_rank=4",
    "actor_rollout_ref.model.lora_alpha=16",
    "actor_rollout_ref.model.lora.merge=True",
    "actor_rollout_ref.actor.optim.lr=0.05",
)
SOLVER_KEY = "planted-solver-key-51c0"
SOLVER_STEPS = 2
"""The steps with the solver that is elsewhere."""

ONE_WORKER = (
    ("test_export", "test_layouts", "test_lift_loop", "test_loop", "test_recorded_config"),
    ("test_lora", "test_solver_elsewhere"),
)
"""Files that share runs."""


class ByRun(LoadFileScheduling):
    """Gives the tests of a file, and of files that share runs, to one worker."""

    def _split_scope(self, nodeid: str) -> str:
        file = Path(super()._split_scope(nodeid)).stem
        return next((" ".join(files) for files in ONE_WORKER if file in files), file)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadFileScheduling:
    """Return the scheduler of the end-to-end tests; xdist's groups by mark need another pytest than 9.2."""
    return ByRun(config, log)


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
    left_in_shared_memory: set[Segment]


@dataclass(frozen=True)
class Started(Run):
    """A run of one start."""

    attempt: Attempt


@dataclass(frozen=True)
class Elsewhere(Started):
    """A run of one start whose solver is a server at `url`."""

    url: str


@pytest.fixture(scope="session")
def loop(tmp_path_factory: pytest.TempPathFactory) -> Loop:
    folder = tmp_path_factory.mktemp("loop")
    run, before = Run(folder / "run", store(folder)), present()
    terminated = start(folder, *LOOP, driver=HELD, stop_when=lambda: done(run.directory, 2), stop_by=signal.SIGTERM)
    status = run.stored.info.status
    refused = start(folder, *LOOP, driver=IDLE)
    changed = start(folder, *LOOP, "--resume", "actor_rollout_ref.actor.optim.lr=0.5", driver=IDLE)
    flip_a_bit(run.directory / "global_step_3/actor/model_world_size_1_rank_0.pt")
    resumed = start(folder, *LOOP, "--resume", "guidelines.solver.max_concurrency=64")
    again = start(folder, *LOOP, "--resume", driver=IDLE)
    left = left_since(before)
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
    return Started(folder / "run", store(folder), start(folder, *SPLIT, driver=ONCE, stop_when=sealed.exists))


@pytest.fixture(scope="session")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Elsewhere]:
    """A run that trains LoRA adapters; somebody else's vLLM server, with a key, is its solver until its third step."""
    folder = tmp_path_factory.mktemp("elsewhere")
    with vllm_server(folder, SOLVER_KEY) as server, pytest.MonkeyPatch.context() as patch:
        patch.setenv("SOLVER_KEY", SOLVER_KEY)

        def killed_after_its_steps() -> bool:
            if done(folder / "run", SOLVER_STEPS):
                server.kill()
            return False

        attempt = start(
            folder,
            *ADAPTERS,
            *LONG,
            "layout=cpu-train-only",
            f"guidelines.solver.url={server.url}",
            f"guidelines.solver.model={server.model}",
            "guidelines.solver.key_env=SOLVER_KEY",
            "guidelines.solver.restart_within_s=4",
            f"trainer.save_freq={LONG_STEPS}",
            "trainer.test_freq=-1",
            driver=ONCE,
            stop_when=killed_after_its_steps,
        )
        yield Elsewhere(folder / "run", store(folder), attempt, server.url)

"""verl's trainer with its records: every graded rollout, the reward's metrics, and sealed checkpoints.

The records go to the run's directory. `runs/mlflow_sync.py` copies them into MLflow from another process, so no step
waits for a store.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from tensordict import NonTensorStack
from verl.trainer.ppo.v1 import get_trainer_cls
from verl.trainer.ppo.v1.trainer_base import PPOTrainer

from guidelines_core.config import layout
from guidelines_core.runs import checkpoints
from guidelines_core.runs.alarms import ROOM
from guidelines_core.runs.cost import Meter
from guidelines_core.solver.url_watch import UrlWatch
from guidelines_core.solver.watch import SolverLostError, SolverWatch, Watch
from guidelines_core.verl_adapter import colocated
from guidelines_core.verl_adapter.early_reference import EarlyReference
from guidelines_core.verl_adapter.early_servers import EarlyServers
from guidelines_core.verl_adapter.graded_rows import GradedRows
from guidelines_core.verl_adapter.liveness import Liveness, ProcessDiedError
from guidelines_core.verl_adapter.lost_rollouts import LostRollouts, TooManyLostError
from guidelines_core.verl_adapter.old_log_probs import OldLogProbs
from guidelines_core.verl_adapter.step_log import LogThenSave, stop_rules
from guidelines_core.verl_adapter.tensors_alone import TensorsAlone


def recorded_trainer(mode: str) -> type[PPOTrainer]:
    """Return verl's trainer for `trainer.v1.trainer_mode` with our records."""
    cls = get_trainer_cls(mode)
    return type(
        f"Recorded{cls.__name__}",
        (Recording, EarlyServers, TensorsAlone, OldLogProbs, LostRollouts, EarlyReference, cls),
        {},
    )


class Recording(GradedRows):
    """Mixed into any of verl's V1 trainers: overrides the methods that verl calls at fixed points of a step."""

    meter: Meter
    _due = False
    _gathering = False

    def _compute_reward_colocate(self, batch: Any, metrics: dict[str, Any] | None = None) -> Any:
        """Grade a batch with the solver on the training GPUs, with the problems that verl leaves out."""
        manager = self.reward_loop_manager  # type: ignore[has-type]
        self.reward_loop_manager = with_problems = colocated.WithProblems(manager, batch)
        try:
            graded = super()._compute_reward_colocate(batch, metrics)  # type: ignore[misc]
        finally:
            self.reward_loop_manager = manager
        return colocated.keep(graded, with_problems.rows, self._first_failure)

    def _build_replay_buffer(self) -> Any:
        """Build verl's replay buffer, polled ten times a second; a poll fails if an actor died or the solver is lost.

        verl's interval of 2 s (`replay_buffer.py`) has no key and lengthens every short step. A poll also gives the
        reference policy its early turn.
        """
        buffer = super()._build_replay_buffer()  # type: ignore[misc]
        buffer.poll_interval = 0.1
        wait = buffer._wait_for_next_poll

        def look_and_wait(*args: Any) -> Any:
            self._living.check()
            if self._watch is not None:
                self._watch.check()
            if self._gathering:
                self._reference_while_waiting()  # type: ignore[attr-defined]
            return wait(*args)

        buffer._wait_for_next_poll = look_and_wait
        return buffer

    def fit(self, agent_loop_manager: Any) -> None:
        """Train to the last step; an error while rollouts are gathered saves the last step's weights first.

        Raises:
            NoVerdictError: no rollout of a step got a reward.
            SolverLostError: the solver is gone.
            TooManyLostError: too many rollouts of a step got none.
        """
        self._watch = self._watch_of_solver()
        if self._watch is not None:
            self._watch.start()
        self.agent_loop_manager = agent_loop_manager
        self._living = self._liveness()
        try:
            super().fit(agent_loop_manager)  # type: ignore[misc]
        except Exception as error:
            if self._gathering:
                self._save_last_step(sleep=not isinstance(error, ProcessDiedError))
            elif isinstance(error, TooManyLostError):
                self._save_last_step(sleep=False)
            if isinstance(error, RuntimeError) and "no materializable trajectories" in str(error):
                first = self._first_failure()
                counts = ", ".join(f"{name} {count:.0f}" for name, count in self._reward_counts().items() if count)
                raise NoVerdictError(f"step {self.global_steps}: no rollout got a reward: {counts}; {first}") from error  # type: ignore[attr-defined]
            raise
        finally:
            if self._watch is not None:
                self._watch.stop()

    def _watch_of_solver(self) -> Watch | None:
        """Return the watch of the solver; one that shares the training GPUs sleeps most of the time and has none."""
        config: Any = self.config  # type: ignore[attr-defined]
        if layout.solver_in_turns(config):
            return None
        loop: Any = self.reward_loop_manager
        if layout.solver_elsewhere(config):
            return UrlWatch(layout.solver_urls(config), loop.relocate, config.guidelines.solver)
        return SolverWatch(loop.reward_model_manager, loop.relocate, config.guidelines.solver)

    def on_init_end(self) -> None:
        """Send the first weights to the rollout servers."""
        self._rolling = Liveness(("rollout server", server) for server in self._rollout_servers())
        self._rolling.during(super().on_init_end)  # type: ignore[misc]

    def on_step_end(self) -> None:
        """Send a step's weights to the rollout servers."""
        self._rolling.during(super().on_step_end)  # type: ignore[misc]

    def on_sample_begin(self) -> None:
        """Note that the weights are those of the last step while rollouts are gathered."""
        self._gathering = True
        super().on_sample_begin()  # type: ignore[misc]

    def on_sample_end(self) -> None:
        """Note that the step is about to change the weights."""
        self._gathering = False
        super().on_sample_end()  # type: ignore[misc]

    def _validate(self) -> dict[str, Any]:
        """Validate; if the solver is lost, record and save the step without validation, then end the run."""
        try:
            metrics: dict[str, Any] = super()._validate()  # type: ignore[misc]
        except (SolverLostError, TooManyLostError) as error:
            if not isinstance(self.logger, LogThenSave):  # type: ignore[has-type]
                raise
            self.logger.end_with(error)
            return {}
        return metrics

    def _get_n_gpus_for_throughput(self) -> int:
        """Return the run's GPUs, by which verl divides its tokens a second; it would count shared ones twice."""
        return layout.gpus_needed(self.config)  # type: ignore[attr-defined]

    def _rollout_servers(self) -> list[Any]:
        """Return Ray's handles of the planner's rollout servers."""
        managers = self._rollout_server_managers()  # type: ignore[attr-defined]
        return [handle for manager in managers for handle in manager.server_handles]

    def _liveness(self) -> Liveness:
        """Return the liveness check of all actors; a restartable solver has its own watch."""
        rewards: Any = self.reward_loop_manager
        actors = {
            "agent loop worker": self.agent_loop_manager.agent_loop_workers,
            "rollout server": self._rollout_servers(),
            "reward worker": rewards.reward_loop_workers,
            "solver's server": [] if self._watch else rewards.reward_model_manager.server_handles,
        }
        return Liveness((name, handle) for name, handles in actors.items() for handle in handles)

    def _fetch_one_gen_batch(self) -> Any:
        """Prefix verl's random group names with the problems' order."""
        batch = super()._fetch_one_gen_batch()  # type: ignore[misc]
        first = getattr(self, "_groups", 0)
        self._groups = first + len(batch)
        names = [f"{number:09d}-{name}" for number, name in enumerate(batch["uid"], start=first)]
        batch["uid"] = NonTensorStack(*names)
        return batch

    def _balance_batch(self, batch: Any, *args: Any, **kwargs: Any) -> Any:
        """Sort the rollouts by problem before verl distributes them.

        They arrive in the order in which they finish, which differs between runs, and gradients depend on the order.
        """
        batch.reorder(sorted(range(len(batch.keys)), key=lambda place: batch.keys[place]))
        return super()._balance_batch(batch, *args, **kwargs)  # type: ignore[misc]

    def on_validate_begin(self) -> None:
        """Check that the run is tracked: the first validation comes before `on_train_begin`."""
        self._require_journal()
        super().on_validate_begin()  # type: ignore[misc]

    def on_train_begin(self) -> None:
        """Check that the run is tracked, and wrap verl's logger."""
        self._require_journal()
        self.logger = LogThenSave(  # type: ignore[has-type]
            self.logger,  # type: ignore[has-type]
            self._save_due,
            self.total_training_steps,  # type: ignore[attr-defined]
            self.meter,
            stop_rules(self.config),  # type: ignore[attr-defined]
        )
        self.meter.step_begins(time.time())
        super().on_train_begin()  # type: ignore[misc]

    def _save_checkpoint(self) -> None:
        """Postpone the checkpoint until the step is recorded.

        verl saves first (`trainer_base.py`): a run that ends in between would resume after a step without a record.
        """
        self._due = True

    def _save_due(self, at_once: bool) -> dict[str, float]:
        """Write the postponed checkpoint, or one in any case if `at_once`; return its metrics."""
        self._data_read = self.train_dataloader.state_dict()  # type: ignore[attr-defined]
        if not self._due and not at_once:
            return {}
        self._due = False
        began = time.monotonic()
        room = self._write_checkpoint()
        return {"timing_s/save_checkpoint": time.monotonic() - began, **room}

    def _write_checkpoint(self) -> dict[str, float]:
        """Write and seal this step's checkpoint, delete superfluous ones, and return how many more fit on the disk."""
        directory, step = Path(self.config.trainer.default_local_dir), self.global_steps  # type: ignore[attr-defined]
        folder = directory / f"global_step_{step}"
        checkpoints.unseal(folder)
        super()._save_checkpoint()  # type: ignore[misc]
        validated, accuracy = getattr(self, "_validated", (None, None))
        checkpoints.seal(folder, accuracy if validated == step else None)
        kept = self.config.guidelines.checkpoints  # type: ignore[attr-defined]
        checkpoints.prune(directory, kept.keep_last, kept.keep_best)
        return {ROOM: checkpoints.room(folder)}

    def _save_last_step(self, sleep: bool) -> None:
        """Save the step before this one, whose weights are still loaded, with the data loader's state after it.

        With `sleep` the rollout engine is put to sleep first, as verl does after a step's rollouts.
        """
        self.global_steps: int = self.global_steps - 1
        if checkpoints.last_checkpoint(Path(self.config.trainer.default_local_dir)) < self.global_steps:  # type: ignore[attr-defined]
            if sleep:
                # Frees the memory of a rollout engine on the training GPUs.
                super().on_sample_end()  # type: ignore[misc]
            self.train_dataloader.state_dict = lambda: self._data_read  # type: ignore[attr-defined]
            self._write_checkpoint()
        self.global_steps += 1

    def _require_journal(self) -> None:
        """Raise if verl writes no journal, from which all records are made."""
        if "file" not in self.logger.logger:  # type: ignore[attr-defined]
            raise RuntimeError("trainer.logger lacks file: no run trains untracked; give [console,file]")


class NoVerdictError(RuntimeError):
    """No rollout of a step got a reward."""

"""Decides whether a run may resume with a changed configuration, and from which checkpoint."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from fnmatch import fnmatch
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from guidelines_core.launch import processes
from guidelines_core.launch.attempt import Launch, attempt_config
from guidelines_core.paths import ROOT
from guidelines_core.runs import inputs
from guidelines_core.runs.checkpoints import choose
from guidelines_core.runs.claim import existing
from guidelines_core.runs.claim_file import ClaimError
from guidelines_core.runs.provenance import parameters
from guidelines_core.runs.tracking import Run

MAY_CHANGE = (
    # What is logged and kept, and how long the run waits.
    "guidelines/description",
    "guidelines/alarms/*",
    "guidelines/checkpoints/*",
    "guidelines/traces/*",
    "guidelines/cost/*",
    "guidelines/max_lost_share",
    "guidelines/start/*",
    "guidelines/stop_within_s",
    "trainer/save_freq",
    "trainer/test_freq",
    "trainer/val_before_train",
    "trainer/logger/*",
    "trainer/resume_*",
    "*/profiler/*",
    "global_profiler/*",
    # Speed and memory of the same computation.
    "guidelines/environment/*",
    "guidelines/fork_processes",
    "guidelines/solver/max_concurrency",
    "guidelines/solver/deadline_s",
    "guidelines/solver/step_deadline_s",
    "guidelines/solver/probe*",
    "guidelines/solver/restart_within_s",
    "guidelines/solver/url*",
    "guidelines/solver/key_env",
    "guidelines/grader/deadline_s",
    "guidelines/grader/workers",
    "guidelines/grader/memory_mb",
    "reward/num_workers",
    "*/agent/num_workers",
    "*_micro_batch_size*",
    "*max_token_len_per_gpu",
    "*/use_dynamic_bsz",
    "*/gpu_memory_utilization",
    "*/max_num_seqs",
    "*/cudagraph_capture_sizes*",
    "*/max_num_batched_tokens",
    "*_offload",
    "*/enable_gradient_checkpointing",
    "*/engine_kwargs/*",
    "ray_kwargs/*",
    "transfer_queue/*",
)
"""The keys that a resumed run may change, as patterns of their paths; the results of its steps depend on all others."""

REFUSAL_REASONS = {
    "*/optim/*": "the checkpoint's optimizer and schedule would silently override it",
    "trainer/total_training_steps": "the learning rate's schedule was computed for the old number",
    "data/*batch_size": "the checkpoint's position in the data was counted in the old batches",
}
"""Why a change of a key is refused, by patterns of keys."""

RENAMED = {
    "guidelines_core.gpu": "guidelines_core.verl_adapter.cuda_engine",
    "guidelines_core.verl_adapter.engine_gpu": "guidelines_core.verl_adapter.cuda_engine",
    "guidelines_core.cpu.engine": "guidelines_core.verl_adapter.cpu.engine",
    "guidelines_core.cpu.checkpoint_engine": "guidelines_core.verl_adapter.cpu.checkpoint_engine",
    "guidelines_core.cpu.vllm_worker.CPUWorkerExtension": (
        "guidelines_core.verl_adapter.cpu.vllm_worker.CPUWorkerExtension"
    ),
}
"""Values in older runs' configurations that name a moved module, with the module's present name."""

REPLACED = {
    "reward/custom_reward_function/path": {"pkg://guidelines_core.reward": "None"},
    "reward/reward_manager/source": {"register": "importlib"},
    "reward/reward_manager/name": {"naive": "GuidelineRewardManager"},
    "reward/reward_manager/module/path": {"None": "pkg://guidelines_core.verl_adapter.reward_manager"},
    "actor_rollout_ref/rollout/agent/default_agent_loop": {"seeded_single_turn": "guideline"},
}
"""By key, values in older runs' configurations, and the present value that has the same effect."""

RECORDED_BEFORE_SET = {
    "actor_rollout_ref/rollout/agent/default_agent_loop": "single_turn_agent",
    "actor_rollout_ref/rollout/agent/agent_loop_config_path": "None",
    "transfer_queue/enable": "False",
}
"""By key, values in older runs' recorded configurations that the run replaced, or that have the present effect."""


FILES = ("data.train_files", "data.val_files")
"""The keys of the problems' files, which are prepared when a run starts."""


class ResumeError(RuntimeError):
    """A run cannot go on with this configuration; the message names every key with both values."""


def changes(
    recorded: Mapping[str, str], wanted: Mapping[str, str], same: Collection[str] = ()
) -> tuple[list[str], list[str]]:
    """Return the allowed and the refused changes from `recorded` to `wanted`, a line with both values for each.

    A key that only one of the two has was added or removed by a version of the project and is ignored. `same` are
    dotted keys of files and models with the same content: a new path for them is ignored too.
    """
    moved = {(recorded.get(path, ""), wanted.get(path, "")) for path in (key.replace(".", "/") for key in same)}
    moved = {(old, new) for old, new in moved if old.startswith("/") and new.startswith("/")}
    if "data.train_files" in same and "data.val_files" in same:
        moved |= {
            (recorded[key], wanted[key])
            for key in recorded.keys() & wanted.keys()
            if fnmatch(key, "guidelines/data/source") or fnmatch(key, "guidelines/data/exclude/*")
        }
    allowed, refused = [], []
    for key in sorted(recorded.keys() & wanted.keys()):
        if key == "trainer/default_local_dir" or (recorded[key], wanted[key]) in moved:
            continue
        if RECORDED_BEFORE_SET.get(key) == recorded[key] or _same_code(recorded[key], wanted[key]):
            continue
        if wanted[key] in (recorded[key], RENAMED.get(recorded[key]), REPLACED.get(key, {}).get(recorded[key])):
            continue
        dotted = key.replace("/", ".")
        if any(fnmatch(key, pattern) for pattern in MAY_CHANGE):
            allowed.append(f"{dotted}: {recorded[key]} -> {wanted[key]}")
        else:
            why = next(
                (why for pattern, why in REFUSAL_REASONS.items() if fnmatch(key, pattern)),
                "the results of its steps depend on it",
            )
            refused.append(f"{dotted}={wanted[key]}: the run has {recorded[key]}, and {why}")
    return allowed, refused


def _same_code(was: str, now: str) -> bool:
    """Return whether two paths name the same file of this project, which was moved in between."""
    own = now.removeprefix(f"{ROOT}/")
    return own != now and own.startswith("guidelines_core/") and was.endswith(f"/{own}")


def requested_changes(config: DictConfig, run: Run) -> tuple[list[str], list[str]]:
    """Return the changes from the run's last attempt to `config`: the allowed and the refused ones, a line each."""
    attempts = sorted((run.directory / "logs").glob("attempt-*.yaml"), key=lambda path: path.stat().st_mtime)
    if not attempts:
        return [], []
    recorded = OmegaConf.load(attempts[-1])
    assert isinstance(recorded, DictConfig)
    # An older run has no record of its inputs: they are hashed where they still exist.
    was, now = inputs.recorded(run.directory) or inputs.digests(recorded), inputs.digests(config)
    others = inputs.changed(was, now)
    wanted = attempt_config(config, Launch(run.claim.run_name, run.directory))
    allowed, refused = changes(parameters(recorded), parameters(wanted), now.keys() & was.keys() - set(others))
    refused += [
        f"{key}={OmegaConf.select(config, key)}: its content has sha256 {now[key][:12]}; the run's steps used "
        f"{OmegaConf.select(recorded, key)} with {was[key][:12]}"
        for key in others
    ]
    return allowed, refused


def resume(config: DictConfig, run: Run) -> tuple[Path | None, list[str]]:
    """Choose the run's newest complete checkpoint and remove the leftovers of its last attempt.

    Returns:
        The checkpoint, None to start from the first step; and notes for the user: leftovers that were removed, broken
        checkpoints that were set aside, changed keys, and the step to resume from.

    Raises:
        ResumeError: a key that may not change, or the content of a file or model, differs from the run's.
    """
    if not any((run.directory / "logs").glob("attempt-*.yaml")):
        return None, []
    allowed, refused = requested_changes(config, run)
    if refused:
        raise ResumeError("\n".join(refused) + "\nUse the run's value, or start a new run with the new value: --new.")
    cleared = clear(run)
    checkpoint, lines = choose(run.directory)
    if checkpoint is None:
        where = ["no complete checkpoint: the run starts again from its first step"]
    else:
        where = [f"goes on from {checkpoint.name}"]
    return checkpoint, [*cleared, *lines, *(f"changed: {line}" for line in allowed), *where]


def preview(config: DictConfig, *, resume: bool, new: bool) -> tuple[list[str], list[str]]:
    """Return why a start with `config` would not take or continue the run in its directory, and notes for the user.

    Nothing is changed. Of a finished run, which `--resume` leaves as it is, there are only notes.
    """
    try:
        run = existing(config, resume=resume, new=new)
    except ClaimError as error:
        return [str(error)], []
    if run is None:
        return [], []
    try:
        if run.status == "FINISHED":
            return [], [finished(run)]
        allowed, refused = requested_changes(config, run)
        unprepared = [key for key in FILES if not Path(OmegaConf.select(config, key)).is_file()]
        later = [key for key in unprepared if any(line.startswith(f"{key}=") for line in refused)]
        return (
            [line for line in refused if line.partition("=")[0] not in later],
            [
                *(f"changed: {line}" for line in allowed),
                *(f"{key}: prepared when the run starts, and compared with the run's then" for key in later),
            ],
        )
    finally:
        run.release()


def finished(run: Run) -> str:
    """Return what `--resume` says of a finished run."""
    return f"{run.claim.run_name} is finished already (MLflow run {run.claim.run_id}); --new starts another."


def clear(run: Run) -> list[str]:
    """End the processes and remove the shared memory of the run's dead attempts; return a line if there were any."""
    ended, segments = processes.clear(processes.attempt_folders(run.directory))
    if not ended and not segments:
        return []
    return [f"cleared what the last attempt left: {ended} processes, {segments} segments of shared memory"]

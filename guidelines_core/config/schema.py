"""The section `guidelines` of a configuration, for settings that verl has no key for: types and defaults.

`ranges.py` has the values that each key accepts.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from omegaconf import MISSING


@dataclass
class ColumnsConfig:
    """The names of a source's columns; None stands for this project's names.

    Attributes:
        problem: in place of `problem` or `question`.
        answer: in place of `answer`.
    """

    problem: str | None = None
    answer: str | None = None


@dataclass
class DataConfig:
    """The problems of a run.

    Attributes:
        source: `word-problems`, a JSONL or parquet file, or a data set's hub id, with `:configuration` where it has
            several.
        size: the largest number of training problems.
        val_size: the largest number of held-out problems.
        seed: seed for the choice and the order of the problems.
        exclude: files of benchmarks whose problems are dropped.
        pass_rate: the lowest and the highest share of correct solutions without a guideline that a training problem may
            have, as written by `python -m guidelines_core.data.pass_rate`; None accepts all problems.
        columns: the names of the source's columns.
    """

    source: str = MISSING
    size: int = 30000
    val_size: int = 500
    seed: int = 0
    exclude: list[str] = field(default_factory=list)
    pass_rate: list[float] | None = None
    columns: ColumnsConfig = field(default_factory=ColumnsConfig)


@dataclass
class PlannerConfig:
    """The planner, as far as verl has no key for it.

    Attributes:
        val_max_tokens: longest guideline in validation; `data.max_response_length` unless given.
    """

    val_max_tokens: int = MISSING


@dataclass
class SolverConfig:
    """The frozen solver and its requests.

    Attributes:
        model: folder or hub id, with `url` the model's name at the servers; overridden by the environment's
            `VERL_GUIDELINES_SOLVER_MODEL`.
        url: URL of an OpenAI-compatible server that runs elsewhere, such as http://host:8000/v1, or a list of several
            with the same model; None if the run starts its own servers.
        key_env: the name of the environment variable with the key of the servers at `url`; None sends no key.
        max_tokens: longest solution, in tokens.
        samples: solutions to each guideline in training; the reward is the share of correct ones.
        temperature: sampling temperature in training; 0 is greedy.
        val_max_tokens: longest solution in validation; `max_tokens` unless given.
        val_samples: solutions to each guideline in validation.
        val_temperature: sampling temperature in validation.
        seed: combined with a request's text, the seed of its sampling; None uses vLLM's state. That is faster on a GPU,
            where vLLM samples seeded requests one after the other (`v1/sample/ops/topk_topp_sampler.py`).
        max_concurrency: requests in flight, each for `samples` solutions.
        deadline_s: seconds for one request from when it is sent, retries included.
        step_deadline_s: seconds for a request from when it is asked, its wait for a place in flight included.
        probe_every_s: seconds between two probes of the solver, each a generation of one token.
        probe_s: seconds for a probe, after which the solver's server is restarted, or left out if it is elsewhere.
        restart_within_s: seconds for a restart, or until a server elsewhere answers again, after which the run saves
            and fails.
        ignore_eos: always generate `max_tokens`, for measurements with fixed lengths.
    """

    model: str = MISSING
    url: Any = None
    key_env: str | None = None
    max_tokens: int = MISSING
    samples: int = 1
    temperature: float = 0.0
    val_max_tokens: int = MISSING
    val_samples: int = 1
    val_temperature: float = 0.0
    seed: int | None = 0
    max_concurrency: int = 512
    deadline_s: float = 900.0
    step_deadline_s: float = 3600.0
    probe_every_s: float = 10.0
    probe_s: float = 60.0
    restart_within_s: float = 600.0
    ignore_eos: bool = False


@dataclass
class GraderConfig:
    """The grader of the solutions.

    Attributes:
        name: one of `verdicts.GRADERS`; overridden by the environment's `VERL_GUIDELINES_USE_MATH_VERIFY`.
        deadline_s: seconds for one pair, after which its process is killed.
        workers: grading processes.
        memory_mb: memory limit of a grading process, in MiB.
        leak: one of `leak.POLICIES`: the reward of a guideline that contains the gold answer.
    """

    name: str = "math_verify"
    deadline_s: float = 5.0
    workers: int = 2
    memory_mb: int = 1024
    leak: str = "flag"


@dataclass
class PromptsConfig:
    """The prompts of planner and solver.

    Attributes:
        style: one of `prompts.STYLES`.
    """

    style: str = "instruct"


@dataclass
class CheckpointsConfig:
    """Which checkpoints are kept.

    Attributes:
        keep_last: number of the newest checkpoints to keep; None keeps all.
        keep_best: number of further checkpoints to keep, those with the highest validation accuracy.
    """

    keep_last: int | None = None
    keep_best: int = 1


@dataclass
class OldLogProbsConfig:
    """When the rollout engine's log-probs are used as old log-probs, see `verl_adapter/old_log_probs.py`.

    Attributes:
        agreement: the largest mean difference of a token's probability (`training/rollout_probs_diff_mean`) at which
            they are used; None computes old log-probs at every step, as does a trainer whose rollouts may come from
            older weights.
        check_every: number of steps between two that compute old log-probs and measure the difference.
    """

    agreement: float | None = None
    check_every: int = 10


@dataclass
class CostConfig:
    """The price of a run.

    Attributes:
        gpu_hour: dollars for a GPU-hour; None counts no money.
    """

    gpu_hour: float | None = None


@dataclass
class AlarmsConfig:
    """The alarms of an unhealthy run, see `runs/alarms.py`.

    Attributes:
        limits: each rule's limits, by the rule's name, see `experiments/conf/alarms/limits.yaml`; null turns it off.
        stop_on: the rules whose alarm ends the run with status FAILED, after the step is saved.
        webhook_env: the name of the environment variable with the address to which alarms are sent, as JSON for Slack
            and Discord; None sends none.
    """

    limits: dict[str, Any] = field(default_factory=dict)
    stop_on: list[str] = field(default_factory=list)
    webhook_env: str | None = None


@dataclass
class StartConfig:
    """When a start without progress is ended, see `launch/start_watch.py`.

    Attributes:
        stalled_s: longest time without progress, in seconds. Progress is a tenth of a core in use, a megabyte read a
            second, or a new line in the log.
        stage_s: longest time of a stage, in seconds; the first step is a stage too.
    """

    stalled_s: float = 300.0
    stage_s: float = 3600.0


@dataclass
class TracesConfig:
    """How many rollouts of each step become traces in MLflow, see `runs/traces.py`.

    Attributes:
        train: number of groups of a training step; 0 for none.
        validation: number of problems of a validation, the same ones each time; 0 for none.
    """

    train: int = 2
    validation: int = 64


@dataclass
class GuidelinesConfig:
    """The section `guidelines`.

    Attributes:
        description: a line for `run.py --list`; may be empty.
        data: the problems.
        planner: its guidelines in validation.
        solver: the frozen solver.
        grader: the grader.
        prompts: the prompts of planner and solver.
        checkpoints: which checkpoints are kept.
        old_log_probs: when the rollout engine's log-probs are used.
        cost: the price of the run.
        alarms: the alarms of an unhealthy run.
        traces: which rollouts become traces in MLflow.
        rollout_seed: combined with step, problem and number, the seed of a rollout's sampling, so that a resumed run
            samples the same rollouts; None uses vLLM's state, which is faster on a GPU.
        environment: environment variables of the run's processes.
        max_lost_share: the share of a step's rollouts that may get no verdict; above it the run saves and fails.
        start: when a start without progress is ended.
        stop_within_s: seconds after SIGTERM for the step under way and its checkpoint.
        fork_processes: fork the run's processes from one that has done the imports, see `launch/forkserver.py`.
        rollout_beside_solver: a `separate_async` trainer's rollout shares the solver's GPUs instead of having its own.
        reference_beside_solver: reference log-probs are computed while the solver still writes, see
            `verl_adapter/early_reference.py`.
    """

    description: str = ""
    data: DataConfig = field(default_factory=DataConfig)
    planner: PlannerConfig = field(default_factory=PlannerConfig)
    solver: SolverConfig = field(default_factory=SolverConfig)
    grader: GraderConfig = field(default_factory=GraderConfig)
    prompts: PromptsConfig = field(default_factory=PromptsConfig)
    checkpoints: CheckpointsConfig = field(default_factory=CheckpointsConfig)
    old_log_probs: OldLogProbsConfig = field(default_factory=OldLogProbsConfig)
    cost: CostConfig = field(default_factory=CostConfig)
    alarms: AlarmsConfig = field(default_factory=AlarmsConfig)
    traces: TracesConfig = field(default_factory=TracesConfig)
    rollout_seed: int | None = None
    environment: dict[str, str] = field(default_factory=dict)
    max_lost_share: float = 0.5
    start: StartConfig = field(default_factory=StartConfig)
    stop_within_s: float = 270.0
    fork_processes: bool = False
    rollout_beside_solver: bool = False
    reference_beside_solver: bool = False

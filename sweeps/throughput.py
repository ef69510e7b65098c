"""Find the point of a space with the most graded rollouts a second on this machine.

    python sweeps/throughput.py --name NAME --trials N [--storage URL] [--space FILE] [--objective graded|effective]
        [--pareto] [--truncated 0.05] [--warm-up 1] [--steps 3] [--export NAME] [--confirm]
        [--ray ADDRESS --workers N] [key=value …]

The same command continues a study that was stopped. Exit codes: 0 the trials are done and one of them is the best, 2
refused, 1 failed or no trial has a result, 130 interrupted.
"""

from __future__ import annotations

import argparse
import logging
import sys
import time
from pathlib import Path

import optuna
from rich.text import Text

from guidelines_core.config.compose import ConfigError, compose
from guidelines_core.launch.stop import interrupt_on_signals
from guidelines_core.preflight import PreflightError, check, prepare
from guidelines_core.runs.metric_names import shown
from guidelines_core.runs.stores import tracking_uri
from guidelines_core.terminal import keep_output, plain_console
from sweeps.arguments import parse_arguments, refuse
from sweeps.board import Board
from sweeps.cluster import environment, refuse_local_stores, run_workers, worker_resources
from sweeps.cost import of_study
from sweeps.export import ExportError, confirm, export, export_file
from sweeps.failures import TrialFailedError
from sweeps.loop import RepeatedFailureError, run
from sweeps.machine import Machine
from sweeps.record import Record
from sweeps.sampler import SpaceExhaustedError
from sweeps.space import Space
from sweeps.storage import open_storage
from sweeps.study import Goal, open_study, study_folder, study_name
from sweeps.summary import closing, without_result
from sweeps.trial import Steps, Trials

out = plain_console()
err = plain_console(stderr=True)


def main() -> int:
    """Compose, check, run the trials, report; return the exit code."""
    logging.getLogger("mlflow").setLevel(logging.WARNING)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    # SIGTERM ends a worker of a cluster; a trainer that is up has handlers of its own.
    interrupt_on_signals()
    options = parse_arguments()
    if options.ray:
        return on_cluster(options)
    goal = Goal(options.objective, options.pareto, options.truncated)
    steps = Steps(options.warm_up, options.steps)
    try:
        refuse(options)
        space = Space.load(options.space, options.name, (*options.overrides, *steps.overrides()), Machine.here())
        if options.export:
            export_file(options.export, study_name(space, goal))
        experiment = space.config(None)
        prepare(experiment, check(experiment, dry_run=False, resume=False))
        study = open_study(space, goal, open_storage(options.storage))
    except (ConfigError, ExportError, PreflightError) as error:
        return refused(error)
    local = Path(experiment.trainer.default_local_dir)
    folder = study_folder(local.with_name(f"{local.name}-sweep"), study)
    record = Record(study, experiment.trainer.project_name, folder)
    trials = Trials(space, goal, steps, record, folder)
    where = f" · MLflow run {record.parent} · {folder}"
    out.print(Text.assemble((study.study_name, "bold"), where), soft_wrap=True)
    status, reason, found = "FAILED", "an error", dict[str, float]()
    try:
        with Board(study, space, goal, trials, options.trials, out) as board:
            try:
                run(study, space, goal, options.trials, board.measure, trials.cold)
            except SpaceExhaustedError as nothing_left:
                out.print(str(nothing_left), style="yellow", soft_wrap=True)
        found = closing(study, space, goal, record, folder, out)
        if not found and not (goal.pareto and study.best_trials):
            raise RepeatedFailureError(without_result(study, goal))
        if options.export:
            out.print(f"Exported: {export(study, space, options.export, options.overrides)}", soft_wrap=True)
        if options.confirm:
            ratio = confirm(study, space, trials.measure, f"{int(time.time())}")
            found |= {"sweep/confirmed_ratio": ratio.value, "sweep/confirmed_low": ratio.low}
            out.print(f"Confirmed: best by reference {ratio}")
        status, reason = "FINISHED", "its trials are done"
    except (ConfigError, ExportError, TrialFailedError, RepeatedFailureError) as error:
        reason = str(error)
        err.print(reason, style="red", highlight=False, soft_wrap=True)
        return 1
    except KeyboardInterrupt:
        status, reason = "KILLED", "stopped on request"
        out.print("Stopped; the same command continues.")
        return 130
    finally:
        trials.close()
        spent = of_study(study.get_trials(deepcopy=False))
        record.close(status, reason, {**found, **{shown(name): value for name, value in spent.items()}})
    return 0


def refused(error: Exception) -> int:
    """Print why the command was refused and return the exit code for it."""
    err.print(str(error), style="red", highlight=False, soft_wrap=True)
    return 2


def on_cluster(options: argparse.Namespace) -> int:
    """Run the sweep's command in tasks of a Ray cluster; return the first exit code other than 0, or 0."""
    try:
        config = compose(options.name, options.overrides)
        refuse_local_stores(options.storage, tracking_uri())
        if options.confirm or options.export:
            raise ConfigError("--ray with --export or --confirm: expected neither; give them without --ray afterwards")
        refuse(options)
    except ConfigError as error:
        return refused(error)
    words = ["--name", options.name, "--trials", str(options.trials), "--storage", options.storage]
    words += ["--space", str(options.space.resolve()), "--objective", options.objective, *["--pareto"] * options.pareto]
    words += ["--truncated", str(options.truncated), "--warm-up", str(options.warm_up), "--steps", str(options.steps)]
    command = [sys.executable, str(Path(__file__).resolve()), *words, *options.overrides]
    try:
        codes = run_workers(options.ray, command, options.workers, worker_resources(config), environment())
    except ConfigError as error:
        return refused(error)
    except KeyboardInterrupt:
        out.print("Stopped; the same command continues.")
        return 130
    return next((code for code in codes if code), 0)


if __name__ == "__main__":
    keep_output()
    sys.exit(main())

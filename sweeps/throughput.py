"""Find how to spend a fixed machine: the point of a space with the most graded rollouts a second.

    python sweeps/throughput.py --name NAME --trials N [--storage URL] [--space FILE] [--objective graded|effective]
        [--pareto] [--truncated 0.05] [--warm-up 1] [--steps 3] [--export NAME] [--confirm]
        [--ray ADDRESS --workers N] [key=value …]

The study goes on where it stopped when the command is given again. Exit codes: 0 the trials are done, 2 refused,
1 failed, 130 interrupted.
"""

from __future__ import annotations

import argparse
import logging
import signal
import sys
import time
from pathlib import Path

import optuna
from rich.console import Console

from guidelines_core.config.compose import ConfigError, compose
from guidelines_core.preflight import Refused, check, prepare
from guidelines_core.runs.stores import tracking_uri
from guidelines_core.terminal import keep_output
from sweeps.cluster import environment, needs, refuse_local_stores, run_workers
from sweeps.export import ExportError, confirm, export
from sweeps.objective import OBJECTIVES
from sweeps.record import Record
from sweeps.sampler import Exhausted
from sweeps.show import Board, closing
from sweeps.space import SPACES, Machine, Space
from sweeps.study import Failed, Goal, open_study, run, storage, study_folder
from sweeps.trial import Steps, Trials

out = Console()
err = Console(stderr=True)


def main() -> int:
    """Compose, check, sweep, show; return the exit code."""
    logging.getLogger("mlflow").setLevel(logging.WARNING)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    # SIGTERM ends a worker of a cluster; a trainer that is up has handlers of its own.
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler)
    given = parse_arguments()
    if given.ray:
        return on_cluster(given)
    goal = Goal(given.objective, given.pareto, given.truncated)
    steps = Steps(given.warm_up, given.steps)
    try:
        space = Space.load(given.space, given.name, (*given.overrides, *steps.overrides()), Machine.here())
        experiment = space.config(None)
        prepare(experiment, check(experiment, dry_run=False, resume=False))
        study = open_study(space, goal, storage(given.storage))
    except (ConfigError, Refused) as error:
        err.print(str(error), style="red", markup=False, highlight=False, soft_wrap=True)
        return 2
    local = Path(experiment.trainer.default_local_dir)
    folder = study_folder(local.with_name(f"{local.name}-sweep"), study)
    record = Record(study, experiment.trainer.project_name, folder)
    trials = Trials(space, goal, steps, record, folder)
    out.print(f"[bold]{study.study_name}[/] · MLflow run {record.parent} · {folder}", soft_wrap=True)
    status, found = "FAILED", dict[str, float]()
    try:
        with Board(study, space, goal, trials, given.trials, out) as board:
            try:
                run(study, space, goal, given.trials, board.measure, trials.cold)
            except Exhausted as nothing_left:
                out.print(str(nothing_left), style="yellow", soft_wrap=True)
        found = closing(study, space, goal, record, folder, out)
        if given.export:
            out.print(f"Exported: {export(study, space, given.export, given.overrides)}", soft_wrap=True)
        if given.confirm:
            ratio = confirm(study, space, trials.measure, f"{int(time.time())}")
            found |= {"sweep/confirmed_ratio": ratio.value, "sweep/confirmed_low": ratio.low}
            out.print(f"Confirmed: best by reference {ratio}")
        status = "FINISHED"
    except (ConfigError, ExportError, Failed) as error:
        err.print(str(error), style="red", markup=False, highlight=False, soft_wrap=True)
        return 1
    except KeyboardInterrupt:
        status = "KILLED"
        out.print("Stopped; the same command goes on.")
        return 130
    finally:
        trials.close()
        record.close(status, found)
    return 0


def on_cluster(given: argparse.Namespace) -> int:
    """Run the sweep's command in tasks of a Ray cluster; return the first exit code that is not 0."""
    try:
        config = compose(given.name, given.overrides)
        refuse_local_stores(given.storage, tracking_uri())
        if given.workers < 1:
            raise ConfigError(f"--workers={given.workers}: expected 1 or more")
        if given.confirm or given.export:
            raise ConfigError("--ray with --export or --confirm: expected neither; give them without --ray afterwards")
    except ConfigError as error:
        err.print(str(error), style="red", markup=False, highlight=False, soft_wrap=True)
        return 2
    words = ["--name", given.name, "--trials", str(given.trials), "--storage", given.storage]
    words += ["--space", str(given.space.resolve()), "--objective", given.objective, *["--pareto"] * given.pareto]
    words += ["--truncated", str(given.truncated), "--warm-up", str(given.warm_up), "--steps", str(given.steps)]
    command = [sys.executable, str(Path(__file__).resolve()), *words, *given.overrides]
    try:
        codes = run_workers(given.ray, command, given.workers, needs(config), environment())
    except ConfigError as error:
        err.print(str(error), style="red", markup=False, highlight=False, soft_wrap=True)
        return 2
    except KeyboardInterrupt:
        out.print("Stopped; the same command goes on.")
        return 130
    return next((code for code in codes if code), 0)


def parse_arguments() -> argparse.Namespace:
    """Return the command line's arguments; `overrides` holds its key=value words."""
    parser = argparse.ArgumentParser(description="Find the point of a space with the most graded rollouts a second.")
    add = parser.add_argument
    add("--name", required=True, help="the experiment")
    add("--trials", required=True, type=int, help="trials of the study, those of earlier starts included")
    add("--storage", help="Optuna's database (default: optuna.db at the repository's root); postgresql://… for several")
    add("--space", type=Path, default=SPACES / "quick.yaml", help="a YAML of axes (default %(default)s)")
    add("--objective", choices=sorted(OBJECTIVES), default="graded", help="effective counts only groups that teach")
    add("--pareto", action="store_true", help="truncation as a second objective, not as a limit")
    add("--truncated", type=float, default=0.05, help="truncated share that is allowed (default %(default)s)")
    add("--warm-up", type=int, default=1, help="steps of a trial that are not measured (default %(default)s)")
    add("--steps", type=int, default=3, help="steps of a trial that are measured (default %(default)s)")
    add("--export", metavar="NAME", help="write the best point as experiments/conf/NAME.yaml")
    add("--confirm", action="store_true", help="measure the best point against the reference again, alternating")
    add("--ray", metavar="ADDRESS", help="run the sweep in tasks of this Ray cluster: `auto`, or HOST:6379")
    add("--workers", type=int, default=1, help="with --ray: how many measure at once (default %(default)s)")
    add("overrides", nargs="*", metavar="key=value", help="any key of the composed configuration, for every trial")
    return parser.parse_intermixed_args()


if __name__ == "__main__":
    keep_output()
    sys.exit(main())

"""Start, continue or check a named experiment.

    python experiments/run.py --name quickstart [key=value …] [--dry-run [--for 4xH100]] [--resume] [--new]
    python experiments/run.py --name RUN --resume [key=value …]
    python experiments/run.py --list

Exit codes: 0 finished (dry run: would start, here or on a machine with the GPUs), 2 refused, 1 failed, 130 interrupted.
"""

from __future__ import annotations

import argparse
import logging
import signal
import sys
from functools import cache
from itertools import chain

import psutil
from omegaconf import DictConfig, OmegaConf
from rich.text import Text

if __name__ == "__main__" and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    # The imports below take seconds; Ctrl-C meanwhile ends this process without a traceback.
    signal.signal(signal.SIGINT, signal.SIG_DFL)

from guidelines_core.config.compose import ConfigError, experiments
from guidelines_core.hardware.estimate import forecast
from guidelines_core.hardware.gpus import Device, devices, known_gpu, named_machine
from guidelines_core.hardware.kv_cache import with_cache_sizes
from guidelines_core.hardware.shapes import Gpu
from guidelines_core.launch.alarms import AlarmReporter
from guidelines_core.launch.attempt import Launch, attempt_config
from guidelines_core.launch.console import summary, watch
from guidelines_core.launch.resume import ResumeError, finished, preview, requested_changes, resume
from guidelines_core.launch.start_record import (
    StartRecord,
    UnknownRunError,
    compose_first_start,
    compose_resumed,
    resume_command,
)
from guidelines_core.launch.stop import StopRequests, interrupt_on_signals
from guidelines_core.launch.training import PrelaunchedDriver, Training
from guidelines_core.preflight import Finding, PreflightError, check, layout_table, prepare
from guidelines_core.preflight.rows import unprepared
from guidelines_core.runs.claim import claim, existing
from guidelines_core.runs.claim_file import ClaimError
from guidelines_core.runs.mlflow_sync import Recorder
from guidelines_core.runs.tracking import Run
from guidelines_core.terminal import keep_output, plain_console

out = plain_console()
err = plain_console(stderr=True)


def main() -> int:
    """Read the command line and carry it out; return the exit code."""
    logging.getLogger("mlflow").setLevel(logging.WARNING)
    interrupt_on_signals()
    arguments = parse_arguments()
    if arguments.list:
        for name, description in experiments().items():
            out.print(Text.assemble((name, "bold"), f"  {description}"))
        return 0
    try:
        return start(arguments)
    except (ConfigError, UnknownRunError, PreflightError, ClaimError, ResumeError) as error:
        err.print(str(error), style="red", highlight=False, soft_wrap=True)
        return 2
    except KeyboardInterrupt:
        err.print("Interrupted before anything was started.", style="red")
        return 130


def start(arguments: argparse.Namespace) -> int:
    """Compose, check, claim, train, report; return the exit code."""
    machine = named_machine(arguments.machine) if arguments.machine else None
    gpu = cache(lambda: known_gpu(machine or devices()))
    compose = compose_resumed if arguments.resume else compose_first_start
    composed, record = compose(arguments.name, arguments.overrides)
    config = with_cache_sizes(composed, gpu)
    if arguments.dry_run:
        return dry_run(config, arguments, machine, gpu())
    # Before preflight, to which a run that is active is a full GPU.
    if (there := existing(config, resume=arguments.resume, new=arguments.new)) is not None:
        there.release()
    with PrelaunchedDriver(config, launched_at=psutil.Process().create_time()) as driver:
        findings = check(config, dry_run=False, resume=arguments.resume, new=arguments.new)
        show(findings)
        show(prepare(config, findings))
        with StopRequests() as stop:
            run = claim(config, resume=arguments.resume, new=arguments.new)
            if run.status == "FINISHED":
                Recorder(run).copy()
                out.print(finished(run), highlight=False, soft_wrap=True)
                for line in chain(*requested_changes(config, run)):
                    out.print(f"not applied: {line}", highlight=False, soft_wrap=True)
                return 0
            checkpoint, notes = resume(config, run) if arguments.resume else (None, [])
            attempt = attempt_config(config, Launch(run.claim.run_name, run.directory, checkpoint))
            return train(attempt, run, driver, notes, stop, record)


def dry_run(config: DictConfig, arguments: argparse.Namespace, machine: list[Device] | None, gpu: Gpu) -> int:
    """Print the configuration, the layout, the forecast and what a start would refuse; return the exit code."""
    print(OmegaConf.to_yaml(config), flush=True)
    err.print(layout_table(config, gpu))
    for line in filter(None, (forecast(config, gpu), unprepared(config))):
        err.print(line, highlight=False, soft_wrap=True)
    findings = check(config, dry_run=True, resume=arguments.resume, new=arguments.new, machine=machine)
    show(findings)
    if any(finding.severity == "error" for finding in findings):
        return 2
    refused, notes = preview(config, resume=arguments.resume, new=arguments.new)
    # The run's machine, if it is another one, need not have this directory.
    elsewhere = machine is not None or any(finding.key == "GPUs" for finding in findings)
    for line in refused:
        severity, style = ("warning", "yellow") if elsewhere else ("error", "red")
        err.print(f"{severity}: {line}", style=style, highlight=False, soft_wrap=True)
    for line in notes:
        err.print(line, highlight=False, soft_wrap=True)
    return 2 if refused and not elsewhere else 0


def show(findings: list[Finding]) -> None:
    """Print what preflight found on stderr, a line each."""
    for finding in findings:
        style = "red" if finding.severity == "error" else "yellow"
        err.print(str(finding), style=style, highlight=False, soft_wrap=True)


def parse_arguments() -> argparse.Namespace:
    """Return the command line's arguments; `overrides` holds its key=value words."""
    parser = argparse.ArgumentParser(description="Start, continue or check a named experiment.")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--name", help="the experiment, one of --list; with --resume also a run's name or id")
    what.add_argument("--list", action="store_true", help="show every named experiment")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="any key of the composed configuration")
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="print the configuration and preflight's findings only; exit code 0 if at most the GPUs are missing",
    )
    parser.add_argument("--for", dest="machine", metavar="4xH100", help="with --dry-run: the machine to plan for")
    parser.add_argument(
        "--resume",
        action="store_true",
        help="resume this run with the overrides of its last start and those given here",
    )
    parser.add_argument(
        "--new",
        action="store_true",
        help="start another run of this name, as NAME-2, NAME-3, …; with --resume: continue from checkpoints whose "
        "MLflow run is gone, as a new MLflow run",
    )
    arguments = parser.parse_intermixed_args()
    if arguments.machine and not arguments.dry_run:
        parser.error("--for is valid only with --dry-run")
    return arguments


def train(
    config: DictConfig, run: Run, driver: PrelaunchedDriver, notes: list[str], stop: StopRequests, record: StartRecord
) -> int:
    """Train, show the progress, record the end; return the exit code. `notes` are those of `resume`."""
    training, recorder = Training(config, run, driver, stop), Recorder(run)
    reporter = AlarmReporter(config, run.claim.run_name, run.directory, out)
    where = f" · MLflow run {run.claim.run_id} · log {training.log}"
    out.print(Text.assemble((run.claim.run_name, "bold"), where), soft_wrap=True)
    for note in notes:
        out.print(note, highlight=False, soft_wrap=True)
    try:
        record.write(run.directory, training.attempt)
        run.record(config, training.attempt, "; ".join(notes) or "from the first step")
        recorder.start()
        training.start()
        steps = watch(training, config, out, reporter)
    except BaseException as error:
        training.end()
        recorder.stop()
        run.finish("FAILED", f"{type(error).__name__}: {error}", training.log)
        raise
    outcome = training.end()
    recorder.stop()
    unrecorded = run.finish(outcome.status, outcome.reason, training.log) or recorder.failure
    reporter.close()
    out.print(summary(steps, outcome, str(run.directory), reporter.alarms))
    if unrecorded:
        out.print(
            f"MLflow did not accept all records ({unrecorded}). To copy them when it does: "
            f"python -m guidelines_core.runs.replay {run.directory}",
            style="yellow",
            soft_wrap=True,
        )
    if outcome.status == "FINISHED":
        out.print(Text.assemble("Compare runs: ", ("make ui", "bold")))
    else:
        again = resume_command(run.claim.run_name, record.experiment, run.directory)
        out.print(f"Log: {training.log}\nResume: {again}", highlight=False, soft_wrap=True)
    run.release()
    return outcome.exit_code


if __name__ == "__main__":
    keep_output()
    sys.exit(main())

"""Measures the worth of guidelines: the same problems without one, with the untrained and with the trained planner's.

    python analysis/lift.py RUN [--checkpoint STEP|best|last] [--data FILE …] [--solver MODEL|URL#MODEL] \
        [--solver-key-env NAME] [--problems N] [--samples K] [--out DIR] [--json [FILE]] [--html FILE]

RUN is a run's id or name; a bare name means its newest FINISHED top-level run. FILE is a benchmark's .jsonl, .json or
.parquet, or `word-problems` for new ones; the default is the run's validation problems. Problems that the run was
trained on are left out. Answers are kept in `lift/` of the run's directory, or in --out, and the same call again
continues. The result becomes the run's artifact `lift/DATA.json` and its metrics `lift/DATA/…`. Exit
codes: 0 done, 1 failed, 2 refused, 130 interrupted.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from analysis.lifts import report as lift_report
from analysis.lifts.answers import GenerationFailed, Plan
from analysis.lifts.arms import NONE, TRAINED, UNTRAINED, measure
from analysis.lifts.data import Problems, load, trained_on
from analysis.lifts.elsewhere import Elsewhere, name_of, parse, solver_of, unfit
from analysis.lifts.stats import Lift, lift
from analysis.pages import output
from analysis.store import runs
from guidelines_core.config.compose import model_location
from guidelines_core.data.problems import DatasetError
from guidelines_core.hardware.shapes import config_file
from guidelines_core.launch.stop import interrupt_on_signals
from guidelines_core.models.export import CHECKPOINTS, ExportError, pick
from guidelines_core.paths import ROOT
from guidelines_core.prompts import VERSION as PROMPTS_VERSION
from guidelines_core.runs.checkpoints import Checkpoint, sealed
from guidelines_core.runs.lookup import RunError, open_store
from guidelines_core.runs.metric_names import shown
from guidelines_core.terminal import replace_unprintable


class LiftRefused(ValueError):
    """The request cannot be measured; the message names the remedy."""


def main(arguments: list[str] | None = None) -> int:
    """Measure what the command line asks for and return the exit code."""
    parser = argparse.ArgumentParser(prog="lift.py", description="Measure the worth of guidelines.")
    parser.add_argument("run", metavar="RUN", help="a run's id or name")
    parser.add_argument("--checkpoint", default="best", metavar="STEP|best|last",
                        help="the trained planner; best: by validation accuracy (default)")  # fmt: skip
    parser.add_argument("--data", nargs="+", metavar="FILE", help="problems (default: the run's validation)")
    parser.add_argument(
        "--solver",
        metavar="MODEL|URL#MODEL",
        help="another solver beside the run's own: its folder or hub id, or a server and its model",
    )
    parser.add_argument(
        "--solver-key-env", metavar="NAME", help="the environment variable with the key of --solver's server"
    )
    parser.add_argument("--problems", type=_positive, metavar="N", help="the first N of each file (default: all)")
    parser.add_argument(
        "--samples", type=_positive, default=1, metavar="K", help="answers for each problem (default 1)"
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="the folder of the answers")
    output.add_json(parser)
    output.add_html(parser)
    options = parser.parse_args(arguments)
    try:
        output.check_folders(options)
        run = runs.resolve(options.run, open_store())
        results = measured(run, options, output.console(options))
    except (RunError, LiftRefused, DatasetError, ExportError) as error:
        print(error, file=sys.stderr)
        return 2
    except GenerationFailed as error:
        print(f"failed: {error}; the same command continues from here", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; the same command continues from here", file=sys.stderr)
        return 130
    output.write_json(options, {label: result.as_json() for label, result in results.items()})
    if options.html:
        from analysis.lifts import page as lift_page

        options.html.write_text(lift_page.page(list(results.values())), encoding="utf-8")
    return 0


def measured(run: runs.Run, options: argparse.Namespace, console: Console) -> dict[str, lift_report.Result]:
    """Measure each of the files, print and record each result, and return them by label."""
    config = OmegaConf.create(runs.config(run))
    if not config:
        raise LiftRefused(f"run {run.id} ({run.status}) recorded no config.yaml: nothing says what its models were")
    directory = Path(run.tags.get(CHECKPOINTS, "/of/no/run"))
    if options.out is None and not directory.is_dir():
        raise LiftRefused(f"run {run.id}: its directory {directory} is gone: give --out DIR to keep the answers in")
    out = (options.out or directory / "lift").resolve()
    checkpoint = chosen(options.checkpoint, directory)
    solvers = [solver_of(config)]
    if options.solver and (other := other_solver(options.solver, options.solver_key_env)) not in solvers:
        solvers.append(other)
    planner = str(config.actor_rollout_ref.model.path)
    for model in {planner, *(solver for solver in solvers if isinstance(solver, str))}:
        if config_file(model) is None:
            raise LiftRefused(f"model {model} is not on this machine: fetch it, or name another run or --solver")
    if len({name_of(solver) for solver in solvers}) < len(solvers):
        raise LiftRefused(
            f"--solver {options.solver}: it has the name of the run's own solver: rename its folder, or have its "
            "server give its model another name"
        )
    plan = Plan(config, {}, solvers, options.samples, out)
    for solver in solvers:
        if isinstance(solver, Elsewhere) and (faults := unfit(solver, config, plan.temperatures[1])):
            raise LiftRefused("\n".join(faults))
    sets = problem_sets(config, run, options)
    if (version := run.tags.get("guidelines.prompts", PROMPTS_VERSION)) != PROMPTS_VERSION:
        console.print(f"note: the run had prompts {version}; it is asked with today's, {PROMPTS_VERSION}", style="dim")
    planners = {UNTRAINED: planner}
    if checkpoint is None:
        console.print(f"note: no checkpoint in {directory}: the trained planner is left out", style="dim")
    else:
        planners[TRAINED] = str(merged(config, checkpoint.folder, out, console))
    plan = replace(plan, planners=planners)
    step = checkpoint.step if checkpoint else None
    results = {}
    for problems, rows in zip(sets, measure(plan, [one.problems for one in sets], console), strict=True):
        found = lift(rows)
        result = lift_report.Result(run.name, run.id, step, problems, plan.temperatures, found, rows)
        lift_report.show(result, console)
        record(run, result, out)
        results[problems.label] = result
    return results


def other_solver(text: str, key_env: str | None) -> str | Elsewhere:
    """Return the solver that `--solver` names.

    Raises:
        LiftRefused: it is a URL, and not as expected.
    """
    if "://" not in text:
        return model_location(text)
    try:
        return parse(text, key_env)
    except ValueError as error:
        raise LiftRefused(f"--solver: {error}") from error


def problem_sets(config: DictConfig, run: runs.Run, options: argparse.Namespace) -> list[Problems]:
    """Return the problems of every file, without those that the run was trained on.

    Raises:
        LiftRefused: two files have one name.
        DatasetError: a file cannot be used.
    """
    seen = trained_on(config)
    graded = runs.rows(run, "train", ["problem_id"])
    seen |= set(graded["problem_id"].dropna())
    if not options.data:
        own = load(str(config.data.val_files), config, seen, options.problems)
        return [Problems("validation", own.source, own.problems, own.left_out)]
    found = [load(source, config, seen, options.problems) for source in options.data]
    found = [Problems(re.sub(r"[^\w.-]", "-", p.label), p.source, p.problems, p.left_out) for p in found]
    if len({problems.label for problems in found}) < len(found):
        raise LiftRefused(
            f"--data {' '.join(options.data)}: two files have one name, which the results go by: rename one"
        )
    return found


def chosen(asked: str, directory: Path) -> Checkpoint | None:
    """Return the checkpoint that `asked` (a step, best or last) names; None if the run has no checkpoint.

    Raises:
        ExportError: there is no such checkpoint.
    """
    there = sealed(directory)
    return None if not there and asked in ("best", "last") else pick(there, asked)


def merged(config: DictConfig, checkpoint: Path, out: Path, console: Console) -> Path:
    """Return the folder with the model of `checkpoint` in the rollout's type; a process creates it if it is missing.

    Raises:
        GenerationFailed: that process failed.
    """
    folder = out / f"planner-{checkpoint.name}"
    if folder.is_dir():
        return folder
    console.print(f"merging {checkpoint} …", style="dim")
    how = ["--dtype", str(config.actor_rollout_ref.rollout.dtype), "--base", str(config.actor_rollout_ref.model.path)]
    command = [sys.executable, "-m", "guidelines_core.models.merge", str(checkpoint), str(folder), *how]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode != 0:
        raise GenerationFailed(f"merging {checkpoint}: {(done.stderr.strip() or 'no message').splitlines()[-1]}")
    return folder


def record(run: runs.Run, result: lift_report.Result, out: Path) -> None:
    """Log the result to the run: `lift/DATA.json`, every graded row, and metrics."""
    label = result.problems.label
    run.client.log_dict(run.id, result.as_json(), f"lift/{label}.json")
    file = out / f"{label}.parquet"
    result.rows.to_parquet(file, index=False)
    run.client.log_artifact(run.id, str(file), "lift")
    for name, value in metrics(result.found, str(result.rows["solver"].iloc[0])).items():
        run.client.log_metric(run.id, shown(f"lift/{label}/{name}"), value, step=result.step or 0)


def metrics(found: Lift, own: str) -> dict[str, float]:
    """Return the result's metrics; those of another solver than the run's own begin with its name."""
    values: dict[str, float] = {"problems": found.problems}
    for arm in found.arms:
        name = f"{arm.kind}" if arm.solver == own else f"{arm.solver}/{arm.kind}"
        values[f"{name}_accuracy"] = arm.accuracy.value
        if arm.kind != NONE:
            values[f"{name}_leaks"] = arm.leaks
            values[f"{name}_repeated"] = arm.repeated
    for pair in found.pairs:
        name = f"{pair.better}_over_{pair.base}"
        values[name if pair.solver == own else f"{pair.solver}/{name}"] = pair.paired.difference.value
    return {name: value for name, value in values.items() if value == value}


def _positive(text: str) -> int:
    value: Any = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text}: expected 1 or more")
    return int(value)


if __name__ == "__main__":
    replace_unprintable()
    # A batch system's SIGTERM ends the models' processes as Ctrl-C does.
    interrupt_on_signals()
    sys.exit(main())

"""Print a study as JSON: its command, its machines, and every trial with its point and metrics.

    python -m sweeps.results STUDY [--storage URL] [--json FILE]

STUDY is the name that the sweep prints at its start. Without --json the text goes to stdout. This command wrote
the files `analysis/results/sweep-*.json`. Exit codes: 0 done, 2 refused.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import optuna
from optuna.study import Study
from optuna.trial import FrozenTrial

from guidelines_core.config.compose import ConfigError
from sweeps.attributes import CAUSE, COMMAND, LIMIT, MACHINE, REFERENCE
from sweeps.cost import of_study, of_trial
from sweeps.storage import open_storage, refuse_unreachable
from sweeps.study import best, counted, machines


def main(arguments: list[str] | None = None) -> int:
    """Write the study that the command line names and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m sweeps.results", description="A study as JSON.")
    parser.add_argument("study", metavar="STUDY", help="the study's name")
    parser.add_argument("--storage", metavar="URL", help="Optuna's database (default: optuna.db)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write to this file, not to stdout")
    options = parser.parse_args(arguments)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        study = load_study(options.study, options.storage)
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 2
    text = json.dumps(as_json(study), indent=1) + "\n"
    if options.json:
        options.json.write_text(text, encoding="utf-8")
    else:
        print(text, end="")
    return 0


def load_study(name: str, storage: str | None) -> Study:
    """Return the study with this name.

    Raises:
        ConfigError: the database cannot be read, or holds no such study.
    """
    refuse_unreachable(storage)
    store = open_storage(storage)
    names = [study.study_name for study in store.get_all_studies()]
    if name not in names:
        raise ConfigError(f"study {name}: there is none of this name; there are: {', '.join(sorted(names)) or 'none'}")
    return optuna.load_study(study_name=name, storage=store)


def as_json(study: Study) -> dict[str, Any]:
    """Return the study and its trials as JSON values."""
    trials = counted(study.get_trials(deepcopy=False))
    top = best(study)
    return {
        "study": study.study_name,
        "command": study.user_attrs.get(COMMAND),
        "truncated_at_most": study.user_attrs[LIMIT],
        "machines": machines(trials),
        "best": top.number if top else None,
        **rounded(of_study(study.get_trials(deepcopy=False))),
        "trials": [row(trial) for trial in trials],
    }


def row(trial: FrozenTrial) -> dict[str, Any]:
    """Return a trial: its number, machine, end, point, seconds, and its figures by their MLflow names."""
    figures = {key: value for key, value in trial.user_attrs.items() if key.startswith("sweep/")}
    return {
        "number": trial.number,
        "machine": trial.user_attrs.get(MACHINE),
        "state": trial.state.name,
        **({CAUSE: trial.user_attrs[CAUSE]} if CAUSE in trial.user_attrs else {}),
        REFERENCE: REFERENCE in trial.user_attrs,
        "point": trial.params,
        "seconds": round(trial.duration.total_seconds(), 1) if trial.duration else None,
        **rounded({**figures, **of_trial(trial)}),
    }


def rounded(figures: Mapping[str, float]) -> dict[str, float]:
    """Return figures to six decimals."""
    return {name: round(value, 6) for name, value in figures.items()}


if __name__ == "__main__":
    sys.exit(main())

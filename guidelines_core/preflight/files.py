"""Checks a run's model files and data files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from omegaconf import DictConfig

from guidelines_core.config.layout import solver_elsewhere
from guidelines_core.data.manifest import MANIFEST, Manifest, verify
from guidelines_core.data.problems import DatasetError
from guidelines_core.data.rows import is_local, kind_of
from guidelines_core.data.sources import rows_of
from guidelines_core.paths import ROOT, anchored
from guidelines_core.preflight.findings import Finding, error, warning
from guidelines_core.preflight.model_files import model_fault
from guidelines_core.preflight.rows import row_findings

BUILT = ("SmolLM2-135M-Instruct", "tiny-random")
"""The models that `models.bundled.ensure_model` builds on first use."""


def model_keys(config: DictConfig) -> dict[str, str]:
    """Return the models that a run loads, by their keys; the solver's is not loaded where it runs elsewhere."""
    planner = {"actor_rollout_ref.model.path": config.actor_rollout_ref.model.path}
    if solver_elsewhere(config):
        return planner
    return {**planner, "guidelines.solver.model": config.guidelines.solver.model}


def file_findings(config: DictConfig) -> Iterator[Finding]:
    """Yield a finding for every missing model or data file, and for a prepared data set that has changed."""
    for key, model in model_keys(config).items():
        yield from _model_findings(key, model)
    yield from _data_findings(config)


def _model_findings(key: str, model: str) -> Iterator[Finding]:
    folder = Path(model)
    if folder.is_absolute() and folder.name not in BUILT and (fault := model_fault(folder)):
        yield error(key, model, *fault)


def on_this_machine(source: str) -> bool:
    """Return whether a source of problems is a path, there or not, and so nothing of the hub's."""
    return Path(source).is_absolute() or bool(kind_of(Path(source)))


def _data_findings(config: DictConfig) -> Iterator[Finding]:
    key, source = "guidelines.data.source", config.guidelines.data.source
    if kind_of(Path(source)) and not anchored(source).is_file():
        yield error(key, source, "no such file", f"relative paths start at {ROOT}")
        return
    for file in config.guidelines.data.exclude:
        if not anchored(file).is_file():
            yield error("guidelines.data.exclude", file, "no such file", f"relative paths start at {ROOT}")
    train = Path(config.data.train_files)
    if not (train.parent / MANIFEST).is_file():
        yield from _source_findings(config)
        return
    broken = verify(train.parent)
    if broken:
        yield warning("data.train_files", train, "; ".join(broken), "it is prepared again when the run starts")
        return
    yield from row_findings(config, Manifest.load(train.parent))


def _source_findings(config: DictConfig) -> Iterator[Finding]:
    """Yield a finding if the first rows of a file or folder of problems cannot be read."""
    key, source = "guidelines.data.source", str(anchored(config.guidelines.data.source))
    if not is_local(source):
        if Path(config.guidelines.data.source).is_absolute():
            reason = "no folder that save_to_disk wrote" if Path(source).exists() else "no such folder"
            yield error(key, source, reason, "name a file, a folder that save_to_disk wrote, or a hub id")
        return
    columns = {ours: theirs for ours, theirs in config.guidelines.data.columns.items() if theirs is not None}
    try:
        first = next(rows_of(source, 1, 0, columns), None)
    except DatasetError as failure:
        reason, _, remedy = str(failure).rpartition(": ")
        yield error(key, config.guidelines.data.source, reason, remedy)
        return
    if first is None:
        yield error(key, config.guidelines.data.source, "it has no row", "name a file with problems")

"""Finds before a run starts what would fail or waste time later, and prepares its models and data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from guidelines_core.config.layout import table
from guidelines_core.data import dataset
from guidelines_core.data.problems import DatasetError
from guidelines_core.hardware.footprint import memory
from guidelines_core.hardware.gpus import Device, devices
from guidelines_core.hardware.host import available_memory
from guidelines_core.hardware.shapes import Gpu, Shape, find_shape
from guidelines_core.models.bundled import ModelError, ensure_model
from guidelines_core.paths import anchored
from guidelines_core.preflight.combinations import combination_findings
from guidelines_core.preflight.engines import engine_findings
from guidelines_core.preflight.files import file_findings, model_keys
from guidelines_core.preflight.findings import Finding
from guidelines_core.preflight.gpus import memory_findings, missing_gpus
from guidelines_core.preflight.machine import environment_findings, machine_findings, main_memory_findings
from guidelines_core.preflight.place import place_findings, record_findings
from guidelines_core.preflight.probe import Probe
from guidelines_core.preflight.rows import row_findings
from guidelines_core.preflight.sizes import size_findings
from guidelines_core.prompts import planner_messages
from guidelines_core.runs.claim import expected_store
from guidelines_core.verl_adapter import allowed_values

__all__ = ["Finding", "PreflightError", "check", "config_findings", "layout_table", "prepare"]


class PreflightError(RuntimeError):
    """The run cannot start; the message says why, with key, value and remedy."""


def config_findings(config: DictConfig) -> list[Finding]:
    """Return the findings about the configuration that hold on every machine."""
    planner, solver = _shapes(config)
    return [*size_findings(config), *engine_findings(config, planner, solver), *combination_findings(config, planner)]


def _shapes(config: DictConfig) -> tuple[Shape | None, Shape | None]:
    """Return the shapes of planner and solver; None where one is not known or runs elsewhere."""
    models = list(model_keys(config).values())
    return find_shape(models[0]), find_shape(models[1]) if models[1:] else None


def check(
    config: DictConfig, *, dry_run: bool, resume: bool, new: bool = False, machine: Sequence[Device] | None = None
) -> list[Finding]:
    """Return all findings about a run, errors first; `probe.SECONDS` bounds the slowest check.

    `machine` are the GPUs of the machine that the run is planned for, if that is another one than this. Findings about
    this machine are then warnings, as they are in a dry run where GPUs are missing. If the store does not answer, the
    checks of `inside.py` are skipped, since they would wait for it for a minute.
    """
    directory = Path(config.trainer.default_local_dir)
    probe = Probe(config, dry_run=dry_run, store=expected_store(directory, resume=resume))
    planner, solver = _shapes(config)
    found = config_findings(config)
    there = machine or (devices() if config.trainer.device == "cuda" else [])
    missing = missing_gpus(config, there, named=machine is not None)
    on_gpus = list(memory_findings(config, planner, there))
    records = list(record_findings(directory, resume=resume, new=new))
    places = list(place_findings(directory))
    here = [
        *records,
        *places,
        *machine_findings(config, planner, resume=resume),
        *(main_memory_findings(config, planner, solver, available_memory()) if there and machine is None else []),
        *environment_findings(config),
        *file_findings(config),
    ]
    if records or places:
        probe.end()
    for finding in [] if records or places else probe.findings():
        # A value outside a closed set is wrong on every machine.
        (found if finding.key in allowed_values.KEYS else here).append(finding)
    if missing is not None or machine is not None:
        here = [replace(finding, severity="warning") for finding in here]
    if missing is not None:
        # Too few GPUs on a named machine are an error. In a dry run, this machine need not be the run's.
        elsewhere = dry_run and machine is None
        found.append(replace(missing, severity="warning") if elsewhere else missing)
        on_gpus = [replace(finding, severity="warning") for finding in on_gpus]
    return sorted([*found, *on_gpus, *here], key=lambda finding: finding.severity != "error")


def layout_table(config: DictConfig, gpu: Gpu) -> object:
    """Return the layout as a table for `rich`: GPU, role, processes, and the estimated memory on such a `gpu`."""
    planner = find_shape(config.actor_rollout_ref.model.path)
    if config.trainer.device != "cuda" or planner is None:
        return table(config, {}, "")
    return table(config, memory(config, planner, gpu), f" of {gpu.memory:.0f} GiB ({gpu.name})")


def prepare(config: DictConfig, findings: Sequence[Finding]) -> list[Finding]:
    """Prepare the run's models and data; return the findings about the data that are not among `findings`.

    Raises:
        PreflightError: `findings` has an error, the files cannot be made, or too few problems are left for the steps.
    """
    if any(finding.severity == "error" for finding in findings):
        raise PreflightError("refused: see the errors above")
    try:
        for model in sorted(set(model_keys(config).values())):
            if model.startswith("/"):
                ensure_model(Path(model))
        data = config.guidelines.data
        source = str(anchored(data.source)) if anchored(data.source).exists() else data.source
        manifest = dataset.prepare(
            source,
            Path(config.data.train_files).parent,
            size=data.size,
            seed=data.seed,
            val_size=data.val_size,
            planner_messages=partial(planner_messages, style=config.guidelines.prompts.style),
            exclude=[anchored(file) for file in data.exclude],
            pass_rate=data.pass_rate,
            tokenizer=config.actor_rollout_ref.model.path,
            columns={ours: theirs for ours, theirs in data.columns.items() if theirs is not None},
            template=OmegaConf.to_container(config.data.apply_chat_template_kwargs),  # type: ignore[arg-type]
            reuse=True,
        )
    except (ModelError, DatasetError) as error:
        raise PreflightError(str(error)) from error
    found = [finding for finding in row_findings(config, manifest) if finding not in findings]
    if errors := [str(finding) for finding in found if finding.severity == "error"]:
        raise PreflightError("\n".join(errors))
    return found

"""Checks whether a prepared data set has enough problems for the steps, without those whose prompts are too long."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from guidelines_core.data.manifest import MANIFEST, Manifest
from guidelines_core.data.selection import length_unit
from guidelines_core.preflight.findings import Finding, error, warning

SOURCE, LIMIT = "guidelines.data.source", "data.max_prompt_length"


def row_findings(config: DictConfig, manifest: Manifest) -> Iterator[Finding]:
    """Yield a finding for problems that are dropped or truncated for their length, and an error if too few are left.

    If the manifest counts the tokens of another model than the planner's, no prompt counts as too long.
    """
    data, trainer = config.data, config.trainer
    model = config.actor_rollout_ref.model.path
    measured = manifest.length_unit == length_unit(model, OmegaConf.to_container(data.apply_chat_template_kwargs))  # type: ignore[arg-type]
    yield from _measurement_findings(config, manifest)
    rows = {"train": manifest.train_rows, "val": manifest.val_rows}
    long = {split: manifest.longer_than(split, data.max_prompt_length) if measured else 0 for split in rows}
    longest = max((int(length) for counts in manifest.prompt_lengths.values() for length in counts), default=0)
    counted = (
        f"the prompts of {long['train']} of {rows['train']} training and {long['val']} of {rows['val']} validation "
        f"problems are longer, the longest has {longest} tokens"
    )
    if any(long.values()) and not data.filter_overlong_prompts:
        yield warning(LIMIT, data.max_prompt_length, f"{counted}; verl cuts off their beginnings",
                      f"give {LIMIT}={longest}, or data.filter_overlong_prompts=True")  # fmt: skip
        return
    left = {split: rows[split] - long[split] for split in rows}
    batch, steps = data.train_batch_size, trainer.total_training_steps or 0
    too_few = []
    if (reach := left["train"] // batch * trainer.total_epochs) < steps:
        too_few.append(
            f"{left['train']} training problems in batches of {batch} last for {reach} of {steps} steps"
            + (f" in {trainer.total_epochs} epochs" if trainer.total_epochs > 1 else "")
        )
    if left["val"] < 1:
        too_few.append("no validation problem is left")
    if not too_few:
        if any(long.values()):
            yield warning(
                LIMIT, data.max_prompt_length, f"{counted}; they are left out", f"{LIMIT}={longest} keeps all"
            )
        return
    remedies = []
    if any(long.values()):
        remedies.append(f"give {LIMIT}={longest}, which keeps all")
    if left["train"] >= batch and reach < steps:
        remedies.append(f"raise trainer.total_epochs to {math.ceil(steps / (left['train'] // batch))}")
    if 0 < left["train"] < batch:
        remedies.append(f"lower data.train_batch_size to {left['train']} or less")
    remedies.append(f"name a {SOURCE} with more problems")
    key, value = (LIMIT, data.max_prompt_length) if any(long.values()) else (SOURCE, config.guidelines.data.source)
    reason = "; ".join([*([f"{counted}, and those are left out"] if any(long.values()) else []), *too_few])
    yield error(key, value, reason, "; or ".join(remedies))


def unprepared(config: DictConfig) -> str:
    """Return what a dry run says of a data set that is not there yet, "" for one that is."""
    if (Path(config.data.train_files).parent / MANIFEST).is_file():
        return ""
    return (
        f"Data: made from {SOURCE}={config.guidelines.data.source} when the run starts; whether enough problems are "
        "left for the steps is checked then"
    )


def _measurement_findings(config: DictConfig, manifest: Manifest) -> Iterator[Finding]:
    """Yield a finding if the pass rates were measured with another solver, or with other settings of it."""
    if manifest.measured is None:
        return
    solver = config.guidelines.solver
    ours = {
        "model": Path(solver.model).name,
        "temperature": solver.temperature,
        "max_tokens": solver.max_tokens,
        "style": config.guidelines.prompts.style,
        "grader": config.guidelines.grader.name,
        "prompts_version": manifest.prompts_version,
    }
    theirs = {**manifest.measured, "model": Path(manifest.measured["model"]).name}
    differ = [
        f"{name} {theirs.get(name)} there, {value} here" for name, value in ours.items() if theirs.get(name) != value
    ]
    if differ:
        yield warning(
            SOURCE,
            config.guidelines.data.source,
            f"its pass rates were measured with other settings ({'; '.join(differ)}): reward/uplift compares different "
            "solvers",
            "measure them again with python -m guidelines_core.data.pass_rate",
        )

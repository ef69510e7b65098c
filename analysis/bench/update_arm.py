"""One arm of `analysis.bench.update` in a process of its own: verl's worker of actor and reference policy, timed."""

from __future__ import annotations

import json
import os
import statistics
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import DictConfig, OmegaConf

from analysis.bench.update_batch import batch_of, lengths, positions
from guidelines_core.hardware.shapes import Shape, find_shape
from guidelines_core.hardware.timing import PADDING_TOKENS, padded_sequences
from guidelines_core.verl_adapter.local_workers import LocalWorkers, batch_part, flat_log_probs, response_log_probs

PASSES = {"old_log_prob": 1, "ref": 1, "update": 3}
"""Forward passes' worth of FLOPs in a phase; what gradient checkpointing computes twice does not count."""

LONG_S = 3.0
"""A phase is timed three times, or until so many seconds are spent."""

PROFILED_ROWS = 40
"""Operations in each table of a profile."""


def run_arm(
    config: DictConfig,
    workloads: Sequence[str],
    phases: Sequence[str],
    file: Path,
    peak: float,
    profiles: Path | None,
) -> None:
    """Time one arm in this process and write its figures to `file` after each phase.

    Beside `file` it leaves the old log-probs that it computed before its first update, for `compare`. If a folder
    `profiles` is given, each phase runs once more under torch's profiler, whose tables go there.
    """
    found: dict[str, Any] = {}
    try:
        began = now()
        bench = Bench(config, phases)
        found["build_s"] = round(now() - began, 1)
        for workload in workloads:
            found[workload] = {}
            for phase, figures in bench.run(workload, peak, None if found.get("grad_norm") else file.with_suffix("")):
                found[workload][phase] = figures
                file.write_text(json.dumps(found))
                if profiles:
                    (profiles / f"{file.stem}-{workload}-{phase}.txt").write_text(bench.profile(phase))
            found |= {"grad_norm": bench.grad_norm, "loss": bench.loss}
        file.write_text(json.dumps(found))
    except Exception as error:
        traceback.print_exc()
        found["failed"] = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"[:400]
        file.write_text(json.dumps(found))
    sys.stdout.flush()
    sys.stderr.flush()
    # Not through the interpreter's end, which would wait for threads of CUDA's and gloo's.
    os._exit(int("failed" in found))


class Bench:
    """verl's workers of actor and reference policy in this process, and the batches for them."""

    def __init__(self, config: DictConfig, phases: Sequence[str]) -> None:
        # verl writes into its configuration.
        config = config.copy()
        OmegaConf.set_readonly(config, False)
        self.config = config
        self.phases = phases
        shape = find_shape(config.actor_rollout_ref.model.path)
        assert shape is not None
        self.shape: Shape = shape
        self.grad_norm: float | None = None
        self.loss: float | None = None
        self.workers = LocalWorkers(config, ("actor", "ref") if len(phases) > 1 else ("actor",))
        self._again: Callable[[], Any] = lambda: None

    def run(self, workload: str, peak: float, keep: Path | None) -> Any:
        """Yield each phase and its figures; the log-probs before any update go to `keep`."""
        roles = self.config.actor_rollout_ref
        real, padded = padded_sequences(self.config)
        n = roles.rollout.n
        said = lengths(workload, real // n, n, self.config.data.max_response_length)
        rows = [*said, *[(PADDING_TOKENS - 1, 1)] * (padded - real)]
        batch = batch_of(rows, real, self.shape.vocab)
        sizes = [sum(row) for row in rows]
        need = sum(size * self.shape.forward_flops(size) for size in sizes[:real])
        micro = {
            "old_log_prob": roles.rollout.log_prob_micro_batch_size_per_gpu,
            "ref": roles.ref.log_prob_micro_batch_size_per_gpu,
            "update": roles.actor.ppo_micro_batch_size_per_gpu,
        }
        for phase in self.phases:
            reset_peak_memory()
            output, seconds = self._time(phase, batch)
            computed = positions(sizes, micro[phase] or 1, roles.model.use_remove_padding)
            yield (
                phase,
                {
                    "s": round(statistics.median(seconds), 3),
                    "every_s": [round(second, 3) for second in seconds],
                    "mfu": round(PASSES[phase] * need / statistics.median(seconds) / peak, 4),
                    "tokens_per_s": round(sum(sizes[:real]) / statistics.median(seconds)),
                    "padded_share": round(1 - sum(sizes[:real]) / computed, 4),
                    "peak_gib": peak_memory(),
                },
            )
            if phase == "old_log_prob" and keep:
                np.save(keep, flat_log_probs(output, batch, real))
            if phase == "update" and self.grad_norm is None:
                metrics = output["metrics"]
                self.grad_norm, self.loss = (first_of(metrics[name]) for name in ("grad_norm", "loss"))

    def _time(self, phase: str, batch: Any) -> tuple[Any, list[float]]:
        """Run a phase on a small part of the batch first, then on all of it; return the first output and seconds."""
        roles = self.config.actor_rollout_ref
        rows = min(24, len(batch))
        step: Callable[[Any, int], Any] = {
            "old_log_prob": lambda data, _: self.workers.old_log_probs(data),
            "ref": lambda data, _: self.workers.reference_log_probs(data),
            "update": self.workers.update,
        }[phase]
        asked = {"calculate_entropy": phase == "old_log_prob", "compute_loss": False,
                 "temperature": roles.rollout.temperature}  # fmt: skip
        step(batch_part(batch, rows, asked), rows)
        mini_batch = roles.actor.ppo_mini_batch_size * roles.rollout.n
        seconds: list[float] = []
        output: Any = None
        while not seconds or (len(seconds) < 3 and sum(seconds) < LONG_S):
            data = batch_part(batch, len(batch), asked)
            began = now()
            got = step(data, mini_batch)
            seconds.append(now() - began)
            output = output if output is not None else got
        data = batch_part(batch, len(batch), asked)
        self._again = lambda: step(data, mini_batch)
        if phase in ("old_log_prob", "ref"):
            name = {"old_log_prob": "old_log_probs", "ref": "ref_log_prob"}[phase]
            batch[name] = response_log_probs(output, batch)
        return output, seconds

    def profile(self, phase: str) -> str:
        """Run the phase that was timed last once more under torch's profiler; return its seconds and tables.

        The tables have the operations that took most of the device's time and of the host's. The profiler makes the
        host slower, so the seconds are not those of `run`.
        """
        import torch
        from torch.profiler import ProfilerActivity

        cuda = torch.cuda.is_available()
        with torch.profiler.profile(
            activities=[ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if cuda else [])]
        ) as profiler:
            began = now()
            self._again()
            seconds = now() - began
        operations = profiler.key_averages()
        tables = [operations.table(sort_by=key, row_limit=PROFILED_ROWS, max_name_column_width=80)
                  for key in (*(["self_cuda_time_total"] if cuda else []), "self_cpu_time_total")]  # fmt: skip
        return "\n".join([f"{phase}: {seconds:.3f} s under the profiler", *tables])


def measure_peak(file: Path) -> None:
    """Write the FLOP/s of a large bf16 matrix product, the best of five."""
    import torch

    cuda = torch.cuda.is_available()
    size = 8192 if cuda else 512
    left, right = (torch.randn(size, size, device="cuda" if cuda else "cpu", dtype=torch.bfloat16) for _ in range(2))
    seconds = []
    for _ in range(8):
        began = now()
        for _ in range(10 if cuda else 1):
            left @ right
        seconds.append((now() - began) / (10 if cuda else 1))
    file.write_text(json.dumps({"flops": 2 * size**3 / min(seconds[3:])}))


def now() -> float:
    """Return the clock, in seconds, when the device has done all it was given."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


def first_of(values: Any) -> float:
    """Return a metric of the first mini-batch."""
    return float(values[0] if isinstance(values, list) else values)


def reset_peak_memory() -> None:
    """Forget the GPU memory's highest level."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()


def peak_memory() -> float | None:
    """Return the GPU memory's highest level since `reset_peak_memory`, in GiB; a CPU has none."""
    import torch

    return round(torch.cuda.max_memory_allocated() / 2**30, 1) if torch.cuda.is_available() else None

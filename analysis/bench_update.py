"""Seconds of a step's training side alone, on one GPU: old log-probs, reference log-probs and update.

    python analysis/bench_update.py --arms analysis/arms/update.yaml --out FILE [--only a,b] [--time-limit-s 480]

Each arm is a named experiment with overrides, as in `benchmark.py`. Its own process runs verl's worker
(`ActorRolloutRefWorker`) without Ray, on rollouts of random tokens. MFU is the FLOP/s that the real tokens need (2N and
6N, `guidelines_core/shapes.py`) as a share of what a large bf16 matrix product reaches in the same call. The model
must lie on the disk: `python -m guidelines_core.random_qwen`. Exit codes: 0 every arm measured, 1 one failed, 2
refused.
"""

from __future__ import annotations

import argparse
import copy
import json
import multiprocessing
import os
import shlex
import statistics
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
# Without it a look for a GPU makes CUDA unusable in the arms' forked processes.
os.environ.setdefault("PYTORCH_NVML_BASED_CUDA_CHECK", "1")

import numpy as np
import yaml
from benchmark import Arm, config_hash, hardware, read_arms, write
from omegaconf import DictConfig, open_dict
from rich.console import Console
from rich.table import Table

from guidelines_core.config import ConfigError, compose
from guidelines_core.estimate import PADDING_TOKENS, padded_sequences
from guidelines_core.provenance import provenance
from guidelines_core.shapes import Shape, find_shape

PROMPT_TOKENS = (150, 250)
MEDIAN_RESPONSE, SPREAD = 600, 0.9
"""Tokens of every response of the workload `even`, and median and log-normal sigma of the workload `tailed`."""

PASSES = {"old_log_prob": 1, "ref": 1, "update": 3}
"""Forward passes' worth of FLOPs in a phase; what gradient checkpointing computes twice does not count."""

LONG_S = 3.0
"""A phase is timed three times, or until so many seconds are spent."""


def lengths(workload: str, prompts: int, n: int, cap: int, seed: int = 0) -> list[tuple[int, int]]:
    """Return each rollout's tokens, prompt and response; the `n` rollouts of a prompt follow each other."""
    generator = np.random.default_rng(seed)
    asked = np.repeat(generator.integers(*PROMPT_TOKENS, size=prompts, endpoint=True), n)
    if workload == "even":
        said = np.full(prompts * n, MEDIAN_RESPONSE)
    else:
        said = np.minimum(MEDIAN_RESPONSE * generator.lognormal(0, SPREAD, prompts * n), cap).astype(int) + 1
    return [(int(p), min(int(r), cap)) for p, r in zip(asked, said, strict=True)]


def positions(sizes: Sequence[int], micro_batch: int, packed: bool) -> int:
    """Return how many token positions are computed for sequences of `sizes` tokens, padding included."""
    if packed:
        return sum(sizes)
    chunks = [sizes[start : start + micro_batch] for start in range(0, len(sizes), micro_batch)]
    return sum(len(chunk) * max(chunk) for chunk in chunks)


def main() -> int:
    """Run the arms in turn, write the JSON after each, print the table; return the exit code."""
    parser = argparse.ArgumentParser(description="Time the training side of a step on one GPU, without Ray and vLLM.")
    parser.add_argument("--arms", required=True, type=Path, help="a YAML file of analysis/arms/")
    parser.add_argument("--out", required=True, type=Path, help="the JSON; arms that it holds are not run again")
    parser.add_argument("--work", type=Path, help="keep the arms' log-probs here (default: a temporary folder)")
    parser.add_argument("--only", help="these arms, with commas between (default: all)")
    parser.add_argument(
        "--time-limit-s", type=float, default=480, help="no arm goes on for longer (default %(default)s)"
    )
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="for every arm")
    given = parser.parse_args()
    deadline = time.monotonic() + given.time_limit_s
    try:
        arms = [
            arm for arm in read_arms(given.arms, given.overrides) if arm.name in (given.only or arm.name).split(",")
        ]
        configs = {arm.name: compose(arm.experiment, arm.overrides) for arm in arms}
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 2
    written = {arm["name"]: arm for arm in yaml.safe_load(given.arms.read_text(encoding="utf-8"))["arms"]}
    # Before verl is imported, which looks at them once; arms of one file share a device.
    os.environ.update({key: str(value) for key, value in configs[arms[0].name].guidelines.environment.items()})
    result: dict[str, Any] = {
        **hardware(),
        "versions": provenance(),
        "command": shlex.join(["python", "analysis/bench_update.py", *sys.argv[1:]]),
        "arms": json.loads(given.out.read_text())["arms"] if given.out.exists() else [],
    }
    measured = {(entry["name"], entry["config_hash"]) for entry in result["arms"] if "failed" not in entry}
    with tempfile.TemporaryDirectory(prefix="bench-update-") as temporary:
        folder = given.work or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        context: Any = multiprocessing.get_context(start_method(folder))
        result["peak_flops"] = json.loads((folder / "peak.json").read_text())["flops"]
        for arm in arms:
            about = {"name": arm.name, "config_hash": config_hash(arm), "overrides": list(arm.overrides)}
            if (arm.name, about["config_hash"]) in measured:
                continue
            result["arms"] = [entry for entry in result["arms"] if entry["name"] != arm.name]
            file = folder / f"{arm.name}.json"
            file.unlink(missing_ok=True)
            began = time.monotonic()
            entry = written[arm.name]
            process = context.Process(
                target=run_arm,
                args=(configs[arm.name], entry.get("workloads", ["even"]), entry.get("phases", list(PASSES)), file,
                      result["peak_flops"]),
            )  # fmt: skip
            if began < deadline:
                process.start()
                process.join(max(0, deadline - began))
                found = ended(process, file)
            else:
                found = {"failed": "not started: the time limit had passed"}
            result["arms"].append({**about, **found, "whole_s": round(time.monotonic() - began, 1)})
            compare(result["arms"], folder)
            write(given.out, result)
            print(json.dumps(result["arms"][-1]), flush=True)
    Console().print(as_table(result))
    return int(any("failed" in entry for entry in result["arms"]))


def start_method(folder: Path) -> str:
    """Return how to start arms, and leave the peak that a trial process measured in `folder`.

    A fork spares each arm the imports; where it cannot use the GPU, a fresh process does.
    """
    import torch._dynamo  # noqa: F401
    import transformers.models.qwen2.modeling_qwen2  # noqa: F401
    from verl.workers import engine, engine_workers  # noqa: F401

    for method in ("fork", "spawn"):
        context: Any = multiprocessing.get_context(method)
        process = context.Process(target=measure_peak, args=(folder / "peak.json",))
        process.start()
        process.join()
        if process.exitcode == 0:
            return method
    raise SystemExit(f"no process could use the device: exit code {process.exitcode}")


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


def ended(process: Any, file: Path) -> dict[str, Any]:
    """End the arm's process if it still runs and return what it found, with `failed` if it did not find all."""
    running = process.is_alive()
    if running:
        process.kill()
        process.join()
    found: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}
    if running:
        found["failed"] = "the time limit came first"
    elif process.exitcode != 0:
        found.setdefault("failed", f"exit code {process.exitcode}")
    return found


def run_arm(config: DictConfig, workloads: Sequence[str], phases: Sequence[str], file: Path, peak: float) -> None:
    """Time one arm in this process and write its figures to `file` after each phase.

    Beside `file` it leaves the old log-probs that it computed before its first update, for `compare`.
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
        import socket

        from verl.utils.device import set_expandable_segments
        from verl.workers.engine_workers import ActorRolloutRefWorker

        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
        rank = {"RANK": 0, "LOCAL_RANK": 0, "WORLD_SIZE": 1, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        os.environ.update({key: str(value) for key, value in rank.items()})
        self.config = config
        self.phases = phases
        shape = find_shape(config.actor_rollout_ref.model.path)
        assert shape is not None
        self.shape: Shape = shape
        self.grad_norm: float | None = None
        self.loss: float | None = None
        roles = config.actor_rollout_ref
        with open_dict(roles):
            # As verl's trainer does before it makes its workers.
            roles.actor.optim.total_training_steps = config.trainer.total_training_steps
        if config.trainer.device == "cuda":
            import torch

            torch.cuda.set_device(0)
            set_expandable_segments(True)
        self.workers = {}
        for role in ("actor", "ref") if len(phases) > 1 else ("actor",):
            self.workers[role] = ActorRolloutRefWorker(config=copy.deepcopy(roles), role=role)
            self.workers[role].init_model()

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
                np.save(keep, responses_of(output, batch, real))
            if phase == "update" and self.grad_norm is None:
                metrics = output["metrics"]
                self.grad_norm, self.loss = (first_of(metrics[name]) for name in ("grad_norm", "loss"))

    def _time(self, phase: str, batch: Any) -> tuple[Any, list[float]]:
        """Run a phase on a small part of the batch first, then on all of it; return the first output and seconds."""
        roles = self.config.actor_rollout_ref
        rows = min(24, len(batch))
        step: Callable[[Any, int], Any] = {
            "old_log_prob": lambda data, _: self.workers["actor"].compute_log_prob(data),
            "ref": lambda data, _: self.workers["ref"].compute_ref_log_prob(data),
            "update": lambda data, rows: self.workers["actor"].update_actor(self._for_update(data, rows)),
        }[phase]
        asked = {"calculate_entropy": phase == "old_log_prob", "compute_loss": False,
                 "temperature": roles.rollout.temperature}  # fmt: skip
        step(part(batch, rows, asked), rows)
        seconds: list[float] = []
        output: Any = None
        while not seconds or (len(seconds) < 3 and sum(seconds) < LONG_S):
            data = part(batch, len(batch), asked)
            began = now()
            got = step(data, roles.actor.ppo_mini_batch_size * roles.rollout.n)
            seconds.append(now() - began)
            output = output if output is not None else got
        if phase in ("old_log_prob", "ref"):
            from verl.workers.utils.padding import response_from_nested

            name = {"old_log_prob": "old_log_probs", "ref": "ref_log_prob"}[phase]
            batch[name] = response_from_nested(output["log_probs"], batch["response_mask"])
        return output, seconds

    def _for_update(self, data: Any, rows: int) -> Any:
        """Return `data` with what verl's trainer says of an update (`trainer_base.py:1847`)."""
        from verl.utils import tensordict_utils as tu

        actor = self.config.actor_rollout_ref.actor
        tu.assign_non_tensor(
            data, calculate_entropy=actor.calculate_entropy or actor.entropy_coeff != 0, global_batch_size=rows,
            mini_batch_size=rows, epochs=actor.ppo_epochs, seed=actor.data_loader_seed,
            dataloader_kwargs={"shuffle": actor.shuffle}, distillation_use_topk=False, distillation_only=False,
        )  # fmt: skip
        return data


def batch_of(rows: Sequence[tuple[int, int]], real: int, vocab: int) -> Any:
    """Return rollouts of random tokens as verl's trainer hands them to its workers, a row each.

    Args:
        rows: tokens of prompt and response.
        real: rows that are rollouts; those after them only fill up and have an empty mask.
        vocab: size of the vocabulary.
    """
    import torch
    from tensordict import TensorDict

    generator = torch.Generator().manual_seed(0)

    def nested(tensors: list[torch.Tensor]) -> torch.Tensor:
        return torch.nested.as_nested_tensor(tensors, layout=torch.jagged)

    prompts = [torch.randint(vocab, (prompt,), generator=generator) for prompt, _ in rows]
    responses = [torch.randint(vocab, (response,), generator=generator) for _, response in rows]
    masks = [torch.full((response,), int(row < real)) for row, (_, response) in enumerate(rows)]
    advantages = [torch.randn(1, generator=generator).expand(response).clone() for _, response in rows]
    whole = [torch.cat(pair) for pair in zip(prompts, responses, strict=True)]
    return TensorDict(
        {
            "prompts": nested(prompts),
            "responses": nested(responses),
            "input_ids": nested(whole),
            "position_ids": nested([torch.arange(len(tokens)) for tokens in whole]),
            "response_mask": nested(masks),
            "loss_mask": nested(masks),
            "advantages": nested(advantages),
        },
        batch_size=len(rows),
    )


def part(batch: Any, rows: int, asked: dict[str, Any]) -> Any:
    """Return the first rows of the batch, a copy, with what is asked of the worker."""
    from verl.utils import tensordict_utils as tu

    taken = tu.index_select_tensor_dict(batch, list(range(rows)))
    counts = taken["input_ids"].offsets().diff().tolist()
    tu.assign_non_tensor(taken, global_token_num=counts, **asked)
    return taken


def responses_of(output: Any, batch: Any, real: int) -> np.ndarray[Any, Any]:
    """Return the log-probs of the real rows' responses, one after the other."""
    from verl.workers.utils.padding import response_from_nested

    rows = response_from_nested(output["log_probs"], batch["response_mask"]).unbind()[:real]
    return np.concatenate([row.float().numpy() for row in rows])


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


def compare(entries: list[dict[str, Any]], folder: Path) -> None:
    """Add to each arm how far its log-probs are from those of the arms of padded rows and of the arm `fp32`."""
    files = {entry["name"]: folder / f"{entry['name']}.npy" for entry in entries}
    found = {name: np.load(file) for name, file in files.items() if file.exists()}
    for entry in entries:
        for other in ("reference", "padded", "fp32"):
            if entry["name"] != other and entry["name"] in found and other in found:
                far = np.abs(found[entry["name"]] - found[other])
                entry[f"log_probs_off_{other}"] = {"mean": float(far.mean()), "max": float(far.max())}


def as_table(result: dict[str, Any]) -> Table:
    """Return each arm's seconds and MFU by phase, memory, and speed as a multiple of the first arm's."""
    names = [f"{phase} s" for phase in PASSES]
    table = Table("arm", "workload", *names, "sum", "x", "MFU", "padded", "GiB", "off", "grad", "failed",
                  title=f"{result['gpu']}, {result['peak_flops'] / 1e12:.0f} TFLOP/s bf16")  # fmt: skip
    first: dict[str, float] = {}
    for entry in result["arms"]:
        for workload in [name for name in ("even", "tailed") if entry.get(name)] or [""]:
            phases = entry.get(workload, {})
            whole = sum(figures["s"] for figures in phases.values())
            complete = set(phases) == set(PASSES)
            if complete:
                first.setdefault(workload, whole)
            off = next((entry[key]["mean"] for key in entry if key.startswith("log_probs_off_")), None)
            table.add_row(
                entry["name"],
                workload,
                *(f"{phases[name]['s']:.2f}" if name in phases else "" for name in PASSES),
                f"{whole:.2f}" if complete else "",
                f"{first[workload] / whole:.2f}" if complete else "",
                " ".join(f"{phases[name]['mfu']:.0%}" for name in PASSES if name in phases),
                f"{phases['update']['padded_share']:.0%}" if "update" in phases else "",
                f"{max(figures['peak_gib'] or 0 for figures in phases.values()):.0f}" if phases else "",
                "" if off is None else f"{off:.1e}",
                f"{entry['grad_norm']:.3g}" if entry.get("grad_norm") else "",
                entry.get("failed", "")[:60],
            )
    return table


__all__ = ["Arm", "lengths", "positions"]

if __name__ == "__main__":
    sys.exit(main())

